"""A completion is its text, and keeps its length where a reward needs it."""

import pickle

from r1jax.rewards.example import Completion, Example


def test_a_completion_is_a_text_with_a_length():
    completion = Completion("<think>r</think>4", length=5, truncated=True)
    assert completion == "<think>r</think>4" and (completion.length, completion.truncated) == (5, True)
    assert type(completion[1:]) is str and len(completion) == 17


def test_examples_are_equal_by_value():
    assert Example("2+2", "4") == Example("2+2", "4", None, {}, "", False, 0)
    assert pickle.loads(pickle.dumps(Example("q", "a", data={"x": 1}))) == Example("q", "a", data={"x": 1})
