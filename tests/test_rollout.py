"""From samples to advantages: texts end at the stop, None leaves everything, one failure touches no other sample."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config_file import load_config
from r1jax.rollout import assemble, collect, completion_texts
from r1jax.run import open_run
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
    texts = completion_texts(samples(), CharacterTokenizer("ab"))
    assert texts == ["ab", "", "bbaa", "aaa"]
    assert [(t.length, t.truncated) for t in texts] == [(3, False), (1, False), (4, True), (4, False)]


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


@pytest.mark.parametrize(
    ("truncated", "graded", "advantages"),
    [("keep", [1, 1, 1, 1], [0.707, -0.707, 0.707, -0.707]), ("zero", [1, 1, 1, 1], [0.707, -0.707, -0.707, 0.707]),
     ("mask", [1, 1, 0, 1], [0.707, -0.707, 0, 0])],
)  # fmt: skip
def test_a_sample_that_never_stopped(truncated, graded, advantages):
    """The third of the four: in the second group it has the higher reward."""
    rollout, metrics = assemble(
        jnp.array([[5, 6], [7, 0]]),
        jnp.array([2, 1]),
        samples(),
        {"a": jnp.array([1.0, 0.0, 1.0, 0.5])},
        weights=(("a", 1.0),),
        group_size=2,
        truncated=truncated,
    )
    assert rollout.graded_B.tolist() == [bool(g) for g in graded]
    np.testing.assert_allclose(rollout.advantage_B, advantages, atol=2e-3)
    np.testing.assert_allclose(metrics["rewards/a/mean"], 0.625)  # as it was given


def test_parts_change_nothing(tiny_file):
    """But for rounding in the log-probs: another batch is another product."""
    run = open_run(load_config(tiny_file, ["mesh.data=2", "mesh.tensor=4"]))
    stage = run.config.stages[1]
    with contextlib.closing(run), run.devices():
        weights = run.sampling_weights(run.initial_weights())
        whole, parted = (
            collect(run, stage.model_copy(update={"rollout_parts": n}), weights, 16, jax.random.key(3)) for n in (1, 4)
        )
    np.testing.assert_array_equal(whole[0].completions.completion_BT, parted[0].completions.completion_BT)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole[0], parted[0])
    for name in whole[1].keys() | parted[1].keys():
        assert name.startswith("time/") or whole[1][name] == parted[1][name], name
    assert whole[2].rows() == parted[2].rows()
    assert "time/grade_hidden" in run.timers.collect()
