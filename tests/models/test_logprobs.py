"""Log-probs and entropies against float64 numpy and plain formulas, values and gradients, in chunks and on any mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.training import MeshSettings
from r1jax.models import abstract_params, head, logprobs, make_model
from r1jax.models.logprobs import MASKED, logit_chunks, token_log_probs
from r1jax.parallel.mesh import make_mesh, sharding
from r1jax.planning.hlo import program_cost

B, T, D, SUPPORT, ROWS, VOCABULARY = 4, 11, 16, 5, 64, 20
TEMPERATURE = 0.7

log_probabilities = jax.jit(logprobs.log_probabilities)
renormalize = jax.jit(logprobs.renormalize)
entropy = jax.jit(logprobs.entropy)


def log_softmax(z):
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def some_logits(shape=(2, 3, 12), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3


def slopes(function, x, h=1e-5):
    """Central differences of a number by each x."""
    result = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[at] = h
        result[at] = (function(x + step) - function(x - step)) / (2 * h)
    return result


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_log_probabilities_are_over_the_tokenizers_ids(temperature, dtype):
    logits = jnp.asarray(some_logits(), dtype)
    logp = np.asarray(log_probabilities(logits, temperature=temperature, vocabulary=9))
    assert logp.dtype == np.float32 and (logp[..., 9:] == MASKED).all()
    np.testing.assert_allclose(logp[..., :9], log_softmax(np.float64(logits)[..., :9] / temperature), atol=2e-6)


def test_gradients_of_log_probabilities_and_of_their_entropy():
    """Of one sampled token and of the entropy, by every logit; ids that are no token's have none."""
    logits = some_logits((12,))

    def by_jax(z):
        logp = log_probabilities(z, temperature=0.7, vocabulary=9)
        return logp[3], entropy(logp)

    def by_hand(z):
        logp = log_softmax(z[:9] / 0.7)
        return np.array([logp[3], -(np.exp(logp) * logp).sum()])

    np.testing.assert_allclose(np.stack(by_jax(logits)), by_hand(np.float64(logits)), rtol=1e-5, atol=1e-6)
    for gradient, i in zip(jax.jit(jax.jacrev(by_jax))(logits), range(2), strict=True):
        expected = slopes(lambda z, i=i: by_hand(z)[i], np.float64(logits))
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
        assert (gradient[9:] == 0).all()


def test_entropy_of_uniform_and_certain():
    logits = jnp.array([[0.0, 0.0, 0.0, 9.0], [500.0, 0, 0, 0]])

    def of(z):
        return entropy(log_probabilities(z, temperature=1.0, vocabulary=3))

    np.testing.assert_allclose(of(logits), [np.log(3), 0.0], atol=1e-6)
    assert (np.asarray(jax.jit(jax.grad(lambda z: of(z).sum()))(logits))[1] == 0).all()


def test_gradient_over_the_ids_that_were_kept():
    """Of the first kept id's log-prob, by the logits: none for an id that was not kept."""
    logits, keep = some_logits((8,), seed=5), np.array([1, 0, 1, 1, 0, 0, 1, 0], bool)

    def by_jax(z):
        return renormalize(log_probabilities(z, temperature=0.7, vocabulary=7), keep)[0]

    expected = slopes(lambda z: log_softmax(z[keep] / 0.7)[0], np.float64(logits))
    gradient = np.asarray(jax.jit(jax.grad(by_jax))(logits))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient[~keep], 0, atol=1e-7)
    assert (np.asarray(renormalize(jnp.ones(8), np.zeros(8, bool))) == MASKED).all()


def test_the_temperature_is_the_samplers():
    """At 0.7, log-probs are of logits / 0.7; of the logits themselves, or divided afterwards, ratios are not 1."""
    logits = some_logits((200, 12), seed=6)
    logp = np.asarray(log_probabilities(logits, temperature=0.7, vocabulary=12))
    exact = log_softmax(np.float64(logits) / 0.7)
    np.testing.assert_allclose(logp, exact, atol=1e-5)
    for other in (log_softmax(logits), log_softmax(logits) / 0.7):
        probability = np.exp(exact)
        assert (probability * abs(np.exp(other - logp) - 1)).sum(-1).mean() > 0.1


@pytest.fixture(scope="module")
def batch():
    """Hidden states, tokens and the ids they were drawn from, most probable first; one token is not among its own."""
    rng = np.random.default_rng(0)
    hidden_BTD = rng.normal(size=(B, T, D)).astype(np.float32)
    embed_VD = (0.7 * rng.normal(size=(ROWS, D))).astype(np.float32)
    logits_BTV = hidden_BTD @ embed_VD[:VOCABULARY].T
    support_BTI = np.argsort(-logits_BTV, axis=-1)[:, :, :SUPPORT].astype(np.int32)
    kept_BT = rng.integers(1, SUPPORT + 1, (B, T))
    place_BT = rng.integers(0, kept_BT)
    token_BT = np.take_along_axis(support_BTI, place_BT[:, :, None], axis=2)[:, :, 0]
    support_BTI[np.arange(SUPPORT) >= kept_BT[:, :, None]] = -1
    token_BT[1, 2] = np.argmin(logits_BTV[1, 2])
    return {"embed_VD": embed_VD}, hidden_BTD, token_BT, support_BTI


