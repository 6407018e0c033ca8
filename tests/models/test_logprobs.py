"""Log-probs and entropies in chunks of positions against plain formulas, values and gradients, on any mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.training import MeshSettings
from r1jax.models import logprobs, make_model
from r1jax.models.logprobs import MASKED, logit_chunks, token_log_probs
from r1jax.parallel.mesh import make_mesh

B, T, D, K, ROWS, VOCABULARY = 4, 11, 16, 5, 64, 20
TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def batch():
    """Hidden states, tokens and what they were drawn from: 1 to K ids, likeliest first; one token is not among them."""
    rng = np.random.default_rng(0)
    hidden_BTD = rng.normal(size=(B, T, D)).astype(np.float32)
    embed_VD = (0.7 * rng.normal(size=(ROWS, D))).astype(np.float32)
    logits_BTV = hidden_BTD @ embed_VD[:VOCABULARY].T
    support_BTK = np.argsort(-logits_BTV, axis=-1)[:, :, :K].astype(np.int32)
    kept_BT = rng.integers(1, K + 1, (B, T))
    place_BT = rng.integers(0, kept_BT)
    token_BT = np.take_along_axis(support_BTK, place_BT[:, :, None], axis=2)[:, :, 0]
    support_BTK[np.arange(K) >= kept_BT[:, :, None]] = -1
    token_BT[1, 2] = np.argmin(logits_BTV[1, 2])
    return {"embed_VD": embed_VD}, hidden_BTD, token_BT, support_BTK


def plain(params, hidden_BTD, token_BT, support_BTK):
    """A softmax over the ids that count; the gradient is JAX's."""
    logits_BTV = jnp.einsum("btd,vd->btv", hidden_BTD, params["embed_VD"][:VOCABULARY]) / TEMPERATURE
    counts_BTV = jnp.ones((B, T, VOCABULARY), bool)
    if support_BTK is not None:
        counts_BTV = (support_BTK[:, :, :, None] == jnp.arange(VOCABULARY)[None, None, None]).any(axis=2)
    p_BTV = jnp.where(counts_BTV, jnp.exp(logits_BTV), 0.0)
    p_BTV /= p_BTV.sum(axis=2, keepdims=True)
    log_BTV = jnp.log(jnp.where(p_BTV > 0, p_BTV, 1.0))
    logp_BTV = jnp.where(p_BTV > 0, log_BTV, MASKED)
    logp_BT = jnp.take_along_axis(logp_BTV, token_BT[:, :, None], axis=2)[:, :, 0]
    return logp_BT, -(p_BTV * log_BTV).sum(axis=2), logits_BTV.argmax(axis=2) == token_BT


def values_and_gradients(function, batch, *, limited):
    """(log-probs, entropy, likeliest) and gradients of a random sum of them by weights and hidden states."""
    params, hidden_BTD, token_BT, support_BTK = batch
    weight_2BT = np.random.default_rng(1).normal(size=(2, B, T)).astype(np.float32)
    weight_2BT[0, 1, 2] = 0  # of the token that was not drawn from its support

    def loss(params, hidden_BTD):
        outputs = function(params, hidden_BTD, token_BT, support_BTK if limited else None)
        return (weight_2BT * jnp.stack(outputs[:2])).sum(), outputs

    gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
    return jax.tree.map(np.asarray, jax.jit(gradient)(params, hidden_BTD)), functools.partial(
        jax.make_jaxpr(gradient), params, hidden_BTD
    )


@pytest.fixture(scope="module")
def expected(batch):
    return {limited: values_and_gradients(plain, batch, limited=limited)[0] for limited in (False, True)}


def of_model(model_config):
    model = make_model(model_config, VOCABULARY)

    def function(params, hidden_BTD, token_BT, support_BTK):
        hidden_BTD, token_BT = jnp.asarray(hidden_BTD), jnp.asarray(token_BT)
        support_BTK = None if support_BTK is None else jnp.asarray(support_BTK)
        return token_log_probs(model, params, hidden_BTD, token_BT, temperature=TEMPERATURE, support_BTK=support_BTK)

    return model, function


def assert_same(results, expected):
    (gradients, (logp, entropy, likeliest)), (plain_gradients, (plain_logp, plain_entropy, plain_likeliest)) = (
        results,
        expected,
    )
    np.testing.assert_allclose(logp, plain_logp, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(entropy, plain_entropy, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(likeliest, plain_likeliest)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), gradients, plain_gradients)


def largest(jaxpr):
    """The most numbers that one array of a computation has, loops and remade parts included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [x.aval.size for x in (*equation.invars, *equation.outvars) if hasattr(x.aval, "size")]
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                sizes.append(largest(inner))
    return max(sizes)


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("chunks", [1, 3, T])
def test_chunks_change_nothing(chunks, limited, batch, expected, model_config, monkeypatch):
    """Of 11 positions 3 chunks have 4, one too many in all; 11 have one each."""
    model, function = of_model(model_config)
    monkeypatch.setattr(logprobs, "LOGITS_BYTES", B * T * ROWS * 4 / chunks + 1)
    monkeypatch.setattr(logprobs, "FEW_BYTES", 0)
    assert logit_chunks(B * T, model) == chunks
    results, jaxpr = values_and_gradients(function, batch, limited=limited)
    assert_same(results, expected[limited])
    assert results[1][0][1, 2] < np.log(1e-3) and (results[1][0][1, 2] == np.float32(MASKED)) == limited
    # Not all of the logits, neither on the way there nor back; but for those of a chunk.
    whole, positions = B * T * ROWS, -(-T // chunks)
    size = largest(jaxpr().jaxpr)
    assert size >= whole if chunks == 1 else size < whole and size == max(B * positions * ROWS, ROWS * D)


@pytest.mark.parametrize("limited", [False, True])
def test_chunks_on_a_mesh(limited, batch, expected, model_config, monkeypatch):
    """Positions over context, the vocabulary over tensor, in 3 chunks of 4 positions."""
    model, function = of_model(model_config)
    with jax.set_mesh(make_mesh(MeshSettings(data=2, context=2, tensor=2))):
        monkeypatch.setattr(logprobs, "LOGITS_BYTES", B * T * ROWS * 4 / 8 / 3 + 1)
        monkeypatch.setattr(logprobs, "FEW_BYTES", 0)
        assert logit_chunks(B * T, model) == 3
        results, _ = values_and_gradients(function, batch, limited=limited)
    assert_same(results, expected[limited])
