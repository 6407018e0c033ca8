"""Log-probs, what is kept of them and their entropy against float64 numpy; a trainer's are its sampler's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import logprobs
from r1jax.models.logprobs import MASKED

log_probabilities = jax.jit(logprobs.log_probabilities)
kept = jax.jit(logprobs.kept, static_argnames="top_k")
renormalised = jax.jit(logprobs.renormalised)
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
def test_log_probabilities_over_the_tokenizers_ids(temperature, dtype):
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


def kept_by_hand(logp, top_k, top_p):
    """{id: probability}, for one position."""
    likeliest = sorted((i for i in range(len(logp)) if logp[i] > MASKED), key=lambda i: -logp[i])[:top_k]
    p = np.exp(np.float64([logp[i] for i in likeliest]))
    p /= p.sum()
    count = next((n for n in range(1, len(p)) if p[:n].sum() >= top_p), len(p))
    return dict(zip(likeliest[:count], p[:count] / p[:count].sum(), strict=True))


@pytest.mark.parametrize("top_k", [None, 1, 4, 99])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.6, 1e-9])
def test_kept(top_k, top_p):
    logp = log_probabilities(some_logits(seed=1), temperature=1.0, vocabulary=10)
    logp_K, id_K = (np.asarray(x) for x in kept(logp, top_k=top_k, top_p=top_p))
    assert logp_K.shape == id_K.shape == (2, 3, min(top_k or 12, 12))
    np.testing.assert_allclose(np.exp(np.float64(logp_K)).sum(-1), 1, rtol=1e-6)
    for at in np.ndindex(2, 3):
        expected = kept_by_hand(np.asarray(logp[at]), top_k, top_p)
        there = id_K[at] >= 0
        assert id_K[at][there].tolist() == list(expected) and (id_K[at][~there] == -1).all()
        np.testing.assert_allclose(np.exp(logp_K[at][there]), list(expected.values()), rtol=1e-5)
        assert (logp_K[at][~there] == MASKED).all()


def test_top_p_is_of_what_top_k_left():
    """Of [.4, .3, .2, .1], two are left with [.571, .429]: the first alone has half of it, and .4 of the whole."""
    logp = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3]))
    assert kept(logp, top_k=None, top_p=0.5)[1].tolist() == [1, 3, -1, -1]
    assert kept(logp, top_k=2, top_p=0.5)[1].tolist() == [1, -1]


@pytest.mark.parametrize("gap", [0.0, 15.0, 40.0])
def test_a_top_p_of_1_keeps_every_id(gap):
    """However improbable, and however the probabilities before it were rounded on their way to 1."""
    rows = jnp.asarray(some_logits((4, 3000), seed=2)).at[:, 7].add(gap)
    _, id_K = kept(log_probabilities(rows, temperature=1.0, vocabulary=2990), top_k=None, top_p=1.0)
    assert (np.asarray(id_K >= 0).sum(-1) == 2990).all()


@pytest.mark.parametrize(("top_k", "top_p"), [(20, 1.0), (None, 0.8), (20, 0.8)])
def test_the_mean_ratio_over_what_was_kept_is_1(top_k, top_p):
    """Where the trainer takes its probabilities over the sampler's set; over the whole vocabulary it is less."""
    old, new = (log_probabilities(some_logits((5, 50), seed=s) / 3, temperature=1.0, vocabulary=48) for s in (3, 4))
    sampler_K, id_K = kept(old, top_k=top_k, top_p=top_p)

    def mean_ratio(trainer_K):
        """Σ p · (p' / p) over what the sampler may give; nothing divides by the probability 0 of the rest."""
        ratio_K = np.exp(np.where(id_K >= 0, np.float64(trainer_K) - np.float64(sampler_K), 0))
        return (np.exp(np.float64(sampler_K)) * ratio_K).sum(-1)

    np.testing.assert_allclose(mean_ratio(sampler_K), 1, rtol=1e-6)
    whole_K = jnp.take_along_axis(new, jnp.maximum(id_K, 0), axis=-1)
    trainer_K = renormalised(whole_K, id_K >= 0)
    np.testing.assert_allclose(mean_ratio(trainer_K), 1, rtol=1e-5)
    assert (mean_ratio(whole_K) < 0.95).all()
    same_K = renormalised(jnp.take_along_axis(old, jnp.maximum(id_K, 0), axis=-1), id_K >= 0)
    np.testing.assert_allclose(same_K, sampler_K, atol=1e-5)


def test_gradient_over_what_was_kept():
    """Of the first kept id's log-prob, by the logits: nothing where an id was not kept."""
    logits, keep = some_logits((8,), seed=5), np.array([1, 0, 1, 1, 0, 0, 1, 0], bool)

    def by_jax(z):
        return renormalised(log_probabilities(z, temperature=0.7, vocabulary=7), keep)[0]

    expected = slopes(lambda z: log_softmax(z[keep] / 0.7)[0], np.float64(logits))
    gradient = np.asarray(jax.jit(jax.grad(by_jax))(logits))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient[~keep], 0, atol=1e-7)
    assert (np.asarray(renormalised(jnp.ones(8), np.zeros(8, bool))) == MASKED).all()


def test_the_temperature_is_the_samplers():
    """At 0.7, log-probs are of logits / 0.7; of the logits themselves, or divided afterwards, ratios are not 1."""
    logits = some_logits((200, 12), seed=6)
    logp = np.asarray(log_probabilities(logits, temperature=0.7, vocabulary=12))
    exact = log_softmax(np.float64(logits) / 0.7)
    np.testing.assert_allclose(logp, exact, atol=1e-5)
    for other in (log_softmax(logits), log_softmax(logits) / 0.7):
        probability = np.exp(exact)
        assert (probability * abs(np.exp(other - logp) - 1)).sum(-1).mean() > 0.1
