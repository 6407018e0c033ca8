"""Grading of a batch: order, reasons, failures that stay with their own sample, parts put together."""

import time

import numpy as np
import pytest

from r1jax.rewards.example import Example
from r1jax.rewards.grading import grade, joined, reason_shares

EXAMPLES = [Example("p", "a", prompt="p"), Example("q", "b", prompt="q")]


def test_scores_and_reasons_by_row():
    grades = grade(EXAMPLES, ["a", "b", "a", "b"], {"r": lambda e, t: 1.0 if t == e.answer else (0.0, "wrong")})
    assert grades.scores["r"].dtype == np.float32 and grades.scores["r"].tolist() == [1, 0, 0, 1]
    assert grades.reasons["r"] == ["", "wrong", "wrong", ""]
    assert reason_shares(grades.reasons) == {"rewards/r/wrong": 0.5}
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


def test_slow_ones_wait_side_by_side():
    start = time.monotonic()
    grades = grade(EXAMPLES, ["x"] * 16, {"r": lambda e, t: time.sleep(0.2) or 1.0})
    assert time.monotonic() - start < 1.6 and grades.seconds["r"].min() >= 0.19


def test_parts_come_together_in_order():
    rewards = {"r": lambda e, t: (float(t), t)}
    first, second = (grade(EXAMPLES, texts, rewards) for texts in (["0", "1", "4", "5"], ["2", "3", "6", "7"]))
    whole = joined([(np.array([0, 1, 4, 5]), first), (np.array([2, 3, 6, 7]), second)])
    assert whole.scores["r"].tolist() == list(range(8)) and whole.reasons["r"] == [str(i) for i in range(8)]
    assert len(whole.seconds["r"]) == 8


def test_no_text_is_too_long_to_grade():
    grades = grade(EXAMPLES[:1], ["a", "a" * 1_000_001], {"r": lambda e, t: 1.0})
    assert grades.scores["r"].tolist() == [1, 0] and grades.reasons["r"] == ["", "too_long"]
