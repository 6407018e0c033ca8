"""One GRPO update against a float64 numpy formula: clipping, KL, an ungraded sample, mini- and micro-batches.

And a run with dynamic sampling and a reference that follows the policy, which goes on exactly where it was stopped.
"""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rl_run import rl_config, rows_of, states_of

from r1jax.config.experiment import GrpoStage
from r1jax.config.objective import KlSettings, LossSettings
from r1jax.config.training import OptimizerSettings
from r1jax.models import init_params, make_model
from r1jax.programs import grpo
from r1jax.programs.grpo import minibatch_order, over_updates, update_step
from r1jax.programs.pipeline import train
from r1jax.rewards.grading import Grades
from r1jax.rl import rollout as rollouts
from r1jax.rl.logprobs import completion_log_probs
from r1jax.rl.losses import length_mask
from r1jax.rl.objective import LOGP_DIFFERENCE
from r1jax.rl.types import TrainBatch
from r1jax.training.optimizer import make_optimizer, updates_made
from r1jax.training.state import TrainState, sync_reference

B, S, T = 8, 4, 6
SGD = optax.sgd(optax.constant_schedule(1.0))  # a schedule counts updates


def stage(minibatches=1):
    return GrpoStage(
        name="rl",
        program="grpo",
        steps=1,
        prompts_per_step=4,
        group_size=2,
        minibatches=minibatches,
        loss=LossSettings(clip_low=0.2, clip_high=0.3),
        kl=KlSettings(coef=0.5),
        rewards={"accuracy": 1.0},
        optimizer=OptimizerSettings(learning_rate=1.0),
    )


@pytest.fixture
def setting(model_config):
    """A model, a state whose reference is another model, an off-policy rollout, and the log-probs of both models."""
    model = make_model(model_config, 20)
    init = jax.jit(init_params, static_argnums=0)
    params, reference = (init(model, jax.random.key(seed)) for seed in (0, 1))
    rng = np.random.default_rng(0)
    completions = TrainBatch(
        jnp.array(rng.integers(0, 20, (B, S))),
        jnp.array(rng.integers(1, S + 1, B)),
        jnp.array(rng.integers(0, 20, (B, T))),
        jnp.array([1, 6, 3, 6, 2, 4, 5, 6]),
    )
    log_probs = jax.jit(lambda p: completion_log_probs(model, p, completions, temperature=1.0)[0])
    logp, reference_logp = (np.asarray(log_probs(p), np.float64) for p in (params, reference))
    included_B = jnp.arange(B) != 2
    mask_BT = length_mask(completions.length_B, T) * included_B[:, None]
    sampler_logp_BT = jnp.array(logp + rng.normal(size=(B, T)) * 0.4, jnp.float32)
    rollout = dataclasses.replace(
        completions,
        sampler_logp_BT=sampler_logp_BT,
        old_logp_BT=sampler_logp_BT,
        reference_logp_BT=jnp.array(reference_logp, jnp.float32),
        advantage_BT=jnp.array(rng.normal(size=(B, 1)), jnp.float32) * mask_BT,
        factor_BT=mask_BT,
        included_B=included_B,
    )
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(params, zero, SGD.init(params), reference, zero)
    return model, state, rollout, logp, reference_logp


@functools.cache
def jitted(model, minibatches, microbatches):
    return jax.jit(
        lambda state, rollout, chosen, index: update_step(
            state,
            rollout,
            chosen,
            None,
            index,
            jnp.int32(3),
            model=model,
            optimizer=SGD,
            stage=stage(minibatches),
            microbatches=microbatches,
        )
    )


def step(setting, minibatches=1, microbatches=1, index=0):
    model, state, rollout, _, _ = setting
    order = minibatch_order(jax.random.key(7), stage(minibatches))
    return jitted(model, minibatches, microbatches)(state, rollout, order[index], jnp.int32(index))


def numpy_loss(rollout, logp, reference_logp):
    """Row by row, token by token."""
    old, advantage = np.asarray(rollout.old_logp_BT, np.float64), np.asarray(rollout.advantage_BT[:, 0], np.float64)
    lengths = np.asarray(rollout.length_B)
    sequences, kl, clipped = [], [], []
    for b in range(B):
        if not rollout.included_B[b]:
            continue
        tokens = []
        for t in range(lengths[b]):
            ratio = np.exp(logp[b, t] - old[b, t])
            surrogate = min(ratio * advantage[b], np.clip(ratio, 0.8, 1.3) * advantage[b])
            d = reference_logp[b, t] - logp[b, t]
            k3 = np.exp(d) - d - 1
            tokens.append(-surrogate + 0.5 * k3)
            kl.append(k3)
            clipped.append((ratio < 0.8 and advantage[b] < 0) or (ratio > 1.3 and advantage[b] > 0))
        sequences.append(np.mean(tokens))
    return np.mean(sequences), np.mean(kl), np.mean(clipped)