def plain(params, hidden_BTD, token_BT, support_BTI):
    """A softmax over the ids that count; the gradient is JAX's."""
    logits_BTV = jnp.einsum("btd,vd->btv", hidden_BTD, params["embed_VD"][:VOCABULARY]) / TEMPERATURE
    counts_BTV = jnp.ones((B, T, VOCABULARY), bool)
    if support_BTI is not None:
        counts_BTV = (support_BTI[:, :, :, None] == jnp.arange(VOCABULARY)[None, None, None]).any(axis=2)
    p_BTV = jnp.where(counts_BTV, jnp.exp(logits_BTV), 0.0)
    p_BTV /= p_BTV.sum(axis=2, keepdims=True)
    log_BTV = jnp.log(jnp.where(p_BTV > 0, p_BTV, 1.0))
    logp_BTV = jnp.where(p_BTV > 0, log_BTV, MASKED)
    logp_BT = jnp.take_along_axis(logp_BTV, token_BT[:, :, None], axis=2)[:, :, 0]
    return logp_BT, -(p_BTV * log_BTV).sum(axis=2), logits_BTV.argmax(axis=2) == token_BT


def values_and_gradients(function, batch, *, limited):
    """(log-probs, entropy, is_argmax) and gradients of a random sum of them by weights and hidden states."""
    params, hidden_BTD, token_BT, support_BTI = batch
    weight_2BT = np.random.default_rng(1).normal(size=(2, B, T)).astype(np.float32)
    weight_2BT[0, 1, 2] = 0  # of the token that was not drawn from its support

    def loss(params, hidden_BTD):
        outputs = function(params, hidden_BTD, token_BT, support_BTI if limited else None)
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

    def function(params, hidden_BTD, token_BT, support_BTI):
        hidden_BTD, token_BT = jnp.asarray(hidden_BTD), jnp.asarray(token_BT)
        support_BTI = None if support_BTI is None else jnp.asarray(support_BTI)
        return token_log_probs(model, params, hidden_BTD, token_BT, temperature=TEMPERATURE, support_BTI=support_BTI)

    return model, function


def assert_same(results, expected):
    (gradients, (logp, entropy, is_argmax)), (plain_gradients, (plain_logp, plain_entropy, plain_is_argmax)) = (
        results,
        expected,
    )
    np.testing.assert_allclose(logp, plain_logp, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(entropy, plain_entropy, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(is_argmax, plain_is_argmax)
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
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", B * T * ROWS * 4 / chunks + 1)
    monkeypatch.setattr(logprobs, "UNCHUNKED_BYTES", 0)
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
        monkeypatch.setattr(logprobs, "CHUNK_BYTES", B * T * ROWS * 4 / 8 / 3 + 1)
        monkeypatch.setattr(logprobs, "UNCHUNKED_BYTES", 0)
        assert logit_chunks(B * T, model) == 3
        results, _ = values_and_gradients(function, batch, limited=limited)
    assert_same(results, expected[limited])


@pytest.mark.parametrize("axes", [{"fsdp": 8}, {"data": 2, "fsdp": 4}, {"fsdp": 2, "tensor": 2, "context": 2}])
def test_the_vocabulary_moves_once(axes, model_config, monkeypatch):
    """Whatever the chunks: the matrix is gathered once, and its gradient reduced once, outside the loop."""
    V, width, tokens = 512, 16, (16, 32)
    config = dataclasses.replace(model_config, vocab_size=V, tie_word_embeddings=False)
    model, mesh = make_model(config, V), make_mesh(MeshSettings(**{"data": 1} | axes))
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", tokens[0] * tokens[1] * V * 4 / 8 / 4)
    monkeypatch.setattr(logprobs, "UNCHUNKED_BYTES", 0)

    def loss(params, hidden_BTD, token_BT):
        logp_BT, entropy_BT, _ = token_log_probs(model, params, hidden_BTD, token_BT, temperature=1.0)
        return jnp.sum(logp_BT * entropy_BT)

    def of(shape, dtype, where):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

    rows = sharding(mesh, "BT")
    with jax.set_mesh(mesh):
        assert logit_chunks(tokens[0] * tokens[1], model) == 4
        weights = head(abstract_params(model, mesh))
        shardings = jax.tree.map(lambda w: w.sharding, weights), sharding(mesh, "BTD")
        arguments = weights, of((*tokens, width), jnp.float32, shardings[1])
        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), out_shardings=shardings)
        cost = program_cost(gradient.lower(*arguments, of(tokens, jnp.int32, rows)).compile().as_text())
    size = width * V * 4 // mesh.shape["tensor"]
    moved = {kind: number for (kind, bytes), number in cost.sizes().items() if bytes > size / mesh.shape["fsdp"]}
    assert moved["all-gather"] == 1 and sum(moved.values()) == 2, cost.collectives
