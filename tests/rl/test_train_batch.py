"""From rewards and forwards to what updates learn from, against formulas of numpy on ragged groups."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.experiment import GrpoStage
from r1jax.config.training import OptimizerSettings
from r1jax.models import init_params, make_model
from r1jax.parallel.mesh import sharding
from r1jax.rl.logprobs import completion_log_probs, completion_values
from r1jax.rl.train_batch import build_batch, joined, prepare
from r1jax.rl.types import Rollout
from r1jax.sampling.sampler import Samples
from r1jax.training.state import TrainState, ValueState

B, T = 4, 4
LENGTHS, TRUNCATED = np.array([3, 1, 4, 4]), np.array([False, False, True, False])
MASK = np.arange(T)[None] < LENGTHS[:, None]
RNG = np.random.default_rng(0)
SAMPLER, TRAINER, REFERENCE, ENTROPY, VALUES = RNG.normal(size=(5, B, T)).astype(np.float32)
ENTROPY = np.abs(ENTROPY)
FORWARDS = {"logp_BT": jnp.array(TRAINER), "entropy_BT": jnp.array(ENTROPY)}
REWARDS = {"a": [1.0, 0.0, 1.0, np.nan], "b": [0.5, 0.5, 0.0, 1.0]}


def stage(**settings):
    fixed = {"name": "rl", "program": "grpo", "steps": 1, "prompts_per_step": 2, "group_size": 2}
    return GrpoStage(**fixed, optimizer=OptimizerSettings(learning_rate=1.0), **settings)


def rollout_of(rewards, included=(True, True), applies=None):
    return Rollout(
        prompt_PS=jnp.array([[5, 6], [7, 0]]),
        prompt_length_P=jnp.array([2, 1]),
        prompt_id_P=jnp.arange(2),
        samples=Samples(
            completion_BT=jnp.array([[2, 3, 1, 0], [1, 0, 0, 0], [3, 3, 2, 2], [2, 2, 2, 1]]),
            length_B=jnp.array(LENGTHS),
            logp_BT=jnp.array(np.where(MASK, SAMPLER, 0.0), jnp.float32),
            truncated_B=jnp.array(TRUNCATED),
        ),
        rewards={name: jnp.array(values, jnp.float32) for name, values in rewards.items()},
        applies={name: jnp.array((applies or {}).get(name, [True] * B)) for name in rewards},
        included_P=jnp.array(included),
    )


def assembled(given=REWARDS, forwards=FORWARDS, included=(True, True), applies=None, **settings):
    rollout, settings = rollout_of(given, included, applies), {"rewards": dict.fromkeys(given, 1.0), **settings}
    batch, metrics = build_batch(rollout, joined(rollout, 2), forwards, stage(**settings))
    return jax.tree.map(np.asarray, batch), {name: float(value) for name, value in metrics.items()}


def relative(r, guard=1e-4):
    """Each pair's rewards less their mean over their sample std; 0 where one of the two is None."""
    r = np.array(r, np.float64).reshape(-1, 2)
    return np.nan_to_num((r - r.mean(1, keepdims=True)) / (r.std(1, ddof=1, keepdims=True) + guard)).ravel()


def test_the_weighted_sum_and_the_metrics():
    rollout, metrics = assembled(rewards={"a": 1.0, "b": 2.0})
    assert rollout.prompt_BS.tolist() == [[5, 6], [5, 6], [7, 0], [7, 0]]
    assert rollout.included_B.tolist() == [True, True, True, False]
    np.testing.assert_allclose(rollout.advantage_BT, np.array([[0.7070], [-0.7070], [0], [0]]) * MASK, atol=1e-3)
    np.testing.assert_array_equal(rollout.old_logp_BT, np.where(MASK, SAMPLER, 0))
    np.testing.assert_array_equal(rollout.factor_BT, MASK * [[1], [1], [1], [0]])
    assert rollout.reference_logp_BT is None and rollout.value_BT is None and rollout.return_BT is None
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
     ("mask", [1, 1, 0, 1], [0.707, -0.707, 0, -0.707])],
)  # fmt: skip
def test_truncated_samples(truncated, graded, advantages):
    """The third of the four: in the second group it has the higher reward."""
    rollout, metrics = assembled({"a": [1.0, 0.0, 1.0, 0.5]}, truncated=truncated)
    assert rollout.included_B.tolist() == [bool(g) for g in graded]
    np.testing.assert_allclose(rollout.advantage_BT, np.array(advantages)[:, None] * MASK, atol=2e-3)
    np.testing.assert_allclose(metrics["rewards/a/mean"], 0.625)  # as it was given


