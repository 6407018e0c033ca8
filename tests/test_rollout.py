"""From samples to advantages: texts end at the stop, None leaves everything, one failure touches no other sample."""

import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.rewards.example import Example
from r1jax.rollout import assemble, completion_texts, grade
from r1jax.sampler import Samples
from r1jax.tokenizer import CharacterTokenizer


def samples():
    return Samples(
        completion_BT=np.array([[2, 3, 1, 0], [1, 0, 0, 0], [3, 3, 2, 2], [2, 2, 2, 1]]),
        length_B=np.array([3, 1, 4, 4]),
        logp_BT=np.zeros((4, 4), np.float32),
        truncated_B=np.array([False, False, True, False]),
    )


def test_texts_end_before_the_stop_token():
    assert completion_texts(samples(), CharacterTokenizer("ab")) == ["ab", "", "bbaa", "aaa"]


def test_one_failure_touches_no_other_sample():
    def reward(example, text):
        if text == "none":
            return None
        return 1.0 / len(text)

    with pytest.warns(UserWarning, match="reward r failed on 'p'.*ZeroDivisionError"):
        graded = grade([Example("p", "a", prompt="p"), Example("q", "b")], ["x", "", "none", "xx"], {"r": reward})
    np.testing.assert_array_equal(graded["r"], np.array([1.0, np.nan, np.nan, 0.5], np.float32))


def test_assemble():
    rewards = {"a": jnp.array([1.0, 0.0, 1.0, jnp.nan]), "b": jnp.array([0.5, 0.5, 0.0, 1.0])}
    rollout, metrics = assemble(
        jnp.array([[5, 6], [7, 0]]),
        jnp.array([2, 1]),
        samples(),
        rewards,
        weights=(("a", 1.0), ("b", 2.0)),
        group_size=2,
    )
    assert rollout.completions.prompt_BS.tolist() == [[5, 6], [5, 6], [7, 0], [7, 0]]
    assert rollout.graded_B.tolist() == [True, True, True, False]
    np.testing.assert_allclose(rollout.advantage_B, [0.7070, -0.7070, 0, 0], atol=1e-3)
    expected = {
        "reward": 4 / 3,
        "rewards/a/mean": 2 / 3,
        "rewards/b/mean": 0.5,
        "frac_reward_zero_std": 0.5,
        "frac_reward_none": 0.25,
        "completions/mean_length": 3.0,
        "completions/clipped_ratio": 0.25,
        "num_tokens": 12,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)
