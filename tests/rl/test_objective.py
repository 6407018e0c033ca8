"""One batch whole, in micro-batches, packed, and on meshes of 8 devices: the same losses and gradients.

They are computed in float64, where another order of sums changes 1 part in 10^15 and a tolerance of
10^-12 leaves no room for a mistake; in float32 gradients of a like batch differed by up to 1.3e-6 of their norm.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from meshes import MESHES
from tiny import DIVISIBLE

from r1jax.config.experiment import GrpoStage
from r1jax.config.objective import KlSettings, LossSettings
from r1jax.config.training import OptimizerSettings
from r1jax.data.packing import Layout, lay_out
from r1jax.models import abstract_params, init_params, make_model, transformer
from r1jax.parallel.mesh import AXES, row_shards, to_global
from r1jax.rl import objective
from r1jax.rl.logprobs import completion_log_probs
from r1jax.rl.losses import length_mask, reduction_weights
from r1jax.rl.types import TrainBatch
from r1jax.training.state import summed_gradients

B, S, T = 16, 8, 16  # positions that any mesh splits
LOSSES = [
    LossSettings(),
    LossSettings(reduce="token_mean", clip_high=0.28, entropy_coef=0.01),
    LossSettings(reduce="constant_length", dual_clip=1.2),
    LossSettings(kind="gspo", clip_low=0.05, clip_high=0.05),
    LossSettings(kind="gspo_token", clip_low=0.05, clip_high=0.05),
    LossSettings(kind="cispo", reduce="token_mean", clip_high=0.2),
    LossSettings(kind="sapo"),
    LossSettings(kind="reinforce"),
]
STAGE = GrpoStage(
    name="rl",
    program="grpo",
    steps=1,
    prompts_per_step=8,
    group_size=2,
    kl=KlSettings(coef=0.1),
    rewards={"accuracy": 1.0},
    optimizer=OptimizerSettings(learning_rate=1.0),
)
SINGLE = make_model(DIVISIBLE, 20)
DOUBLE = make_model(dataclasses.replace(DIVISIBLE, dtype="float64"), 20)


@pytest.fixture(autouse=True)
def scanned(monkeypatch):
    """Layers in a loop, as in models with many: less to compile."""
    monkeypatch.setattr(transformer, "UNROLLED_LAYERS", 1)


@functools.cache
def weights():
    """The same on the host for all meshes, float32."""
    return jax.tree.map(np.asarray, jax.jit(lambda: init_params(SINGLE, jax.random.key(0)))())


def on_mesh(sizes):
    """A mesh, of one device where no sizes are given, and the weights on it."""
    sizes = dict.fromkeys(AXES, 1) | (sizes or {})
    shape = tuple(sizes.values())
    mesh = jax.sharding.Mesh(np.array(jax.devices()[: np.prod(shape)]).reshape(shape), AXES)
    shardings = jax.tree.map(lambda x: x.sharding, abstract_params(SINGLE, mesh))
    return mesh, jax.device_put(jax.tree.map(lambda x: x.astype(np.float64), weights()), shardings)


def losses_and_gradients(sizes=None, microbatches=1, pack_length=None, group_size=1):
    """Every loss of a fixed batch, [L], and its gradients, in float64 throughout."""
    mesh, params = on_mesh(sizes)
    rng = np.random.default_rng(1)
    prompt_length_B, length_B = np.repeat(rng.integers(1, S + 1, B // 2), 2), rng.integers(0, T + 1, B)
    included_B = np.arange(B) != 3
    mask_BT = (np.arange(T) < length_B[:, None]) * included_B[:, None]
    logp_BT = rng.normal(-3.0, 0.3, (B, T))  # far off policy, so that clips bind
    prompt_BS = np.repeat(rng.integers(2, 20, (B // 2, S)), 2, axis=0)  # two samples of each
    completions = prompt_BS, prompt_length_B, rng.integers(2, 20, (B, T)), length_B
    rest = logp_BT, logp_BT, rng.normal(-3.0, 0.3, (B, T)), rng.normal(size=(B, T)), 1.0 * mask_BT, included_B
    completions, rest = to_global(mesh, (tuple(x.astype(np.int32) for x in completions), rest), B)
    layout = None
    if pack_length is not None:
        layout = lay_out(
            prompt_length_B + length_B,
            shards=row_shards(mesh),
            microbatches=microbatches,
            joined=S + T,
            width=pack_length,
        )
        # Logits of 240 positions of packed rows, or of the completions' 256 where there are four blocks of rows.
        assert (layout.source_MW.size < B * T) == (row_shards(mesh) * microbatches < 4)
        layout = Layout(*(to_global(mesh, x, len(x)) for x in layout))
    with jax.set_mesh(mesh):
        function = functools.partial(_losses_and_gradients, microbatches=microbatches, group_size=group_size)
        return jax.tree.map(np.asarray, jax.jit(function)(params, TrainBatch(*completions, None, layout, *rest)))


def _losses_and_gradients(params, rollout, *, microbatches, group_size):
    """As the update has them, one loss after another; the program is compiled once for all."""
    mask_BT = length_mask(rollout.length_B, T) * rollout.included_B[:, None]
    weights = {reduce: reduction_weights(mask_BT, reduce) for reduce in ("token_mean", *{s.reduce for s in LOSSES})}

    def losses(params, rows):
        rollout, weights = rows
        outputs = completion_log_probs(DOUBLE, params, rollout, temperature=STAGE.temperature, group_size=group_size)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objective, "completion_log_probs", lambda *_, **__: outputs)
            every = []
            for settings in LOSSES:
                stage, batch = STAGE.model_copy(update={"loss": settings}), (rollout, weights[settings.reduce])
                every.append(
                    objective.loss_and_sums((params, None), (*batch, weights["token_mean"]), model=DOUBLE, stage=stage)[
                        0
                    ]
                )
        return jnp.stack(every)

    def of_one(chosen_L):
        def loss(params, rows):
            value = chosen_L @ losses(params, rows)
            return value, {"loss": value}

        gradients, sums = summed_gradients(loss, params, (rollout, weights), microbatches, group_size)
        return sums["loss"], gradients

    return jax.lax.map(of_one, jnp.eye(len(LOSSES)))


@pytest.fixture
def double(monkeypatch):
    """Float64 wherever r1jax asks for float32."""
    weights()
    monkeypatch.setattr(jnp, "float32", jnp.float64)
    with jax.enable_x64(True):
        yield


@functools.cache
def unsharded():
    return losses_and_gradients()


def assert_same(sizes=None, **how):
    losses_L, gradients = losses_and_gradients(sizes, **how)
    expected_L, expected = unsharded()
    assert losses_L.dtype == np.float64
    np.testing.assert_allclose(losses_L, expected_L, rtol=1e-12)
    for number, settings in enumerate(LOSSES):
        own, other = (jax.tree.map(lambda x, n=number: x[n], tree) for tree in (gradients, expected))
        difference = optax.tree.norm(jax.tree.map(np.subtract, own, other))
        assert difference < 1e-12 * optax.tree.norm(other), settings


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("sizes", MESHES)
def test_any_mesh_gives_the_unsharded_losses_and_gradients(sizes):
    assert_same(sizes)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("microbatches", [2, 4, 8, 16])
def test_micro_batches_of_any_size_give_the_same_losses_and_gradients(microbatches):
    assert_same(microbatches=microbatches)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("sizes", "microbatches"),
    [
        (None, 1),
        ({"context": 4, "tensor": 2}, 2),
        ({"data": 2, "context": 4}, 1),
        ({"fsdp": 2, "expert": 2, "context": 2}, 1),
    ],
)
def test_packed_rows_give_the_same_losses_and_gradients(sizes, microbatches):
    assert_same(sizes, microbatches=microbatches, pack_length=40)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("sizes", "microbatches"),
    [
        (None, 1),
        (None, 4),
        ({"data": 8}, 1),
        ({"context": 4, "tensor": 2}, 2),
        ({"fsdp": 2, "expert": 2, "context": 2}, 2),
    ],
)
def test_prompts_computed_once_for_their_samples_give_the_same_losses_and_gradients(sizes, microbatches):
    assert_same(sizes, microbatches=microbatches, group_size=2)