def test_penalties_of_truncated_samples_stay():
    _, metrics = assembled({"a": [1.0, 0.0, -3.0, 0.5]}, truncated="zero")
    np.testing.assert_allclose(metrics["reward"], -1.5 / 4)


def test_old_log_probs_of_the_trainer():
    rollout, _ = assembled(old_log_probs="trainer")
    np.testing.assert_array_equal(rollout.old_logp_BT, TRAINER)
    np.testing.assert_array_equal(rollout.sampler_logp_BT, np.where(MASK, SAMPLER, 0))


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize(
    "correction", [None, {"high": 1.5}, {"mode": "mask", "low": 0.5, "high": 2.0}, {"level": "sequence"}]
)
def test_constant_weights_of_tokens(correction, share):
    """Of the 8 tokens of the three graded samples those with the highest entropy, times the importance weights."""
    rollout, metrics = assembled(
        old_log_probs="trainer", importance_sampling=correction, loss={"top_entropy_quantile": share}
    )
    expected = MASK * np.array([[1], [1], [1], [0]], float)
    counted = expected > 0
    if correction is not None:
        settings = {"level": "token", "mode": "truncate", "low": 0.0, "high": 2.0, **correction}
        difference = (TRAINER - SAMPLER).astype(np.float64)
        if settings["level"] == "sequence":
            difference = np.repeat((difference * MASK).sum(1, keepdims=True), T, axis=1)
        ratio = np.exp(difference)
        outside = (ratio < settings["low"]) | (ratio > settings["high"])
        assert outside[counted].any() and not outside[counted].all()
        if settings["mode"] == "mask":
            expected *= np.where(outside, 0, ratio)
        else:
            expected *= np.clip(ratio, settings["low"], settings["high"])
    if correction is not None:
        np.testing.assert_allclose(metrics["importance_sampling/weight/mean"], expected.sum() / 8, rtol=1e-5)
        np.testing.assert_allclose(metrics["importance_sampling/masked"], (expected[counted] == 0).mean(), rtol=1e-5)
    assert metrics.get("low_entropy_masked", 0.0) == pytest.approx(1 - share)
    expected *= np.sort(ENTROPY[counted])[-round(share * 8)] <= ENTROPY
    assert counted.sum() == 8 and (expected > 0).sum() <= share * 8
    np.testing.assert_allclose(rollout.factor_BT, expected, rtol=1e-5)


def kl(estimator, logp):
    d = (REFERENCE - logp).astype(np.float64)
    return {"k1": -d, "k2": d**2 / 2, "k3": np.exp(d) - d - 1}[estimator] * MASK


@pytest.mark.parametrize(
    ("estimator", "old", "logp"), [("k1", "sampler", SAMPLER), ("k2", "trainer", TRAINER), ("k3", "sampler", SAMPLER)]
)
def test_kl_in_the_reward(estimator, old, logp):
    """The sum over a sample's tokens; the metric is the reward as it was given."""
    forwards = FORWARDS | {"reference_logp_BT": jnp.array(REFERENCE)}
    given = [1.0, 0.0, 1.0, 0.5]
    settings = {"coef": 0.3, "estimator": estimator, "place": "reward"}
    rollout, metrics = assembled({"a": given}, forwards, kl=settings, old_log_probs=old, advantage={"scale": "none"})
    less = (given - 0.3 * kl(estimator, logp).sum(1)).reshape(2, 2)
    advantage = (less - less.mean(1, keepdims=True)).reshape(4, 1)
    np.testing.assert_allclose(rollout.advantage_BT, advantage * MASK, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["reward"], 0.625)
    plain, _ = assembled({"a": given}, forwards, kl={"coef": 0.3}, old_log_probs=old)
    np.testing.assert_allclose(plain.advantage_BT, relative(given)[:, None] * MASK, rtol=1e-4)


