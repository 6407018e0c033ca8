"""Rewards as a config names them: each is what it should be, and what cannot be is refused with its name."""

import json

import pytest

from r1jax.config.load import load_config
from r1jax.rewards.example import Completion, Example
from r1jax.tasks import make_task

ROWS = [{"question": f"q{i}", "answer": str(i), "tests": [{"input": f"{i}", "output": f"{2 * i}"}]} for i in range(40)]
PROGRAM = "<think>r</think>```python\nprint(2 * int(input()))\n```"


@pytest.fixture
def load(tiny_file):
    data = tiny_file.parent / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    (tiny_file.parent / "mine.py").write_text("def f(example, completion): return float(len(completion))")

    def load(rewards, columns="[tests]", task=None):
        text = tiny_file.read_text()
        task = task or f"{{jsonl: {data}, columns: {columns}}}"
        text = "\n".join(f"task: {task}" if line.startswith("task:") else line for line in text.splitlines())
        tiny_file.write_text(text)
        config = load_config(tiny_file, [f"rewards={rewards}".replace("HERE", str(tiny_file.parent))])
        return make_task(config.task, 0, rewards=config.rewards, max_completion_length=config.max_completion_length)

    return load


@pytest.mark.parametrize(
    ("settings", "text", "verdict"),
    [
        ("{name: math}", "<answer>3.0</answer>", 1.0),
        ("{name: exact}", "<answer>3.0</answer>", 0.0),
        ("{name: exact, ignore_case: true}", "<answer> 3</answer>", 1.0),
        ("{name: regex, pattern: '\\d'}", "<answer>7</answer>", 1.0),
        ("{name: regex, pattern: '\\d', where: completion}", "a7b", 1.0),
        ("{name: code}", PROGRAM, 1.0),
        ("{name: code, sandbox: unsafe, fraction: true}", PROGRAM.replace("2 *", "3 *"), (0.0, "wrong_output")),
        ("{name: format}", "<think>r</think><answer></answer>", (0.0, "empty_answer")),
        ("{name: format, allow_empty: true}", "<think>r</think><answer></answer>", 1.0),
        ("{name: format, form: think_text}", "<think>r</think>text", 1.0),
        ("{name: language, language: zh}", "<think>先把两个数相加</think>", 1.0),
        ("{name: overlong, cache: 16}", "", -0.5),  # 24 tokens of 32
        ("{name: repetition, n: 1, max_penalty: -0.5}", "a a", -0.25),
        ("{name: cosine}", "<answer>3</answer>", pytest.approx(0.5 + 0.25 * (1 - 0.5**0.5))),
        ("{function: 'HERE/mine.py:f'}", "four", 4.0),
    ],
)
def test_each_kind(settings, text, verdict, load):
    reward = load(f"{{r: {settings}}}").rewards["r"]
    example = Example("q3", "3", data={"tests": ROWS[3]["tests"]})
    assert reward(example, Completion(text, length=24, truncated=False)) == verdict


def test_golds_that_the_accuracy_cannot_compare_are_refused(load):
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: the gold answer '0' is not a choice"):
        load("{accuracy: {name: choice}}")


def test_parts_of_a_mixture_have_their_own(load, tmp_path):
    rows = f"{{jsonl: {tmp_path}/rows.jsonl, columns: [tests]}}"
    part = f"{{weight: 1, task: {rows}, rewards: {{accuracy: {{name: code}}}}}}"
    task = load(
        "{length: {name: overlong, cache: 4}}", task=f"{{mixture: [{part}, {{weight: 1, task: {{name: arithmetic}}}}]}}"
    )
    assert list(task.rewards) == ["accuracy", "format", "length"]
    code, sums = (Example("q", "6", data={"tests": ROWS[3]["tests"]}, part=part) for part in (0, 1))
    assert task.rewards["accuracy"](code, PROGRAM) == 1.0
    assert task.rewards["accuracy"](sums, "<think>r</think><answer>6</answer>") == 1.0
    with pytest.raises(ValueError, match=r"task\.mixture: reward 'mine' is of one part alone"):
        alone = part.replace("accuracy: {name: code}", "mine: {name: code}")
        load("{}", task=f"{{mixture: [{alone}, {{weight: 1, task: {{name: arithmetic}}}}]}}")


@pytest.mark.parametrize(
    ("rewards", "columns", "message"),
    [
        ("{r: {name: code}}", "[]", r"rewards\.r: it needs column 'tests'; add it to task\.columns"),
        ("{r: {name: code, tests: answer}}", "[answer]", r"rows\.jsonl:1: column 'answer'"),
        ("{r: {name: regex, pattern: '('}}", "[]", r"rewards\.r: the pattern '\(' is no regular expression"),
        ("{r: {name: language, language: xx}}", "[]", r"rewards\.r: language 'xx' is not known"),
        ("{r: {name: overlong, cache: 33}}", "[]", r"rewards\.r: its cache 33 is above max_completion_length 32"),
        ("{r: {function: 'HERE/mine.py:g'}}", "[]", r"rewards\.r: .*mine\.py has no function 'g'"),
        ("{r: {name: maths}}", "[]", r"rewards\.r"),
        ("{r: {name: repetition, max_penalty: 1.0}}", "[]", r"rewards\.r.*max_penalty"),
        ("{}", "[absent]", r"rows\.jsonl:1: no column 'absent'; there are question, answer, tests"),
    ],
)
def test_refused_by_name(rewards, columns, message, load):
    with pytest.raises(ValueError, match=message):
        load(rewards, columns)
