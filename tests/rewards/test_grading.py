"""Grading a batch: order, reasons, and failures that affect no other completion."""

import functools
import threading
import time

import numpy as np
import pytest
from cpu_time import cpu_limit

from r1jax.rewards import accuracy, grading, text_match
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.choice import letter
from r1jax.rewards.code import extract_program
from r1jax.rewards.example import MAX_CHARACTERS, BatchReward, ByPart, Example
from r1jax.rewards.format import think_answer, think_text
from r1jax.rewards.grading import grade, reason_shares, reward_shares
from r1jax.rewards.language import consistency
from r1jax.rewards.shaping import repetition

EXAMPLES = [Example("p", "a", prompt="p"), Example("q", "b", prompt="q")]


def test_scores_and_reasons_by_row():
    grades = grade(EXAMPLES, ["a", "b", "a", "b"], {"r": lambda e, t: 1.0 if t == e.answer else (0.0, "wrong")})
    assert grades.scores["r"].dtype == np.float32 and grades.scores["r"].tolist() == [1, 0, 0, 1]
    assert grades.reasons["r"] == ["", "wrong", "wrong", ""]
    assert reason_shares(grades) == {"rewards/r/wrong": 0.5}
    assert set(grades.times()) == {"time/rewards/r"}


def test_one_failure_touches_no_other_sample():
    def reward(example, text):
        if text == "none":
            return None
        return 1.0 / len(text)

    with pytest.warns(UserWarning, match="reward r failed on 'p'.*ZeroDivisionError"):
        grades = grade(EXAMPLES, ["x", "", "none", "xx"], {"r": reward})
    np.testing.assert_array_equal(grades.scores["r"], np.array([1.0, np.nan, np.nan, 0.5], np.float32))
    assert grades.reasons["r"] == ["", "error", "", ""]


def test_a_failure_without_a_prompt_names_none():
    with pytest.warns(UserWarning, match="^reward r failed: ZeroDivisionError"):
        grade([Example("q", "a")], ["x"], {"r": lambda e, t: 1 / 0})


def test_slow_calls_run_in_parallel(monkeypatch):
    monkeypatch.setattr(grading, "THREADS", 8)
    together = threading.Barrier(8, timeout=60)

    def reward(example, text):
        together.wait()  # fails where it is not called from 8 threads at once
        time.sleep(0.05)
        return 1.0

    grades = grade(EXAMPLES, ["x"] * 16, {"r": reward})
    assert grades.scores["r"].tolist() == [1.0] * 16 and grades.seconds["r"].min() >= 0.04


def test_a_text_that_is_too_long_scores_0():
    grades = grade(EXAMPLES[:1], ["a", "a" * (MAX_CHARACTERS + 1)], {"r": lambda e, t: 1.0})
    assert grades.scores["r"].tolist() == [1, 0] and grades.reasons["r"] == ["", "too_long"]


class Lengths(BatchReward):
    """Scores a text by its length, and notes the calls."""

    def __init__(self, result=lambda example, text: float(len(text))):
        self.calls, self.result = [], result

    def batch(self, examples, completions):
        self.calls.append((list(examples), list(completions)))
        return [self.result(example, text) for example, text in zip(examples, completions, strict=True)]


def test_a_batch_reward_is_called_once_for_all_texts():
    reward = Lengths()
    grades = grade(EXAMPLES, ["a", "bb", "ccc", ""], {"r": reward, "s": lambda e, t: 0.5})
    assert reward.calls == [([EXAMPLES[0]] * 2 + [EXAMPLES[1]] * 2, ["a", "bb", "ccc", ""])]
    assert grades.scores["r"].tolist() == [1, 2, 3, 0] and grades.scores["s"].tolist() == [0.5] * 4
    assert reward(EXAMPLES[0], "four") == 4.0


def test_a_batch_that_fails_gives_none_for_its_texts_and_one_warning():
    def fail(example, text):
        raise RuntimeError("out of memory")

    with pytest.warns(UserWarning, match="^reward r failed: RuntimeError.*out of memory") as warned:
        grades = grade(EXAMPLES, ["a", "b"], {"r": Lengths(fail), "s": Lengths()})
    assert len(warned) == 1 and np.isnan(grades.scores["r"]).all() and grades.reasons["r"] == ["error"] * 2
    assert grades.scores["s"].tolist() == [1, 1] and grades.reasons["s"] == ["", ""]


def test_a_batch_of_the_wrong_length_is_a_failure():
    class Short(BatchReward):
        def batch(self, examples, completions):
            return [1.0] * (len(completions) - 1)

    with pytest.warns(UserWarning, match="reward r failed"):
        grades = grade(EXAMPLES, ["a", "b"], {"r": Short()})
    assert np.isnan(grades.scores["r"]).all() and grades.reasons["r"] == ["error"] * 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_score_that_is_not_finite_is_none_for_its_text_alone(value):
    def result(example, text):
        return value if text == "x" else (1.0, "fine")

    for reward in (result, Lengths(result)):
        grades = grade(EXAMPLES, ["x", "y"], {"r": reward})
        np.testing.assert_array_equal(grades.scores["r"], [np.nan, 1.0])
        assert grades.reasons["r"] == ["" if value is None else "not_finite", "fine"]