def test_loss_equals_numpy(setting):
    _, _, rollout, logp, reference_logp = setting
    loss, kl, clipped = numpy_loss(rollout, logp, reference_logp)
    state, metrics = step(setting)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-4)
    np.testing.assert_allclose(metrics["clip_ratio/region_mean"], clipped, rtol=1e-5)
    assert clipped > 0.1 and int(state.step) == 1 and int(state.batches_consumed) == 3


def test_gradient_follows_finite_differences(setting):
    """Plain descent of rate 1 moves by the gradient; compare with the loss at two points along it."""
    model, state, rollout, _, reference_logp = setting
    after, metrics = step(setting)
    gradient = jax.tree.map(lambda a, b: a - b, state.params, after.params)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(gradient), rtol=1e-4)
    h = 1e-3 / float(metrics["grad_norm"])

    @jax.jit
    def log_probs(sign):
        moved = jax.tree.map(lambda p, g: p + sign * h * g, state.params, gradient)
        return completion_log_probs(model, moved, rollout, temperature=1.0)[0]

    up, down = (numpy_loss(rollout, np.asarray(log_probs(sign), np.float64), reference_logp)[0] for sign in (1.0, -1.0))
    np.testing.assert_allclose((up - down) / (2 * h), float(metrics["grad_norm"]) ** 2, rtol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("microbatches", [2, 8])
def test_micro_batches_change_nothing(microbatches, setting):
    whole, metrics = step(setting)
    split, split_metrics = step(setting, microbatches=microbatches)
    for name in metrics:
        np.testing.assert_allclose(metrics[name], split_metrics[name], rtol=1e-5, atol=1e-6, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole.params, split.params)


@pytest.mark.slow
def test_minibatches_take_every_row_once(setting):
    """Each minibatch's loss is that of its two rows; only the last counts the step and the batches that it consumed."""
    _, _, rollout, logp, reference_logp = setting
    states, parts = zip(*(step(setting, minibatches=4, index=i) for i in range(4)), strict=True)
    assert [(int(s.step), int(s.batches_consumed)) for s in states] == [(0, 0), (0, 0), (0, 0), (1, 3)]
    order = minibatch_order(jax.random.key(7), stage(4))
    assert order.shape == (4, 2) and sorted(order.ravel()) == list(range(B)) and sorted(order[0]) != [0, 1]
    for part, rows in zip([metrics["loss"] for metrics in parts], order, strict=True):
        only = dataclasses.replace(rollout, included_B=rollout.included_B & jnp.isin(jnp.arange(B), jnp.array(rows)))
        np.testing.assert_allclose(part, numpy_loss(only, logp, reference_logp)[0], rtol=1e-4)


def test_nothing_graded_moves_nothing(setting):
    model, state, rollout, logp, reference_logp = setting
    none = dataclasses.replace(rollout, included_B=jnp.zeros(B, bool))
    after, metrics = step((model, state, none, logp, reference_logp))
    assert float(metrics["loss"]) == 0 and float(metrics["grad_norm"]) == 0
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, after.opt_state, state.opt_state)


def test_an_update_without_tokens_is_none_of_its_steps_metrics():
    empty = {"update_tokens": 0.0, "entropy": 0.0, "ratio/max": 0.0, LOGP_DIFFERENCE: 0.0}
    one = {"update_tokens": 4.0, "entropy": 2.0, "ratio/max": 1.5, LOGP_DIFFERENCE: 0.5}
    two = {"update_tokens": 8.0, "entropy": 1.0, "ratio/max": 1.25, LOGP_DIFFERENCE: 0.75}
    expected = {"update_tokens": 4.0, "entropy": 1.5, "ratio/max": 1.5, LOGP_DIFFERENCE: 0.5}
    assert over_updates([empty, one, two]) == expected
    assert over_updates([one, empty, two, empty]) == expected | {"update_tokens": 3.0}
    norms = {"loss": 0.0, "grad_norm": 0.0, "param_norm": 3.0, "learning_rate": 1.0}
    assert over_updates([empty | norms] * 2) == {"update_tokens": 0.0} | norms


