"""The decoder against a plain numpy one, and its three uses (a row each, packed, cached) against each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import forward as eager_forward
from r1jax.models import init_params, make_model, prefill
from r1jax.models import unembed as eager_unembed

forward, unembed = jax.jit(eager_forward, static_argnums=0), jax.jit(eager_unembed, static_argnums=0)
VOCABULARY = 20
FAMILIES = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True, "rope_theta": 1e6},
}


def build(config, seed=0):
    """A model whose every weight is random, norms and biases too, so that none can be left out unnoticed."""
    model = make_model(config, VOCABULARY)
    params = jax.jit(init_params, static_argnums=0)(model, jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noisy = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return model, jax.tree.unflatten(tree, noisy)


def rms(x, scale, epsilon):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def rotate(vector, position, theta):
    """Pairs (i, i + H/2) turned by position · theta^(-2i/H), one at a time."""
    out, half = vector.copy(), len(vector) // 2
    for i in range(half):
        angle = position * theta ** (-2 * i / len(vector))
        a, b = vector[i], vector[i + half]
        out[i], out[i + half] = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
    return out


def naive_logits(config, params, tokens):
    """One row of tokens → logits, in float64, with loops over heads and positions."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    c, T = config, len(tokens)
    x = p["embed_VD"][tokens]
    for layer in range(c.num_hidden_layers):
        w = jax.tree.map(lambda a: a[layer], p["layers"])  # noqa: B023
        att, h = w["attention"], rms(x, w["attention_norm"]["scale_D"], c.rms_norm_eps)
        heads = {}
        for name, letter in (("q", "N"), ("k", "K"), ("v", "K")):
            y = np.einsum("td,dnh->tnh", h, att[f"{name}_D{letter}H"])
            if c.qkv_bias:
                y = y + att[f"{name}_bias_{letter}H"]
            if c.qk_norm and name != "v":
                y = rms(y, att[f"{name}_norm"]["scale_H"], c.rms_norm_eps)
            if name != "v":
                y = np.array([[rotate(y[t, n], t, c.rope_theta) for n in range(y.shape[1])] for t in range(T)])
            heads[name] = y
        out = np.zeros((T, c.num_attention_heads, c.head_dim))
        for n in range(c.num_attention_heads):
            k = n // (c.num_attention_heads // c.num_key_value_heads)
            for t in range(T):
                scores = heads["k"][: t + 1, k] @ heads["q"][t, n] / np.sqrt(c.head_dim)
                weights = np.exp(scores - scores.max())
                out[t, n] = weights / weights.sum() @ heads["v"][: t + 1, k]
        x = x + np.einsum("tnh,nhd->td", out, att["o_NHD"])
        h, mlp = rms(x, w["mlp_norm"]["scale_D"], c.rms_norm_eps), w["mlp"]
        gate = h @ mlp["gate_DF"]
        x = x + (gate / (1 + np.exp(-gate)) * (h @ mlp["up_DF"])) @ mlp["down_FD"]
    return rms(x, p["norm"]["scale_D"], c.rms_norm_eps) @ (
        p["embed_VD"].T if c.tie_word_embeddings else p["unembed_DV"]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_numpy(family, model_config):
    config = dataclasses.replace(model_config, **FAMILIES[family])
    model, params = build(config)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (2, 7))
    logits = unembed(model, params, forward(model, params, jnp.array(tokens))[0])
    assert logits.shape == (2, 7, model.rows) and logits.dtype == jnp.float32
    for row in range(2):
        np.testing.assert_allclose(logits[row], naive_logits(config, params, tokens[row]), atol=1e-4)


def test_packed_equals_separate(model_config):
    model, params = build(model_config)
    a, b = jnp.array([[3, 4, 5, 6]]), jnp.array([[7, 8, 9]])
    packed = jnp.concatenate([a, b], axis=1)
    positions, segments = jnp.array([[0, 1, 2, 3, 0, 1, 2]]), jnp.array([[0, 0, 0, 0, 1, 1, 1]])
    hidden, _ = forward(model, params, packed, positions, segments)
    np.testing.assert_allclose(hidden[:, :4], forward(model, params, a)[0], atol=1e-5)
    np.testing.assert_allclose(hidden[:, 4:], forward(model, params, b)[0], atol=1e-5)


@pytest.mark.parametrize("gather", [True, False])  # with unrolled layers, and as in sampling
def test_cached_equals_uncached_at_any_split(gather, model_config):
    model, params = build(model_config)
    tokens = jnp.array(np.random.default_rng(1).integers(0, VOCABULARY, (3, 8)))
    whole, _ = forward(model, params, tokens)
    model = model.clone(gather=gather)
    for sizes in ((8,), (5, 1, 1, 1)):
        cache, start, parts = model.empty_cache(3, 10), 0, []
        for size in sizes:
            positions = jnp.broadcast_to(start + jnp.arange(size)[None], (3, size))
            hidden, cache = forward(model, params, tokens[:, start : start + size], positions, cache=cache)
            parts.append(hidden)
            start += size
        np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=1e-5)
        assert int(cache.filled) == 8


def test_a_shared_prompt_equals_rows_that_repeat_it(model_config):
    """Two samples each of two prompts of unequal length, decoded from the shared prompt cache, token by token."""
    model, params = build(model_config)
    rng = np.random.default_rng(2)
    prompts, lengths, answers = rng.integers(0, VOCABULARY, (2, 5)), np.array([5, 3]), rng.integers(0, 20, (4, 3))
    last, prefix = prefill(model, params, jnp.array(prompts), jnp.array(lengths))
    cache, hidden = model.empty_cache(4, 3), []
    for t in range(3):
        positions = jnp.array(np.repeat(lengths, 2)[:, None] + t)
        step, cache = forward(model, params, jnp.array(answers[:, t : t + 1]), positions, cache=cache, prefix=prefix)
        hidden.append(step[:, 0])
    for row in range(4):
        whole = np.concatenate([prompts[row // 2][: lengths[row // 2]], answers[row]])
        expected, _ = forward(model, params, jnp.array(whole[None]))
        np.testing.assert_allclose(jnp.stack([h[row] for h in hidden]), expected[0, -3:], atol=1e-5)
        np.testing.assert_allclose(last[row // 2], expected[0, -4], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [2, 6])  # unrolled and scanned
@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation_changes_no_gradient(remat, layers, model_config):
    config = dataclasses.replace(model_config, num_hidden_layers=layers)
    model, params = build(config)
    again = make_model(dataclasses.replace(config, remat=remat), VOCABULARY)
    tokens = jnp.array([[1, 2, 3, 4, 5]])
    gradients = [jax.jit(jax.grad(lambda p, m=m: forward(m, p, tokens)[0].sum()))(params) for m in (model, again)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *gradients)


def test_bfloat16_is_near_float32(model_config):
    model, params = build(model_config)
    low = make_model(dataclasses.replace(model_config, dtype="bfloat16"), VOCABULARY)
    tokens = jnp.array([[1, 2, 3, 4, 5]])
    exact, near = (unembed(m, params, forward(m, params, tokens)[0]) for m in (model, low))
    assert near.dtype == jnp.float32 and 0 < np.abs(exact - near).max() < 0.15 * np.abs(exact).max()
