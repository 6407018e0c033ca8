"""Every factorisation of 8 devices against the unsharded run; rows to devices and back; meshes that do not fit."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1jax.assembly import Rollout
from r1jax.config import GrpoStage, MeshConfig, ModelConfig, OptimizerConfig
from r1jax.mesh import (
    TRAIN_WEIGHTS,
    gather,
    make_mesh,
    own_rows,
    row_shards,
    sharding,
    to_global,
    to_local,
    weight_shardings,
)
from r1jax.models import dense
from r1jax.models.completions import Completions, completion_log_probs
from r1jax.models.dense import Transformer
from r1jax.objective_settings import KlSettings, LossSettings
from r1jax.objectives import length_mask, reduction_weights
from r1jax.optimizer import make_optimizer
from r1jax.packing import Layout, lay_out
from r1jax.programs import grpo
from r1jax.sampler import make_sampler
from r1jax.settings import ConfigError
from r1jax.state import abstract_params, abstract_state, init_params, summed_gradients

FACTORISATIONS = [s for s in itertools.product((1, 2, 4, 8), repeat=3) if np.prod(s) == 8]
OTHER = [{"expert": 2, "fsdp": 2, "tensor": 2}, {"context": 2, "data": 2, "tensor": 2}]
CONFIG = ModelConfig(
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=2,  # fewer than the largest tensor axis: repeated there
    head_dim=4,
    qkv_bias=True,
    qk_norm=True,
    dtype="float32",
)
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
    optimizer=OptimizerConfig(learning_rate=1.0),
)


@pytest.fixture(autouse=True)
def scanned(monkeypatch):
    """Layers in a loop, as in models with many: less to compile."""
    monkeypatch.setattr(dense, "UNROLLED_LAYERS", 1)


@functools.cache
def weights():
    """The same on the host for all meshes."""
    return jax.tree.map(np.asarray, jax.jit(lambda: init_params(Transformer(CONFIG, 20), jax.random.key(0)))())


def all_losses(sizes: dict[str, int], microbatches: int = 1, losses=LOSSES, *, pack_length: int | None = None):
    """Samples of a fixed batch on a mesh, and every loss and its gradients; `sizes` empty is a single device."""
    mesh = make_mesh(MeshConfig(**{"data": 1, **sizes})) if sizes else None
    if mesh is None:
        axes = ("data", "fsdp", "tensor", "expert", "context")
        mesh = jax.make_mesh((1,) * 5, axes, devices=jax.devices()[:1])
        mesh = jax.sharding.Mesh(mesh.devices, axes)
    model = Transformer(CONFIG, 20)
    rng = np.random.default_rng(0)
    with jax.set_mesh(mesh):
        shardings = jax.tree.map(lambda x: x.sharding, abstract_params(model, mesh))
        params = jax.device_put(weights(), shardings)
        prompts = rng.integers(2, 20, (8, 5)).astype(np.int32), rng.integers(1, 6, 8).astype(np.int32)
        ids = np.arange(8, dtype=np.int32)
        sampler = make_sampler(model, mesh, stop_ids=(1,), group_size=2, max_new=6, temperature=1.0)
        samples = sampler(params, *to_global(mesh, (*prompts, ids), 8), jax.random.key(1))
        completions = Completions(
            *to_global(mesh, tuple(np.repeat(x, 2, axis=0) for x in prompts), 16),
            samples.completion_BT,
            samples.length_B,
        )
        if pack_length is not None:
            length_B = np.asarray(completions.prompt_length_B + completions.length_B)
            layout = lay_out(length_B, shards=row_shards(mesh), microbatches=microbatches, joined=11, width=pack_length)
            assert len(layout.source_RW) < 16
            layout = Layout(*(to_global(mesh, x, len(x)) for x in layout))
            completions = dataclasses.replace(completions, layout=layout)
        graded_B = to_global(mesh, np.arange(16) != 3, 16)
        offset_BT = 0.3 * jnp.sin(jnp.arange(96.0)).reshape(16, 6)  # off policy: ratios from 0.74 to 1.35
        rollout = Rollout(
            completions=completions,
            sampler_logp_BT=samples.logp_BT,
            old_logp_BT=samples.logp_BT + offset_BT,
            reference_logp_BT=samples.logp_BT - 0.1 * offset_BT,
            advantage_BT=to_global(mesh, rng.normal(size=(16, 6)).astype(np.float32), 16),
            factor_BT=length_mask(samples.length_B, 6) * graded_B[:, None],
            graded_B=graded_B,
        )

        results = jax.jit(functools.partial(gradients, model, losses=losses, microbatches=microbatches))(
            params, rollout
        )
    return np.asarray(samples.completion_BT), jax.tree.map(np.asarray, results)


def gradients(model, params, rollout, *, losses, microbatches):
    """[(loss, gradients)] for several losses. Without micro-batches all of them share one forward and backward."""
    mask_BT = length_mask(rollout.completions.length_B, 6) * rollout.graded_B[:, None]

    def sums(params, loss, part=grpo.loss_and_sums):
        stage = STAGE.model_copy(update={"loss": loss})
        batch = (rollout, reduction_weights(mask_BT, loss.reduce), reduction_weights(mask_BT, "token_mean"))
        part = functools.partial(part, model=model, stage=stage)
        gradient, metrics = summed_gradients(part, (params, None), batch, microbatches)
        return metrics["loss"], gradient[0]

    if microbatches > 1:
        return [sums(params, loss) for loss in losses]
    outputs, backward = jax.vjp(
        lambda p: completion_log_probs(model, p, rollout.completions, temperature=STAGE.temperature), params
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "completion_log_probs", lambda model, outputs, *_, **__: outputs)
        by_loss = [sums(outputs, loss) for loss in losses]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(gradient for _, gradient in by_loss))
    (weights,) = jax.vmap(backward)(stacked)
    return [(loss, jax.tree.map(lambda x, i=i: x[i], weights)) for i, (loss, _) in enumerate(by_loss)]


@pytest.fixture(scope="module")
def unsharded():
    return all_losses({})


def assert_same(results, expected):
    """Losses to 1e-6, whole gradients to 2e-6 of their norm: float32 sums in another order round by up to 1.3e-6."""
    for (loss, gradients), (expected_loss, expected_gradients) in zip(results, expected, strict=True):
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-6, atol=1e-6)
        difference = jax.tree.map(np.subtract, gradients, expected_gradients)
        assert optax.tree.norm(difference) < 2e-6 * optax.tree.norm(expected_gradients)


@pytest.mark.parametrize(
    "sizes",
    [dict(zip(("data", "fsdp", "tensor"), s, strict=True)) for s in FACTORISATIONS] + OTHER,
    ids=lambda sizes: "-".join(f"{axis}{n}" for axis, n in sizes.items()),
)
def test_any_mesh_gives_the_unsharded_samples_losses_and_gradients(sizes, unsharded):
    tokens, results = all_losses(sizes)
    np.testing.assert_array_equal(tokens, unsharded[0])
    assert_same(results, unsharded[1])


@pytest.mark.parametrize(("microbatches", "number"), [(2, 0), (4, 3), (8, 5), (16, 6)])
def test_micro_batches_of_any_size_give_the_same_loss_and_gradients(microbatches, number, unsharded):
    _, results = all_losses({}, microbatches, LOSSES[number : number + 1])
    assert_same(results, unsharded[1][number : number + 1])


@pytest.mark.parametrize(
    ("sizes", "microbatches"), [({}, 1), ({"data": 2, "tensor": 4}, 1), ({"fsdp": 2, "expert": 2, "context": 2}, 2)]
)
def test_packed_rows_give_the_same_losses_and_gradients(sizes, microbatches, unsharded):
    losses = LOSSES if microbatches == 1 else LOSSES[3:4]
    tokens, results = all_losses(sizes, microbatches, losses, pack_length=24)
    np.testing.assert_array_equal(tokens, unsharded[0])
    assert_same(results, unsharded[1] if microbatches == 1 else unsharded[1][3:4])


@pytest.mark.parametrize("sizes", [{"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"data": 1, "context": 8}])
def test_rows_go_out_and_come_back(sizes):
    mesh = make_mesh(MeshConfig(**sizes))
    rows = np.arange(16, dtype=np.int32).reshape(8, 2)
    assert own_rows(mesh, 8).tolist() == list(range(8))
    on_devices = to_global(mesh, rows, 8)
    assert on_devices.sharding.is_equivalent_to(sharding(mesh, "B"), 2)
    np.testing.assert_array_equal(to_local(on_devices), rows)
    np.testing.assert_array_equal(gather(mesh, rows, 8), rows)
    assert row_shards(mesh) == sizes.get("data", 1) * sizes.get("fsdp", 1)
    with pytest.raises(ValueError, match="local rows"):
        to_global(mesh, rows[:4], 8)


def test_weights_lie_where_their_letters_say():
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, tensor=4))
    shapes = jax.eval_shape(lambda: init_params(Transformer(CONFIG, 20), jax.random.key(0)))
    spec = jax.tree.map(lambda s: tuple(s.spec), weight_shardings(mesh, shapes, TRAIN_WEIGHTS))
    attention = spec["layers"]["attention"]
    assert spec["embed_VD"] == ("tensor", "fsdp")
    assert attention["q_DNH"] == (None, "fsdp", "tensor", None)
    assert attention["k_DKH"] == (None, "fsdp", None, None)  # 2 heads on 4 devices: repeated
    assert attention["o_NHD"] == (None, "tensor", None, "fsdp")


def test_meshes_that_do_not_fit():
    with pytest.raises(ConfigError, match="needs 3 devices and there are 8"):
        make_mesh(MeshConfig(data=3))
    with pytest.raises(ConfigError, match="needs 4 devices"):
        make_mesh(MeshConfig(data=2, fsdp=2))
    mesh = make_mesh(MeshConfig(data=1, tensor=8))
    odd = Transformer(CONFIG.model_copy(update={"intermediate_size": 36}), 20)
    with pytest.raises(ConfigError, match="tensor=8 does not divide F=36"):
        abstract_params(odd, mesh)


def test_optimizer_moments_lie_like_their_weights():
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-3), 10)
    abstract = abstract_state(Transformer(CONFIG, 20), optimizer, mesh)
    moments = [x for path, x in jax.tree.leaves_with_path(abstract.opt_state) if "embed_VD" in str(path)]
    assert len(moments) == 2
    assert all(m.sharding == abstract.params["embed_VD"].sharding for m in moments)