@pytest.mark.slow
def test_the_learning_rate_is_that_of_the_updates_so_far(setting):
    """An update of nothing is none: the next one has the rate that it would have had."""
    model, state, rollout, *_ = setting
    warm = stage().model_copy(update={"optimizer": OptimizerSettings(learning_rate=1.0, warmup_updates=4)})
    optimizer = make_optimizer(warm.optimizer, 8)
    fixed = {"model": model, "optimizer": optimizer, "stage": warm, "microbatches": 1}
    update = jax.jit(lambda *given: update_step(*given, jnp.arange(B), None, jnp.int32(0), jnp.int32(1), **fixed))
    state, rates = dataclasses.replace(state, opt_state=optimizer.init(state.params)), []
    none = dataclasses.replace(rollout, included_B=jnp.zeros(B, bool))
    for given in (none, rollout, none, none, rollout):
        state, metrics = update(state, given)
        rates.append(float(metrics["learning_rate"]))
    np.testing.assert_allclose(rates, [0.2, 0.2, 0.4, 0.4, 0.4], rtol=1e-6)
    assert int(state.step) == 5 and int(updates_made(state.opt_state)) == 2


def test_the_first_update_on_its_own_samples(setting):
    """Ratios are 1 and nothing is clipped: case T44."""
    model, state, rollout, logp, reference_logp = setting
    old_BT = jnp.array(logp, jnp.float32)
    own = dataclasses.replace(rollout, sampler_logp_BT=old_BT, old_logp_BT=old_BT)
    _, metrics = step((model, state, own, logp, reference_logp))
    np.testing.assert_allclose([metrics["ratio/mean"], metrics["ratio/max"]], 1, atol=1e-5)
    assert abs(metrics["approx_kl"]) < 1e-8 and metrics[LOGP_DIFFERENCE] < 1e-5
    assert all(metrics[f"clip_ratio/{side}_mean"] == 0 for side in ("low", "high", "region"))


def test_syncing_the_reference_copies_the_policy(setting):
    _, state, *_ = setting
    after = sync_reference(state)
    jax.tree.map(np.testing.assert_array_equal, after.reference, state.params)
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


def graded(examples, texts, rewards):
    """A reward of 0 or 1 by the number of letters, so that some groups of two have variance; no other processes."""
    scores = np.array([len(text) % 2 for text in texts], np.float32)
    columns = {name: scores if name == "accuracy" else 0 * scores for name in rewards}
    every = {name: np.ones(len(texts), bool) for name in rewards}
    return Grades(columns, every, {name: [""] * len(texts) for name in rewards}, {name: 0 * scores for name in rewards})


@pytest.fixture(scope="module")
def sampled_dynamically(tmp_path_factory):
    """A finished run: one update a step, groups of two until all have variance, the reference synced at every step."""
    folder = tmp_path_factory.mktemp("dynamic")
    changes = {
        "steps": 4,
        "group_size": 2,
        "minibatches": 1,
        "eval_every": 0,
        "kl": "{coef: 0.01, sync_reference_every: 1}",
        "dynamic_sampling": "{max_batches: 3}",
        "optimizer.learning_rate": 1e-2,
    }
    config = rl_config(folder, changes, "evaluate={problems: 8, samples: 2}")
    checked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollouts, "grade", graded)
        patch.setattr(grpo, "check_sampler", lambda metrics, *_: checked.append(metrics))
        train(config)
    return config, folder / "run", checked


@pytest.mark.slow
def test_dynamic_sampling_in_a_run(sampled_dynamically):
    """Updates are on policy and on groups with variance; the reference of each step is what the step began with."""
    config, folder, checked = sampled_dynamically
    rows = rows_of(folder)
    assert [metrics["update_tokens"] > 0 for metrics in checked] == [True]  # of sampler and trainer, once
    batches = [int(row["dynamic_sampling/batches"]) for row in rows]
    assert len(rows) == 4 and max(batches) > 1, batches
    for row in rows:
        np.testing.assert_allclose([row["ratio/mean"], row["ratio/max"]], 1, atol=1e-4)
        assert abs(row["kl"]) < 1e-8 and row["clip_ratio/region_mean"] == 0
        groups = row["dynamic_sampling/groups"]
        assert groups == 8 or row["dynamic_sampling/batches"] == 3
        np.testing.assert_allclose(row["frac_reward_zero_std"], 1 - groups / 8)
    state = states_of(config, folder)[4]
    training = state["training"]
    jax.tree.map(np.testing.assert_array_equal, training["reference"], state["params"])
    assert int(training["step"]) == 4 and int(training["batches_consumed"]) == sum(batches)


@pytest.mark.slow
def test_a_killed_run_with_dynamic_sampling_resumes_to_the_same_bytes(sampled_dynamically, tmp_path, monkeypatch):
    config, folder, _ = sampled_dynamically
    again = tmp_path / "run"
    shutil.copytree(folder, again)
    shutil.rmtree(again / "checkpoints" / "rl" / "4")
    monkeypatch.setattr(rollouts, "grade", graded)
    train(config.model_copy(update={"run_dir": str(again)}))
    assert rows_of(again) == rows_of(folder)
    jax.tree.map(np.testing.assert_array_equal, states_of(config, again)[4], states_of(config, folder)[4])
