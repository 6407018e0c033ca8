"""Rewards made from a config: each is the right function, and settings that cannot work are refused by name."""

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

    def load(rewards, columns="[tests]"):
        text = tiny_file.read_text()
        task = f"task: {{jsonl: {data}, columns: {columns}}}"
        text = "\n".join(task if line.startswith("task:") else line for line in text.splitlines())
        tiny_file.write_text(text)
        config = load_config(tiny_file, [f"rewards={rewards}".replace("HERE", str(tiny_file.parent))])
        return make_task(
            config.task, 0, rewards=config.reward_definitions, max_completion_length=config.max_completion_length
        )

    return load


@pytest.mark.parametrize(
    ("settings", "text", "result"),
    [
        ("{name: math}", "<answer>3.0</answer>", 1.0),
        ("{name: exact}", "<answer>3.0</answer>", 0.0),
        ("{name: exact, weight: 0.5}", "<answer> 3</answer>", 1.0),  # weights are applied to the sum
        ("{name: regex, pattern: '\\d'}", "<answer>7</answer>", 1.0),
        ("{name: code}", PROGRAM, 1.0),
        ("{name: code, sandbox: unsafe, fraction: true}", PROGRAM.replace("2 *", "3 *"), (0.0, "wrong_output")),
        ("{name: format}", "<think>r</think><answer></answer>", (0.0, "empty_answer")),
        ("{name: format, style: think_text}", "<think>r</think>text", 1.0),
        ("{name: language, language: zh}", "<think>先把两个数相加</think>", 1.0),
        ("{name: overlong, cache: 16}", "", -0.5),  # 24 tokens of 32
        ("{name: repetition}", "a a a a", -0.5),
        ("{name: cosine}", "<answer>3</answer>", pytest.approx(0.5 + 0.25 * (1 - 0.5**0.5))),
        ("{function: 'HERE/mine.py:f'}", "four", 4.0),
        ("{function: 'mine.py:f'}", "four", 4.0),  # beside the config
    ],
)
def test_each_kind(settings, text, result, load):
    reward = load(f"{{r: {settings}}}").rewards["r"]
    example = Example("q3", "3", data={"tests": ROWS[3]["tests"]})
    assert reward(example, Completion(text, length=24, truncated=False)) == result


@pytest.mark.parametrize(
    ("rewards", "columns", "message"),
    [
        ("{r: {name: code}}", "[]", r"rewards\.r: it needs column 'tests'; add it to task\.columns"),
        ("{r: {name: regex, pattern: '('}}", "[]", r"rewards\.r: the pattern '\(' is not a regular expression"),
        ("{r: {name: language, language: xx}}", "[]", r"rewards\.r: language 'xx' is not known"),
        ("{r: {name: overlong, cache: 33}}", "[]", r"rewards\.r: its cache 33 is above max_completion_length 32"),
        ("{r: {function: 'HERE/mine.py:g'}}", "[]", r"rewards\.r: .*mine\.py has no function 'g'"),
        ("{r: {name: maths}}", "[]", r"rewards\.r"),
        ("{}", "[absent]", r"rows\.jsonl:1: no column 'absent'; there are question, answer, tests"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(rewards, columns, message, load):
    with pytest.raises(ValueError, match=message):
        load(rewards, columns)


def test_tests_that_cannot_be_parsed_are_refused_by_row(load, tiny_file):
    rows = tiny_file.parent / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row | {"tests": row["answer"]}) for row in ROWS))
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: column 'tests'"):
        load("{r: {name: code}}")
