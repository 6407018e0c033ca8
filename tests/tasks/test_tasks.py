"""`make_task`: tasks of settings and of rows in Python, with rewards of settings and of Python functions."""

import json

import pytest

from r1jax.config.rewards import ChoiceReward, CodeReward, CosineReward, ExactReward, FormatReward, OverlongReward
from r1jax.config.tasks import ArithmeticTask, JsonlTask, MixturePart, MixtureTask
from r1jax.rewards.accuracy import no_gold
from r1jax.rewards.example import BatchReward, Completion, Example, reward_for
from r1jax.rewards.grading import grade
from r1jax.tasks import make_task

SUMS = ArithmeticTask(name="arithmetic")
ROWS = [{"question": f"q{i}", "answer": i, "tests": [{"input": f"{i}", "output": f"{2 * i}"}]} for i in range(40)]
PROGRAM = "<think>r</think>```python\nprint(2 * int(input()))\n```"


def test_gold_answers_that_the_accuracy_cannot_compare_are_refused():
    with pytest.raises(ValueError, match=r"data, row 1: the gold answer '0' is not a choice"):
        make_task(ROWS, 0, rewards={"accuracy": ChoiceReward(name="choice")})


def test_parts_of_a_mixture_have_rewards_of_their_own(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    rows = JsonlTask(jsonl=str(tmp_path / "rows.jsonl"))

    def mixture(**rewards):
        return MixtureTask(
            mixture=[MixturePart(weight=1.0, task=rows, rewards=rewards), MixturePart(weight=1.0, task=SUMS)]
        )

    length = {"length": OverlongReward(name="overlong", cache=4)}
    task = make_task(
        mixture(format=FormatReward(name="format", style="think_text")), 0, rewards=length, max_completion_length=9
    )
    assert list(task.rewards) == ["accuracy", "format", "length"]
    table, sums = (Example("q", "6", part=part) for part in (0, 1))
    assert task.rewards["format"](table, "<think>r</think>6") == 1.0
    assert task.rewards["format"](sums, "<think>r</think>6") == (0.0, "missing_answer")
    assert task.rewards["accuracy"](sums, "<think>r</think><answer>6</answer>") == 1.0
    task = make_task(mixture(mine=FormatReward(name="format"), accuracy=None, absent=None), 0)
    assert list(task.rewards) == ["format", "mine", "accuracy"]
    assert [reward_for(task.rewards["accuracy"], e) is None for e in (table, sums)] == [True, False]
    assert [reward_for(task.rewards["mine"], e) is None for e in (table, sums)] == [False, True]
    with pytest.raises(ValueError, match=r"rewards\.cosine: it needs a reward named accuracy"):
        make_task(mixture(accuracy=None), 0, rewards={"cosine": CosineReward(name="cosine")})
    make_task(mixture(accuracy=None, cosine=None), 0, rewards={"cosine": CosineReward(name="cosine")})


def test_a_task_without_gold_answers_has_no_reward_that_compares_with_them(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"question": row["question"]}) for row in ROWS))
    rows = JsonlTask(jsonl=str(tmp_path / "rows.jsonl"), answer=None)
    task = make_task(rows, 0, rewards={"same": ExactReward(name="exact"), "mine": lambda e, c: 1.0})
    assert task.rewards["accuracy"] is no_gold and task.rewards["same"] is no_gold
    assert task.rewards["mine"](task.example("train", 0), "6") == 1.0
    part = MixturePart(
        weight=1.0, task=rows, rewards={"accuracy": None, "length": OverlongReward(name="overlong", cache=4)}
    )
    mixture = MixtureTask(mixture=[part, MixturePart(weight=1.0, task=SUMS)])
    task = make_task(mixture, 0, max_completion_length=9)
    assert task.parts[0].example("train", 0).answer == "" and set(task.parts[0].rewards) == {"format", "length"}


def test_a_part_of_a_mixture_may_grade_programs(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    rows = JsonlTask(jsonl=str(tmp_path / "rows.jsonl"), columns=["tests"])
    parts = [
        MixturePart(weight=1.0, task=rows, rewards={"accuracy": CodeReward(name="code")}),
        MixturePart(weight=1.0, task=SUMS),
    ]
    task = make_task(MixtureTask(mixture=parts), 0)
    code, sums = (Example("q", "6", data={"tests": ROWS[3]["tests"]}, part=part) for part in (0, 1))
    assert task.rewards["accuracy"](code, PROGRAM) == 1.0
    assert task.rewards["accuracy"](sums, "<think>r</think><answer>6</answer>") == 1.0


def test_python_functions_are_rewards_beside_those_of_settings():
    rewards = {
        "short": lambda example, completion: -len(completion),
        "cosine": CosineReward(name="cosine"),
        "trl": lambda completions, tests, **columns: [float(len(tests[0]))],
        "accuracy": lambda example, completion: float(example.answer in completion),
    }
    task = make_task(ROWS, 0, rewards=rewards, max_completion_length=10)
    texts = [Completion(text, length=10, truncated=False) for text in ("7", "12345")]
    grades = grade([task.example("train", 0)], texts, task.rewards)
    answer = task.example("train", 0).answer
    assert grades.scores["short"].tolist() == [-1, -5] and grades.scores["trl"].tolist() == [1, 1]
    assert grades.scores["accuracy"].tolist() == [float(answer in text) for text in texts]
    assert grades.scores["cosine"].tolist() == [0.5 if answer in text else -0.5 for text in texts]


def test_a_python_function_that_cannot_be_called_is_refused_by_name():
    with pytest.raises(ValueError, match=r"rewards\.mine: the reward <lambda> takes \(completion\); it has to take"):
        make_task(ROWS, 0, rewards={"mine": lambda completion: 1.0})
    with pytest.raises(ValueError, match=r"rewards\.mine: the reward <lambda> needs 'level'; available are answer"):
        make_task(ROWS, 0, rewards={"mine": lambda completions, level: [1.0]})


def test_python_functions_grade_every_part_of_a_mixture():
    mixture = MixtureTask(mixture=[MixturePart(weight=1.0, task=SUMS), MixturePart(weight=1.0, task=SUMS)])
    task = make_task(mixture, 0, rewards={"short": lambda example, completion: -len(completion)})
    assert [task.rewards["short"](Example("", "", part=part), "abc") for part in (0, 1)] == [-3, -3]


def test_a_batch_reward_scores_the_parts_of_a_mixture_in_one_call():
    class Lengths(BatchReward):
        calls = 0

        def batch(self, examples, completions):
            self.calls += 1
            return [-len(text) for text in completions]

    lengths = Lengths()
    task = make_task(MixtureTask(mixture=[MixturePart(weight=1.0, task=SUMS)] * 2), 0, rewards={"short": lengths})
    examples = [Example("q", "6", part=part) for part in (0, 1)]
    grades = grade(examples, ["a", "bb"], task.rewards)
    assert grades.scores["short"].tolist() == [-1, -2] and lengths.calls == 1
