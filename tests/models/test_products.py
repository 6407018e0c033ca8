"""Gradients of look-ups against float64 sums, on one device and on meshes, and what moves between devices."""

import dataclasses
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.training import MeshSettings
from r1jax.models import abstract_params, forward, init_params, make_model, unembed
from r1jax.models.products import dense, logits, lookup
from r1jax.parallel.mesh import TRAIN_WEIGHTS, make_mesh, sharding, weight_shardings
from r1jax.planning.hlo import program_cost

MESHES = [{"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 2, "expert": 2, "context": 2}]


def random(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("axes", [None, *MESHES])
def test_a_token_seen_2048_times_keeps_its_gradient(axes):
    """Sums of 2,048 gradients in bfloat16, which in bfloat16 would stop growing at 256 times one of them."""
    embed_VD, token_BT = random(64, 16), jnp.full((8, 256), 5)
    gradient_BTD = random(8, 256, 16, seed=1, dtype=jnp.bfloat16) + 1

    def pulled(embed_VD, token_BT, gradient_BTD):
        x_BTD, pull = jax.vjp(lambda w: lookup(w, token_BT, "bfloat16"), embed_VD)
        return x_BTD, pull(gradient_BTD)[0]

    if axes is None:
        x_BTD, sum_VD = jax.jit(pulled)(embed_VD, token_BT, gradient_BTD)
    else:
        mesh = make_mesh(MeshSettings(**{"data": 1} | axes))
        with jax.set_mesh(mesh):
            where = weight_shardings(mesh, {"embed_VD": embed_VD}, TRAIN_WEIGHTS)["embed_VD"]
            x_BTD, sum_VD = jax.jit(pulled, in_shardings=(where, sharding(mesh, "BT"), sharding(mesh, "BTD")))(
                embed_VD, token_BT, gradient_BTD
            )
        assert sum_VD.sharding.is_equivalent_to(where, 2)
    np.testing.assert_array_equal(x_BTD, embed_VD.astype(jnp.bfloat16)[token_BT])
    expected_VD = np.zeros((64, 16))
    expected_VD[5] = np.float64(gradient_BTD).sum((0, 1))
    np.testing.assert_allclose(sum_VD, expected_VD, rtol=1e-5)
    low = jax.grad(lambda w: jnp.sum(w.astype(jnp.bfloat16)[token_BT] * gradient_BTD))(embed_VD)
    assert np.abs(low[5] / expected_VD[5]).max() < 0.9  # what the test is there to see


def test_a_look_up_moves_activations_and_not_the_table():
    mesh, B, T, D, V = make_mesh(MeshSettings(data=1, fsdp=8)), 16, 8, 16, 4096
    embed_VD = jax.ShapeDtypeStruct((V, D), jnp.float32)
    where = weight_shardings(mesh, {"embed_VD": embed_VD}, TRAIN_WEIGHTS)["embed_VD"]
    tokens = jax.ShapeDtypeStruct((B, T), jnp.int32, sharding=sharding(mesh, "BT"))
    with jax.set_mesh(mesh):
        gradient = jax.jit(jax.grad(lambda w, t: jnp.sum(lookup(w, t, "float32") ** 2)), out_shardings=where)
        text = gradient.lower(jax.ShapeDtypeStruct((V, D), jnp.float32, sharding=where), tokens).compile().as_text()
    assert 0 < program_cost(text).bytes_sent() <= 3 * B * T * D * 4 < V * D * 4


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_the_embeddings_gradient_in_bfloat16_is_near_that_in_float32(tied, model_config):
    """One token 2,048 times, through the whole model: as good as its activations are, and not as its sum would be."""

    def gradient(dtype):
        config = dataclasses.replace(model_config, dtype=dtype, tie_word_embeddings=tied, num_hidden_layers=1)
        model = make_model(config, 20)
        params = init_params(model, jax.random.key(0))
        tokens = jnp.full((64, 32), 5)

        def loss(params):
            logits_BTV = unembed(model, params, forward(model, params, tokens)[0])
            return jnp.sum(jax.nn.log_softmax(logits_BTV)[:, :, 7])

        return np.asarray(jax.jit(jax.grad(loss))(params)["embed_VD"])

    exact, near = gradient("float32"), gradient("bfloat16")
    assert np.linalg.norm(near - exact) < 0.01 * np.linalg.norm(exact)
    assert np.linalg.norm(near[5] - exact[5]) < 0.01 * np.linalg.norm(exact[5])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axes", MESHES)
def test_products_equal_einsum_on_any_mesh(axes, dtype):
    """Values, and gradients by activations and weights, of each equation that a layer has, to the type's rounding."""
    mesh = make_mesh(MeshSettings(**{"data": 1} | axes))
    sizes = {"B": 8, "T": 4, "D": 8, "N": 4, "K": 2, "H": 4, "F": 16}
    for equation in ("BTD,DNH->BTNH", "BTD,DKH->BTKH", "BTNH,NHD->BTD", "BTD,DF->BTF", "BTF,FD->BTD"):
        x, w, y = (random(*map(sizes.get, letters), seed=7) for letters in equation.replace("->", ",").split(","))

        def pulled(function, x, w, y, equation=equation):
            value, pull = jax.vjp(lambda x, w: function(equation, x, w), x, w)
            return value, *pull(y)

        with jax.set_mesh(mesh):
            got = jax.jit(pulled, static_argnums=0)(dense, x.astype(dtype), w, y.astype(dtype))
        assert [a.dtype for a in got] == [dtype, dtype, "float32"]
        rounded = (a.astype(dtype).astype("float32") for a in (x, w, y))
        for a, b in zip(got, jax.jit(pulled, static_argnums=0)(jnp.einsum, *rounded), strict=True):
            error = 1e-5 if dtype == "float32" else 2**-7
            np.testing.assert_allclose(np.float32(a), b, rtol=error, atol=error * np.abs(b).max())


def test_gradients_of_logits_in_bfloat16():
    x_BTD, w_VD, y_BTV = random(2, 3, 16, dtype="bfloat16"), random(32, 16, dtype="bfloat16"), random(2, 3, 32)

    def gradients(function):
        y, pull = jax.vjp(function, x_BTD, w_VD)
        return [y, *pull(y_BTV)]

    exact = [jnp.einsum("BTD,VD->BTV", *map(jnp.float32, (x_BTD, w_VD)))]
    exact += [jnp.einsum("BTV,VD->BTD", y_BTV, jnp.float32(w_VD)), jnp.einsum("BTV,BTD->VD", y_BTV, jnp.float32(x_BTD))]
    for function in (logits, jax.jit(logits)):
        for a, b in zip(gradients(function), exact, strict=True):
            np.testing.assert_allclose(np.float32(a), b, rtol=2**-7, atol=2**-7 * np.abs(b).max())


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
@pytest.mark.parametrize("axes", [{"fsdp": 8}, {"fsdp": 4, "tensor": 2}])
def test_each_weight_is_gathered_once_a_pass(axes, remat, model_config):
    """Once forward and once backward in each layer, and its gradient is reduced once, in bytes of the compute type."""
    layers, D, F, N, K, H = 6, 32, 320, 8, 4, 24
    config = dataclasses.replace(
        model_config, hidden_size=D, intermediate_size=F, num_attention_heads=N, num_key_value_heads=K, head_dim=H,
        num_hidden_layers=layers, remat=remat,
    )  # fmt: skip
    model, mesh = make_model(config, 64), make_mesh(MeshSettings(**{"data": 1} | axes))
    weights = abstract_params(model, mesh)
    tokens = jax.ShapeDtypeStruct((8, 2), jnp.int32, sharding=sharding(mesh, "BT"))
    with jax.set_mesh(mesh):
        loss = jax.jit(
            jax.grad(lambda params, tokens: jnp.sum(forward(model, params, tokens)[0] ** 2)),
            out_shardings=jax.tree.map(lambda w: w.sharding, weights),
        )
        cost = program_cost(loss.lower(weights, tokens).compile().as_text())
    parts = mesh.shape["tensor"]
    attention, mlp = [D * N * H * 4 // parts] * 2 + [D * K * H * 4 // parts] * 2, [D * F * 4 // parts] * 3
    gathered, reduced = Counter(), Counter()
    for (kind, size), number in cost.sizes().items():
        if size >= min(attention):
            (gathered if kind == "all-gather" else reduced)[size] += number
    assert gathered.total() == gathered[attention[0]] + gathered[attention[2]] + gathered[mlp[0]]
    bytes_of_layer = sum(attention + mlp)
    assert sum(size * number for size, number in gathered.items()) == 2 * layers * bytes_of_layer
    # XLA puts the gradients of norms in with those of a weight.
    assert 1 <= sum(size * number for size, number in reduced.items()) / (layers * bytes_of_layer) < 1.01
