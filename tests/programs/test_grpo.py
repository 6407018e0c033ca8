"""One GRPO update against a float64 numpy formula: clipping, KL, an ungraded sample, mini- and micro-batches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1jax.config import GrpoStage, OptimizerConfig
from r1jax.models.completions import Completions, completion_log_probs
from r1jax.models.dense import Transformer
from r1jax.programs.grpo import update_step
from r1jax.rollout import Rollout
from r1jax.state import TrainState, init_params

B, S, T = 8, 4, 6


def stage(minibatches=1):
    return GrpoStage(
        name="rl",
        program="grpo",
        steps=1,
        prompts_per_step=4,
        group_size=2,
        minibatches=minibatches,
        clip_low=0.2,
        clip_high=0.3,
        kl_coef=0.5,
        rewards={"accuracy": 1.0},
        optimizer=OptimizerConfig(learning_rate=1.0),
    )


@pytest.fixture
def setting(model_config):
    """A model, a state whose reference is another model, an off-policy rollout, and the log-probs of both models."""
    model = Transformer(model_config, 20)
    init = jax.jit(init_params, static_argnums=0)
    params, reference = (init(model, jax.random.key(seed)) for seed in (0, 1))
    rng = np.random.default_rng(0)
    completions = Completions(
        jnp.array(rng.integers(0, 20, (B, S))),
        jnp.array(rng.integers(1, S + 1, B)),
        jnp.array(rng.integers(0, 20, (B, T))),
        jnp.array([1, 6, 3, 6, 2, 4, 5, 6]),
    )
    log_probs = jax.jit(lambda p: completion_log_probs(model, p, completions, temperature=1.0)[0])
    logp, reference_logp = (np.asarray(log_probs(p), np.float64) for p in (params, reference))
    rollout = Rollout(
        completions,
        jnp.array(logp + rng.normal(size=(B, T)) * 0.4, jnp.float32),
        jnp.array(rng.normal(size=B), jnp.float32),
        jnp.arange(B) != 2,
    )
    state = TrainState(params, jnp.zeros((), jnp.int32), optax.sgd(1.0).init(params), reference)
    return model, state, rollout, logp, reference_logp


@functools.cache
def jitted(model, minibatches, microbatches):
    return jax.jit(
        lambda state, rollout, index: update_step(
            state,
            rollout,
            jax.random.key(7),
            index,
            model=model,
            optimizer=optax.sgd(1.0),
            stage=stage(minibatches),
            microbatches=microbatches,
        )
    )


def step(setting, minibatches=1, microbatches=1, index=0):
    model, state, rollout, _, _ = setting
    return jitted(model, minibatches, microbatches)(state, rollout, jnp.int32(index))


def numpy_loss(rollout, logp, reference_logp):
    """Row by row, token by token."""
    old, advantage = np.asarray(rollout.logp_BT, np.float64), np.asarray(rollout.advantage_B, np.float64)
    lengths = np.asarray(rollout.completions.length_B)
    sequences, kl, clipped = [], [], []
    for b in range(B):
        if not rollout.graded_B[b]:
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
    assert clipped > 0.1 and int(state.step) == 1


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
        return completion_log_probs(model, moved, rollout.completions, temperature=1.0)[0]

    up, down = (numpy_loss(rollout, np.asarray(log_probs(sign), np.float64), reference_logp)[0] for sign in (1.0, -1.0))
    np.testing.assert_allclose((up - down) / (2 * h), float(metrics["grad_norm"]) ** 2, rtol=0.03)


@pytest.mark.parametrize("microbatches", [2, 8])
def test_micro_batches_change_nothing(microbatches, setting):
    whole, metrics = step(setting)
    split, split_metrics = step(setting, microbatches=microbatches)
    for name in metrics:
        np.testing.assert_allclose(metrics[name], split_metrics[name], rtol=1e-5, atol=1e-6, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole.params, split.params)


def test_minibatches_take_every_row_once(setting):
    """With lengths 1 to 8 as labels: the four minibatches' token counts and rows add up to the whole."""
    _, _, rollout, logp, reference_logp = setting
    parts = [step(setting, minibatches=4, index=i)[1]["loss"] for i in range(4)]
    order = np.asarray(jax.random.permutation(jax.random.key(7), B)).reshape(4, 2)
    assert sorted(order.ravel()) == list(range(B))
    for part, rows in zip(parts, order, strict=True):
        only = dataclasses.replace(rollout, graded_B=rollout.graded_B & jnp.isin(jnp.arange(B), jnp.array(rows)))
        np.testing.assert_allclose(part, numpy_loss(only, logp, reference_logp)[0], rtol=1e-4)


def test_nothing_graded_moves_nothing(setting):
    model, state, rollout, logp, reference_logp = setting
    none = dataclasses.replace(rollout, graded_B=jnp.zeros(B, bool))
    after, metrics = step((model, state, none, logp, reference_logp))
    assert float(metrics["loss"]) == 0 and float(metrics["grad_norm"]) == 0
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