def test_each_reward_by_itself():
    given = {"a": [1.0, 0.0, 1.0, 0.5], "b": [3.0, 9.0, 0.0, 2.0]}
    rollout, metrics = assembled(given, rewards={"a": 1.0, "b": 0.5}, advantage={"per_reward": True})
    total = relative(given["a"]) + 0.5 * relative(given["b"])
    expected = (total - total.mean()) / (total.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(rollout.advantage_BT, expected[:, None] * MASK, rtol=1e-4)
    np.testing.assert_allclose(metrics["reward"], (2.5 + 7) / 4)


FIRST, SECOND = [True, True, False, False], [False, False, True, True]


def test_a_reward_that_does_not_apply_adds_nothing_and_its_sample_stays():
    """Each group has a reward of its own, and both share a third; what stands where one does not apply is not read."""
    nan = np.nan
    given = {"rule": [1.0, 0.0, nan, 7.0], "model": [nan, 5.0, 2.0, 4.0], "both": [0.0, 1.0, 1.0, 1.0]}
    applies = {"rule": FIRST, "model": SECOND}
    weights = {"rule": 1.0, "model": 0.5, "both": 0.25}
    rollout, metrics = assembled(given, applies=applies, rewards=weights)
    total = [1.0, 0.25, 1.25, 2.25]
    assert rollout.included_B.all() and metrics["frac_reward_none"] == 0
    np.testing.assert_allclose(rollout.advantage_BT, relative(total)[:, None] * MASK, rtol=1e-5)
    np.testing.assert_allclose(metrics["reward"], np.mean(total))
    assert metrics["frac_reward_zero_std"] == 0


@pytest.mark.parametrize("per_reward", [False, True])
def test_a_reward_that_failed_is_not_one_that_does_not_apply(per_reward):
    """The judge of the second group is dead: its samples leave the loss, those of the first group learn as before."""
    given = {"rule": [1.0, 0.0, np.nan, np.nan], "model": [np.nan] * 4}
    settings = {"rewards": {"rule": 1.0, "model": 1.0}, "advantage": {"per_reward": per_reward}}
    rollout, metrics = assembled(given, applies={"rule": FIRST, "model": SECOND}, **settings)
    assert rollout.included_B.tolist() == FIRST and metrics["frac_reward_none"] == 0.5
    alone = relative([1.0, 0.0])
    alone = (alone - alone.mean()) / (alone.std(ddof=1) + 1e-4) if per_reward else alone
    np.testing.assert_allclose(rollout.advantage_BT[:2], alone[:, None] * MASK[:2], rtol=1e-4)
    assert (rollout.advantage_BT[2:] == 0).all() and np.isnan(metrics["rewards/model/mean"])


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_each_reward_by_itself_is_measured_against_the_samples_that_have_it(scale):
    given = {"rule": [1.0, 0.0, np.nan, np.nan], "model": [np.nan, np.nan, 2.0, 8.0], "both": [0.0, 1.0, 3.0, 5.0]}
    settings = {"rewards": {"rule": 1.0, "model": 0.5, "both": 2.0}, "advantage": {"per_reward": True, "scale": scale}}
    rollout, metrics = assembled(given, applies={"rule": FIRST, "model": SECOND}, **settings)

    def scaled(values):
        pairs = np.array(values).reshape(-1, 2)
        each = {"group": pairs.std(1, ddof=1, keepdims=True), "batch": pairs.std(ddof=1), "none": 1 - 1e-4}[scale]
        return ((pairs - pairs.mean(1, keepdims=True)) / (each + 1e-4)).ravel()

    total = np.concatenate([scaled([1.0, 0.0]), 0.5 * scaled([2.0, 8.0])]) + 2 * scaled(given["both"])
    expected = (total - total.mean()) / (total.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(rollout.advantage_BT, expected[:, None] * MASK, rtol=1e-4)
    np.testing.assert_allclose([metrics["rewards/rule/mean"], metrics["rewards/model/mean"]], [0.5, 5.0])


def test_a_filling_group_has_no_part_in_the_statistics():
    given = {"rule": [1.0, 0.0, np.nan, np.nan], "model": [np.nan, np.nan, 2.0, 8.0]}
    settings = {"rewards": {"rule": 1.0, "model": 1.0}, "advantage": {"per_reward": True}}
    rollout, _ = assembled(given, included=(True, False), applies={"rule": FIRST, "model": SECOND}, **settings)
    alone = relative([1.0, 0.0])
    alone = (alone - alone.mean()) / (alone.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(rollout.advantage_BT[:2], alone[:, None] * MASK[:2], rtol=1e-4)
    assert (rollout.advantage_BT[2:] == 0).all() and rollout.included_B.tolist() == FIRST


def gae_by_hand(rewards, values, gae_lambda):
    """Row by row from the end; nothing comes after a row's last token."""
    advantages = np.zeros((B, T))
    for b in range(B):
        after = 0.0
        for t in reversed(range(LENGTHS[b])):
            following = values[b, t + 1] if t + 1 < LENGTHS[b] else 0.0
            after = rewards[b, t] + following - values[b, t] + gae_lambda * after
            advantages[b, t] = after
    return advantages


@pytest.mark.parametrize("place", ["loss", "reward"])
@pytest.mark.parametrize("scale", ["none", "batch"])
def test_a_value_model(scale, place):
    """The reward is that of the last token, KL that of each; the last sample is graded by none."""
    forwards = {"reference_logp_BT": jnp.array(REFERENCE), "value_BT": jnp.array(VALUES)}
    given = [1.0, 0.0, 0.7, np.nan]
    rollout, metrics = assembled(
        {"a": given},
        forwards,
        value={"gae_lambda": 0.8},
        kl={"coef": 0.3, "estimator": "k3", "place": place},
        advantage={"scale": scale},
    )
    graded = np.array([[1], [1], [1], [0]])
    rewards = np.zeros((B, T))
    rewards[np.arange(3), LENGTHS[:3] - 1] = given[:3]
    if place == "reward":
        rewards -= 0.3 * kl("k3", SAMPLER)
    advantages = gae_by_hand(rewards, VALUES.astype(np.float64), 0.8) * graded
    returns, counted = (advantages + VALUES) * MASK * graded, (MASK * graded) > 0
    if scale == "batch":
        mean, std = advantages[counted].mean(), advantages[counted].std(ddof=1)
        advantages = np.where(counted, (advantages - mean) / (std + 1e-4), 0)
    assert rollout.included_B.tolist() == [True, True, True, False]
    np.testing.assert_allclose(rollout.advantage_BT, advantages, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rollout.return_BT, returns, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rollout.value_BT, VALUES * counted)
    explained = 1 - (returns - VALUES)[counted].var() / returns[counted].var()
    np.testing.assert_allclose(metrics["value/mean"], VALUES[counted].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["value/explained_variance"], explained, rtol=1e-4)
    np.testing.assert_allclose(metrics["reward"], 1.7 / 3, rtol=1e-6)


@pytest.mark.parametrize("value", [None, {}])
def test_groups_that_are_not_included_are_left_out(value):
    given, forwards = {"a": [1.0, 0.0, 1.0, 0.5]}, FORWARDS | {"value_BT": jnp.array(VALUES)}
    settings = {} if value is None else {"value": value, "advantage": {"scale": "none"}}
    whole, _ = assembled(given, forwards, **settings)
    rollout, _ = assembled(given, forwards, included=(True, False), **settings)
    assert rollout.included_B.tolist() == [True, True, False, False]
    assert (rollout.advantage_BT[2:] == 0).all() and (rollout.factor_BT[2:] == 0).all()
    np.testing.assert_array_equal(rollout.advantage_BT[:2], whole.advantage_BT[:2])
    if value is not None:
        assert (rollout.value_BT[2:] == 0).all() and (rollout.return_BT[2:] == 0).all()


def test_metrics_of_groups_that_only_fill_the_batch():
    """They are in the share of groups that teach nothing, and nowhere else."""
    _, whole = assembled({"a": [1.0, 0.0, 1.0, 0.0]})
    _, half = assembled({"a": [1.0, 0.0, 1.0, 0.0]}, included=(True, False))
    assert (whole["frac_reward_zero_std"], half["frac_reward_zero_std"]) == (0, 0.5)
    expected = {"mean_length": 2, "min_length": 1, "max_length": 3, "clipped_ratio": 0}
    assert {name: half[f"completions/{name}"] for name in expected} == expected
    assert half["reward"] == 0.5 and half["frac_reward_none"] == 0
    np.testing.assert_allclose(half["reward_std"], 0.5**0.5, rtol=1e-6)
    _, none = assembled({"a": [1.0, 0.0, 1.0, 0.0]}, included=(False, False))
    assert none["frac_reward_zero_std"] == 1 and np.isnan(none["completions/mean_length"])


@pytest.mark.slow
def test_forwards_are_those_of_each_model_in_micro_batches_too(model_config, mesh):
    """Trainer, reference and value model are three models; 16 samples, 1 a device at once, against all at once."""
    model = make_model(dataclasses.replace(model_config, num_hidden_layers=1), 20)
    init, rng = jax.jit(init_params, static_argnums=0), np.random.default_rng(1)
    params, reference, valued = (init(model, jax.random.key(seed)) for seed in range(3))
    value = {"model": valued, "head_D": jnp.array(rng.normal(size=16), jnp.float32)}
    state = TrainState(params, jnp.int32(0), None, reference, jnp.int32(0), ValueState(value, None))
    given = Rollout(
        prompt_PS=jnp.array(rng.integers(2, 20, (8, 3))),
        prompt_length_P=jnp.array(rng.integers(1, 4, 8)),
        prompt_id_P=jnp.arange(8),
        samples=Samples(
            completion_BT=jnp.array(rng.integers(2, 20, (16, T))),
            length_B=jnp.array(rng.integers(1, T + 1, 16)),
            logp_BT=jnp.zeros((16, T)),
            truncated_B=jnp.zeros(16, bool),
        ),
        rewards={"a": jnp.array(rng.normal(size=16), jnp.float32)},
        applies={"a": jnp.ones(16, bool)},
        included_P=jnp.ones(8, bool),
    )
    settings = stage(
        rewards={"a": 1.0},
        old_log_probs="trainer",
        temperature=0.7,
        kl={"coef": 0.1, "place": "reward"},
        value={},
        advantage={"scale": "batch"},
        microbatch=1,
    ).model_copy(update={"prompts_per_step": 8})
    with jax.set_mesh(mesh):
        run = functools.partial(prepare, model=model, stage=settings, microbatches=2)
        prepared = jax.jit(run, out_shardings=(sharding(mesh, "B"), sharding(mesh, "")))(state, given)

    @jax.jit
    def at_once(params, reference, value):
        rows = joined(given, 2)
        logp, other = (completion_log_probs(model, p, rows, temperature=0.7)[0] for p in (params, reference))
        return {"logp_BT": logp, "reference_logp_BT": other, "value_BT": completion_values(model, value, rows)}

    expected = build_batch(given, joined(given, 2), at_once(params, reference, value), settings)
    mask = np.arange(T)[None] < np.asarray(given.samples.length_B)[:, None]

    def assert_same(ours, expected):
        ours, expected = (np.where(mask, x, 0) if x.shape == mask.shape else x for x in (ours, expected))
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)

    jax.tree.map(assert_same, prepared, expected)
    assert np.abs(prepared[0].old_logp_BT - prepared[0].reference_logp_BT)[mask].min() > 0
