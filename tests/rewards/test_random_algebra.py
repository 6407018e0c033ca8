"""Algebra as people write it, through every form of completion: the right score for equal answers and near misses."""

import pytest
from random_algebra import FAMILIES, WRAPPERS, completion, pairs

from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.example import Example

PAIRS = 176  # of each family 16, half of them equal, a quarter of them in plain text


@pytest.mark.slow
def test_no_false_accept_and_no_false_reject():
    drawn = list(pairs(PAIRS, seed=1))
    assert {pair.wrapper for pair in drawn} == set(WRAPPERS)
    assert {pair.family for pair in drawn} == {family.__name__ for family in FAMILIES}
    scores = [math_answer(Example("", pair.gold), completion(pair)) for pair in drawn]
    wrong = [(score, pair) for score, pair in zip(scores, drawn, strict=True) if score != float(pair.equal)]
    assert [pair for _, pair in wrong if not pair.equal] == []
    assert wrong == []
