"""PPO: one update of policy and value model against a plain computation of both losses, and runs that go on exactly."""

import dataclasses
import functools
import itertools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rl_run import rl_config, rows_of, states_of

from r1jax.config.experiment import GrpoStage
from r1jax.config.training import OptimizerSettings
from r1jax.models import forward, init_params, make_model, unembed
from r1jax.programs.grpo import optimizers, update_step
from r1jax.programs.pipeline import train
from r1jax.rewards.grading import Grades
from r1jax.rl import rollout
from r1jax.rl.types import TrainBatch
from r1jax.training.state import TrainState, ValueState

B, S, T, VOCABULARY, TEMPERATURE = 8, 4, 6, 20, 0.8
PROMPTS, LENGTHS, GRADED = np.array([4, 1, 2, 3, 4, 4, 1, 2]), np.array([1, 6, 3, 6, 2, 4, 5, 6]), np.arange(B) != 2
PROMPT_BS, COMPLETION_BT = (np.random.default_rng(n).integers(2, VOCABULARY, (B, n)) for n in (S, T))
RATES = {"policy": 1.0, "value": 0.02}
STAGE = GrpoStage(
    name="rl",
    program="grpo",
    steps=1,
    prompts_per_step=8,
    group_size=1,
    temperature=TEMPERATURE,
    rewards={"accuracy": 1.0},
    advantage={"scale": "batch"},
    value={},
    optimizer=OptimizerSettings(learning_rate=1.0),
)


@pytest.fixture(scope="module")
def setting(model_config):
    """A model, a state whose value model is another model, and an off-policy rollout with advantages by token."""
    model = make_model(dataclasses.replace(model_config, num_hidden_layers=1), VOCABULARY)
    init, rng = jax.jit(init_params, static_argnums=0), np.random.default_rng(0)
    params, other = (init(model, jax.random.key(seed)) for seed in (0, 1))
    value = {"model": other, "head_D": jnp.array(0.3 * rng.normal(size=16), jnp.float32)}
    logp, values = (np.asarray(x) for x in jax.jit(functools.partial(log_probs_and_values, model))(params, value))
    mask_BT = (np.arange(T)[None] < LENGTHS[:, None]) & GRADED[:, None]
    old_BT = logp + 0.4 * rng.normal(size=(B, T)).astype(np.float32)

    def counted(x_BT):
        return jnp.array(np.where(mask_BT, x_BT, 0), jnp.float32)

    batch = TrainBatch(
        *map(jnp.array, (PROMPT_BS, PROMPTS, COMPLETION_BT, LENGTHS)),
        sampler_logp_BT=jnp.array(old_BT),
        old_logp_BT=jnp.array(old_BT),
        reference_logp_BT=None,
        advantage_BT=counted(rng.normal(size=(B, T))),
        factor_BT=counted(1.0),
        included_B=jnp.array(GRADED),
        value_BT=counted(values + 0.3 * rng.normal(size=(B, T))),
        return_BT=counted(values + rng.normal(size=(B, T))),
    )
    zero = jnp.zeros((), jnp.int32)
    moments = [optax.sgd(optax.constant_schedule(rate)) for rate in RATES.values()]
    state = TrainState(params, zero, moments[0].init(params), None, zero, ValueState(value, moments[1].init(value)))
    return model, state, batch


def log_probs_and_values(model, params, value):
    """Of each completion token, from rows that are put together one by one: the state before it says both."""
    rows = np.zeros((B, S + T), np.int32)
    for b in range(B):
        rows[b, : PROMPTS[b]] = PROMPT_BS[b, : PROMPTS[b]]
        rows[b, PROMPTS[b] : PROMPTS[b] + LENGTHS[b]] = COMPLETION_BT[b, : LENGTHS[b]]
    place_BT = PROMPTS[:, None] + np.arange(T)
    token_BT = rows[np.arange(B)[:, None], place_BT]

    def before(params):
        return forward(model, params, jnp.array(rows))[0][np.arange(B)[:, None], place_BT - 1]

    logits = unembed(model, params, before(params))[:, :, :VOCABULARY] / TEMPERATURE
    logp = jax.nn.log_softmax(logits)[np.arange(B)[:, None], np.arange(T)[None], token_BT]
    return logp, before(value["model"]) @ value["head_D"]


def plain_losses(model, batch, params, value):
    """Mean over samples of the mean over tokens of the clipped term; mean over tokens of half the larger square."""
    logp, values = log_probs_and_values(model, params, value)
    at = np.nonzero((np.arange(T)[None] < LENGTHS[:, None]) & GRADED[:, None])  # tokens one after the other
    ratio, A = jnp.exp(logp[at] - batch.old_logp_BT[at]), batch.advantage_BT[at]
    policy = -jnp.minimum(ratio * A, jnp.clip(ratio, 0.8, 1.2) * A)
    old, R = batch.value_BT[at], batch.return_BT[at]
    near = jnp.clip(values[at], old - 0.2, old + 0.2)
    square = jnp.maximum((values[at] - R) ** 2, (near - R) ** 2) / 2
    return (policy / LENGTHS[at[0]]).sum() / GRADED.sum(), square.mean()


