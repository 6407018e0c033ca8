"""Top-k, top-p and the draw itself against numpy; trainer and sampler agree over the ids that were kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import logprobs
from r1jax.models.logprobs import MASKED
from r1jax.sampling import draw as module

log_probabilities = jax.jit(logprobs.log_probabilities)
renormalize = jax.jit(logprobs.renormalize)
top_k_top_p = jax.jit(module.top_k_top_p, static_argnames="top_k")


def some_logits(shape=(2, 3, 12), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3


def kept_by_hand(logp, top_k, top_p):
    """{id: probability}, for one position."""
    best = sorted((i for i in range(len(logp)) if logp[i] > MASKED), key=lambda i: -logp[i])[:top_k]
    p = np.exp(np.float64([logp[i] for i in best]))
    p /= p.sum()
    count = next((n for n in range(1, len(p)) if p[:n].sum() >= top_p), len(p))
    return dict(zip(best[:count], p[:count] / p[:count].sum(), strict=True))


@pytest.mark.parametrize("top_k", [None, 1, 4, 99])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.6, 1e-9])
def test_top_k_and_top_p_against_numpy(top_k, top_p):
    logp = log_probabilities(some_logits(seed=1), temperature=1.0, vocabulary=10)
    logp_I, id_I = (np.asarray(x) for x in top_k_top_p(logp, top_k=top_k, top_p=top_p))
    assert logp_I.shape == id_I.shape == (2, 3, min(top_k or 12, 12))
    np.testing.assert_allclose(np.exp(np.float64(logp_I)).sum(-1), 1, rtol=1e-6)
    for at in np.ndindex(2, 3):
        expected = kept_by_hand(np.asarray(logp[at]), top_k, top_p)
        there = id_I[at] >= 0
        assert id_I[at][there].tolist() == list(expected) and (id_I[at][~there] == -1).all()
        np.testing.assert_allclose(np.exp(logp_I[at][there]), list(expected.values()), rtol=1e-5)
        assert (logp_I[at][~there] == MASKED).all()


def test_top_p_counts_what_top_k_left():
    """Of [.4, .3, .2, .1], two are left with [.571, .429]: the first alone has half of it, and .4 of the whole."""
    logp = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3]))
    assert top_k_top_p(logp, top_k=None, top_p=0.5)[1].tolist() == [1, 3, -1, -1]
    assert top_k_top_p(logp, top_k=2, top_p=0.5)[1].tolist() == [1, -1]


@pytest.mark.parametrize("gap", [0.0, 15.0, 40.0])
def test_top_p_of_1_keeps_every_id(gap):
    """However improbable, and however the probabilities before it were rounded on their way to 1."""
    rows = jnp.asarray(some_logits((4, 3000), seed=2)).at[:, 7].add(gap)
    _, id_I = top_k_top_p(log_probabilities(rows, temperature=1.0, vocabulary=2990), top_k=None, top_p=1.0)
    assert (np.asarray(id_I >= 0).sum(-1) == 2990).all()


@pytest.mark.parametrize(("top_k", "top_p"), [(20, 1.0), (None, 0.8), (20, 0.8)])
def test_the_mean_ratio_over_the_kept_ids_is_1(top_k, top_p):
    """Where the trainer takes its probabilities over the sampler's set; over the whole vocabulary it is less."""
    old, new = (log_probabilities(some_logits((5, 50), seed=s) / 3, temperature=1.0, vocabulary=48) for s in (3, 4))
    sampler_I, id_I = top_k_top_p(old, top_k=top_k, top_p=top_p)

    def mean_ratio(trainer_I):
        """Σ p · (p' / p) over what the sampler may give; nothing divides by the probability 0 of the rest."""
        ratio_I = np.exp(np.where(id_I >= 0, np.float64(trainer_I) - np.float64(sampler_I), 0))
        return (np.exp(np.float64(sampler_I)) * ratio_I).sum(-1)

    np.testing.assert_allclose(mean_ratio(sampler_I), 1, rtol=1e-6)
    whole_I = jnp.take_along_axis(new, jnp.maximum(id_I, 0), axis=-1)
    trainer_I = renormalize(whole_I, id_I >= 0)
    np.testing.assert_allclose(mean_ratio(trainer_I), 1, rtol=1e-5)
    assert (mean_ratio(whole_I) < 0.95).all()
    same_I = renormalize(jnp.take_along_axis(old, jnp.maximum(id_I, 0), axis=-1), id_I >= 0)
    np.testing.assert_allclose(same_I, sampler_I, atol=1e-5)


def test_draw_follows_the_distribution():
    p = np.array([0.0, 0.5, 0.2, 0.0, 0.3, 0.0])
    logp = jnp.where(jnp.array(p) > 0, jnp.log(jnp.array(p)), -1e30)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(module.draw(jnp.broadcast_to(logp[None], (20_000, 6)), keys, greedy=False))
    share = np.bincount(drawn, minlength=6) / len(drawn)
    assert (share[p == 0] == 0).all()
    assert np.abs(share - p).max() < 4 * np.sqrt(0.25 / len(drawn))
