"""Estimators against counting, votes with ties and silence."""

import itertools

import numpy as np
import pytest

from r1jax.rl.evaluation import MAX_PROVED, consensus, pass_at_k


@pytest.mark.parametrize("n, right, k, expected", [(4, 1, 4, 1.0), (4, 1, 2, 0.5), (5, 2, 2, 0.7), (16, 0, 8, 0.0)])
def test_pass_at_k_known_values(n, right, k, expected):
    assert pass_at_k(n, right, k) == pytest.approx(expected)


def test_pass_at_k_counts_subsets():
    for n, right, k in itertools.product((3, 5, 6), (0, 1, 3), (1, 2, 3)):
        draws = itertools.combinations([i < right for i in range(n)], k)
        assert pass_at_k(n, right, k) == pytest.approx(np.mean([any(d) for d in draws]))


def test_consensus():
    assert consensus(["72", "72.0", "144/2", "9", "9"], [True, True, True, False, False]) == 1.0
    assert consensus(["7", "7", "1", "2"], [True, True, False, False]) == 1.0
    assert consensus([None, None, None, "7", "7"], [False, False, False, True, True]) == 1.0
    assert consensus([None, None], [False, False]) == 0.0
    assert consensus(["1", "2"], [True, False]) == 0.5  # a tie is shared
    assert consensus(["x", "x", "y"], [False, False, True]) == 0.0


@pytest.mark.parametrize(
    "same", [[r"2\sqrt{2}", r"\sqrt{8}", r"2 \sqrt 2"], ["B", "(B)", "B."], ["1/2", "0.5", r"\frac12"]]
)
def test_equivalent_answers_share_a_vote(same):
    other = [r"3\sqrt{5}"] * 2
    assert consensus([*same, *other], [False, False, False, True, True]) == 0.0
    assert consensus([*same, *other], [True, True, True, False, False]) == 1.0
    assert consensus([*same[:2], *other], [False, False, True, True]) == 0.5


def test_many_different_answers_are_counted_without_much_algebra(monkeypatch):
    calls = []
    monkeypatch.setattr("r1jax.rl.evaluation.grade_answer", lambda *pair: calls.append(pair) or 0.0)
    wrong = [rf"{i}\sqrt{{2}}" for i in range(60)]
    assert consensus(["x", "x", *wrong], [True, True, *[False] * 60]) == 1.0
    assert len(calls) <= MAX_PROVED**2