@pytest.fixture(scope="module")
def update(setting):
    """The update in two micro-batches, of plain descent."""
    policy, value = (optax.sgd(optax.constant_schedule(rate)) for rate in RATES.values())
    fixed = {"model": setting[0], "optimizer": policy, "value_optimizer": value, "stage": STAGE, "microbatches": 2}
    return jax.jit(
        lambda state, batch: update_step(state, batch, jnp.arange(B), None, jnp.int32(0), jnp.int32(1), **fixed)
    )


def test_losses_and_gradients_equal_a_plain_computation(setting, update):
    model, state, batch = setting
    after, metrics = update(state, batch)

    @jax.jit
    def plain(params, value):
        losses, backward = jax.vjp(functools.partial(plain_losses, model, batch), params, value)
        return losses, backward((jnp.ones(()), jnp.zeros(()))), backward((jnp.zeros(()), jnp.ones(())))

    losses, (policy, nothing), (none, value) = plain(state.params, state.value.params)
    assert optax.tree.norm(nothing) == optax.tree.norm(none) == 0
    np.testing.assert_allclose(metrics["loss"], losses[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["value/loss"], losses[1], rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(policy), rtol=1e-5)
    np.testing.assert_allclose(metrics["value/grad_norm"], optax.tree.norm(value), rtol=1e-5)
    for before, new, gradient, rate in (
        (state.params, after.params, policy, RATES["policy"]),
        (state.value.params, after.value.params, value, RATES["value"]),
    ):
        jax.tree.map(
            lambda a, b, g, rate=rate: np.testing.assert_allclose(b, a - rate * g, rtol=1e-5, atol=1e-6),
            before,
            new,
            gradient,
        )


def test_the_value_model_alone_learns_its_returns(setting, update):
    """With advantages of 0 the policy stays to the bit; the value model's loss falls from update to update."""
    _, state, batch = setting
    nothing, start, losses = jnp.zeros_like(batch.advantage_BT), state.params, []
    batch = dataclasses.replace(batch, advantage_BT=nothing, value_BT=batch.return_BT)
    for _ in range(20):
        state, metrics = update(state, batch)
        losses.append(float(metrics["value/loss"]))
    jax.tree.map(np.testing.assert_array_equal, state.params, start)
    assert all(after < before for before, after in itertools.pairwise(losses)), losses
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_where_no_token_counts_momentum_and_weight_decay_move_nothing_either(setting):
    model, state, batch = setting
    stage = STAGE.model_copy(update={"optimizer": OptimizerSettings(learning_rate=0.1, weight_decay=0.1)})
    policy, value = optimizers(stage)
    fixed = {"model": model, "optimizer": policy, "value_optimizer": value, "stage": stage, "microbatches": 1}
    update = jax.jit(lambda *given: update_step(*given, jnp.arange(B), None, jnp.int32(0), jnp.int32(1), **fixed))
    begun = ValueState(state.value.params, value.init(state.value.params))
    one, _ = update(dataclasses.replace(state, opt_state=policy.init(state.params), value=begun), batch)
    two, metrics = update(one, dataclasses.replace(batch, included_B=jnp.zeros(B, bool)))
    assert metrics["update_tokens"] == 0 and int(two.step) == 2
    for moved, stayed, before in ((one, two, state), (one.value, two.value, state.value)):
        assert optax.tree.norm(jax.tree.map(jnp.subtract, moved.params, before.params)) > 0.1
        jax.tree.map(np.testing.assert_array_equal, stayed.params, moved.params)
        jax.tree.map(np.testing.assert_array_equal, stayed.opt_state, moved.opt_state)


def graded(examples, texts, rewards):
    """A reward of 0 or 1 by the number of letters; no other processes."""
    scores = np.array([len(text) % 2 for text in texts], np.float32)
    columns = scores, np.ones(len(texts), bool), [""] * len(texts), 0 * scores
    return Grades(*({name: column for name in rewards} for column in columns))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    """One sample a prompt, in packed rows; the value model begins as the policy with a head of zeros, and both move."""
    changes = {
        "pack_length": 36,
        "prompts_per_step": 16,
        "group_size": 1,
        "eval_every": 0,
        "kl.coef": 0.0,
        "rewards": "{accuracy: 1.0}",
        "advantage": "{scale: batch}",
        "value": "{gae_lambda: 0.95}",
    }
    monkeypatch.setattr(rollout, "grade", graded)
    config = rl_config(tmp_path, changes, "evaluate={problems: 16, samples: 1}")
    train(config)
    rows, states = rows_of(tmp_path / "run"), states_of(config, tmp_path / "run")
    assert len(rows) == 3 and set(states) == {2, 3}
    assert rows[0]["value/mean"] == 0
    for row in rows:
        assert np.isfinite([row[name] for name in ("loss", "value/loss", "value/explained_variance")]).all()
        assert row["value/grad_norm"] > 0
    heads = [states[step]["training"]["value_params"]["head_D"] for step in (2, 3)]
    assert np.abs(heads[0]).max() > 1e-3 and (heads[0] != heads[1]).all()
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "run", again)
    shutil.rmtree(again / "checkpoints" / "rl" / "3")
    train(config.model_copy(update={"run_dir": str(again)}))
    assert rows_of(again) == rows
    jax.tree.map(np.testing.assert_array_equal, states_of(config, again), states)
