"""A completion is its text, and keeps its length where a reward needs it."""

import pickle

import pytest

from r1jax.rewards.example import BatchReward, ByPart, Completion, Example, reward_for, rewards_in


def test_a_completion_is_a_text_with_a_length():
    completion = Completion("<think>r</think>4", length=5, truncated=True)
    assert completion == "<think>r</think>4" and (completion.length, completion.truncated) == (5, True)
    assert type(completion[1:]) is str and len(completion) == 17


def test_examples_are_equal_by_value():
    assert Example("2+2", "4") == Example("2+2", "4", None, {}, False, "", False, 0)
    assert pickle.loads(pickle.dumps(Example("q", "a", data={"x": 1}))) == Example("q", "a", data={"x": 1})


def test_a_batch_reward_is_what_has_batch_and_can_be_called():
    class Model:
        def batch(self, examples, completions):
            return [1.0] * len(completions)

        def __call__(self, example, completion):
            return 1.0

    assert isinstance(Model(), BatchReward) and not isinstance(lambda example, completion: 1.0, BatchReward)


def test_a_mixture_chooses_by_the_part():
    one, two = (lambda example, completion: 1.0), (lambda example, completion: 2.0)
    mixed = ByPart([one, two])
    second = Example("q", "a", part=1)
    assert mixed(Example("q", "a"), "") == 1.0 and mixed(second, "") == 2.0
    assert reward_for(mixed, second) is two and reward_for(one, second) is one
    assert reward_for(ByPart([one, None]), second) is None
    with pytest.raises(ValueError, match="part 1 of the mixture has no reward of this name"):
        ByPart([one, None])(second, "")
    assert [*rewards_in(mixed)] == [one, two] and [*rewards_in(one)] == [one]