def test_a_batch_reward_gets_no_text_that_is_too_long():
    reward = Lengths()
    grades = grade(EXAMPLES, ["a" * (MAX_CHARACTERS + 1), "b"], {"r": reward})
    assert reward.calls == [([EXAMPLES[1]], ["b"])]
    assert grades.scores["r"].tolist() == [0, 1] and grades.reasons["r"] == ["too_long", ""]


def test_in_a_mixture_each_batch_reward_gets_the_texts_of_its_parts():
    """Parts 0 and 2 share a reward, part 1 has one that scores single texts, and part 3 has no example here."""
    shared, absent = Lengths(), Lengths()
    mixed = ByPart([shared, lambda e, t: -1.0, shared, absent])
    examples = [Example("q", "a", part=part) for part in (2, 1, 0)]
    grades = grade(examples, ["a", "bb", "c", "d", "eee", "f"], {"r": mixed})
    assert grades.scores["r"].tolist() == [1, 2, -1, -1, 3, 1]
    assert shared.calls == [([examples[0]] * 2 + [examples[2]] * 2, ["a", "bb", "eee", "f"])]
    assert absent.calls == [([], [])]  # on another process it may have some


def test_a_reward_that_a_part_lacks_is_not_called_and_counts_nowhere():
    """The completion that it does not apply to is told apart from those that it could not score."""
    rewards = {"r": ByPart([lambda e, t: (None, "timeout") if t == "x" else (1.0, "fine"), None])}
    rewards |= {"b": ByPart([Lengths(), None]), "all": lambda e, t: 0.5}
    examples = [Example("q", "a", part=part) for part in (0, 1)]
    grades = grade(examples, ["x", "y", "zz", "zz"], rewards)
    np.testing.assert_array_equal(grades.scores["r"], [np.nan, 1, np.nan, np.nan])
    np.testing.assert_array_equal(grades.scores["b"], [1, 1, np.nan, np.nan])
    assert grades.applies["r"].tolist() == grades.applies["b"].tolist() == [True, True, False, False]
    assert grades.applies["all"].all() and grades.reasons["r"] == ["timeout", "fine", "", ""]
    assert reason_shares(grades) == {"rewards/r/fine": 0.5, "rewards/r/timeout": 0.5}
    assert reward_shares(grades, rewards) == {"rewards/r/share": 0.5, "rewards/b/share": 0.5}
    grades.seconds["r"][:] = [1, 3, 0, 0]
    assert grades.times()["time/rewards/r"] == 2


def test_batch_rewards_run_one_after_the_other_in_the_thread_that_grades_beside_the_others():
    order, started = [], threading.Event()

    class InOrder(Lengths):
        def batch(self, examples, completions):
            assert threading.current_thread() is threading.main_thread() and started.wait(60)
            order.append(self)
            return super().batch(examples, completions)

    def single(example, text):
        started.set()
        return 1.0

    one, two = InOrder(), InOrder()
    grade(EXAMPLES, ["a", "b"], {"one": one, "single": single, "two": two})
    assert order == [one, two]


LENGTH = 40_000  # where quadratic time is 100 times that of a text of ordinary length, or more
PUMPED = [
    "5. The minimum number of points the class needs to reach is 400 ", "the class needs ", "1/2 cup of sugar, ",
    "answer: . ", "The answer is B, ", "so, ", "A or ", "B is correct. ", "1=", "1 ", "1,", "½", "\\alpha : ",
    "(\\alpha , ", "\\(a\nb\\)\\)", "$x$. ", "\\frac{", "\\text{", "{", "((", "! ", "!", ". ", "\n", " ", "`",
    "```python\n", "</s>", "<answer>", "\\boxed{", "αa", "先。", "e\u0301", "\u0301\u0316", "ﷺ", "aa bb cc dd ee. ",
]  # fmt: skip


def test_no_reward_is_slow_on_long_texts(monkeypatch):
    class Workers:
        def call(self, *arguments):
            return False

    for module, name in ((accuracy, "_workers"), (text_match, "_pool")):  # what they run has a time limit
        monkeypatch.setattr(module, name, Workers)
    rewards = {
        "number": math_answer,
        "set": lambda example, said: math_answer(Example("", r"\{1,2\}"), said),
        "choice": lambda example, said: letter(Example("", "B", data={"choices": ["red", "blue"]}), said),
        "format": think_answer,
        "text": think_text,
        "language": functools.partial(consistency, language="zh"),
        "repetition": functools.partial(repetition, n=3),
        "exact": text_match.exact,
        "regex": functools.partial(text_match.pattern, pattern="x"),
        "code": lambda example, said: float(extract_program(said) is not None),
    }
    pumped = [piece * (LENGTH // len(piece)) for piece in PUMPED]
    texts = [f"<think>{said}</think>{said[: LENGTH // 2]}!" for said in pumped]
    for name, reward in rewards.items():
        for piece, said in zip(PUMPED, texts, strict=True):
            with cpu_limit(1.5, f"{name} of {piece!r}"):
                reward(Example("", "72"), said)
