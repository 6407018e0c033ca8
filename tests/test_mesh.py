"""Every factorisation of 8 devices against the unsharded run; rows to devices and back; meshes that do not fit."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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
from r1jax.models.completions import Completions
from r1jax.models.dense import Transformer
from r1jax.optimizer import make_optimizer
from r1jax.programs.grpo import update_step
from r1jax.rollout import Rollout
from r1jax.sampler import make_sampler
from r1jax.settings import ConfigError
from r1jax.state import abstract_params, abstract_state, init_params, init_state

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
# Plain descent of rate 1, so that the change of the weights is the gradient.
STAGE = GrpoStage(
    name="rl",
    program="grpo",
    steps=1,
    prompts_per_step=8,
    group_size=2,
    kl_coef=0.1,
    rewards={"accuracy": 1.0},
    optimizer=OptimizerConfig(learning_rate=1.0),
)


@pytest.fixture(autouse=True)
def scanned(monkeypatch):
    """Layers in a loop, as in models with many: less to compile."""
    monkeypatch.setattr(dense, "UNROLLED_LAYERS", 1)


def one_step(sizes: dict[str, int]):
    """Samples, loss and gradients of a fixed batch on a mesh; `sizes` empty is a single device."""
    mesh = make_mesh(MeshConfig(**{"data": 1, **sizes})) if sizes else None
    if mesh is None:
        axes = ("data", "fsdp", "tensor", "expert", "context")
        mesh = jax.make_mesh((1,) * 5, axes, devices=jax.devices()[:1])
        mesh = jax.sharding.Mesh(mesh.devices, axes)
    model = Transformer(CONFIG, 20)
    rng = np.random.default_rng(0)
    with jax.set_mesh(mesh):
        shardings = jax.tree.map(lambda x: x.sharding, abstract_params(model, mesh))
        params = jax.jit(lambda: init_params(model, jax.random.key(0)), out_shardings=shardings)()
        prompts = rng.integers(2, 20, (8, 5)).astype(np.int32), rng.integers(1, 6, 8).astype(np.int32)
        ids = np.arange(8, dtype=np.int32)
        sampler = make_sampler(model, mesh, stop_ids=(1,), group_size=2, max_new=6, temperature=1.0)
        samples = sampler(params, *to_global(mesh, (*prompts, ids), 8), jax.random.key(1))
        rollout = Rollout(
            Completions(
                *to_global(mesh, tuple(np.repeat(x, 2, axis=0) for x in prompts), 16),
                samples.completion_BT,
                samples.length_B,
            ),
            samples.logp_BT + 0.3 * jnp.sin(jnp.arange(96.0)).reshape(16, 6),  # off policy: ratios from 0.74 to 1.35
            to_global(mesh, rng.normal(size=16).astype(np.float32), 16),
            to_global(mesh, np.arange(16) != 3, 16),
        )
        sgd = optax.sgd(1.0)
        abstract = abstract_state(model, sgd, mesh, keep_reference=True)
        before = jax.tree.map(np.asarray, params)
        state = init_state(abstract, sgd, params)
        state = dataclasses.replace(state, reference=jax.tree.map(lambda x: 0.9 * x, state.reference))
        step = jax.jit(
            lambda s, r: update_step(
                s, r, jax.random.key(0), 0, model=model, optimizer=sgd, stage=STAGE, microbatches=1
            )
        )
        state, metrics = step(state, rollout)
        gradients = jax.tree.map(lambda a, b: a - np.asarray(b), before, state.params)
    return np.asarray(samples.completion_BT), float(metrics["loss"]), gradients


@pytest.fixture(scope="module")
def unsharded():
    return one_step({})


@pytest.mark.parametrize(
    "sizes",
    [dict(zip(("data", "fsdp", "tensor"), s, strict=True)) for s in FACTORISATIONS] + OTHER,
    ids=lambda sizes: "-".join(f"{axis}{n}" for axis, n in sizes.items()),
)
def test_any_mesh_gives_the_unsharded_samples_loss_and_gradients(sizes, unsharded):
    tokens, loss, gradients = one_step(sizes)
    np.testing.assert_array_equal(tokens, unsharded[0])
    np.testing.assert_allclose(loss, unsharded[1], atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients, unsharded[2])


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
    abstract = abstract_state(Transformer(CONFIG, 20), optimizer, mesh, keep_reference=False)
    moments = [x for path, x in jax.tree.leaves_with_path(abstract.opt_state) if "embed_VD" in str(path)]
    assert len(moments) == 2
    assert all(m.sharding == abstract.params["embed_VD"].sharding for m in moments)
