"""Top-k, top-p, min-p and the draw itself against numpy; trainer and sampler agree over the ids that were kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from r1jax.models import logprobs
from r1jax.models.logprobs import MASKED
from r1jax.sampling import draw as module

log_probabilities = jax.jit(logprobs.log_probabilities)
renormalize = jax.jit(logprobs.renormalize)
most_probable = jax.jit(module.most_probable, static_argnames=("top_k", "min_p"))


def some_logits(shape=(2, 3, 12), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3


def kept_by_hand(logp, top_k, top_p, min_p):
    """{id: probability}, for one position."""
    best = sorted((i for i in range(len(logp)) if logp[i] > MASKED), key=lambda i: -logp[i])[:top_k]
    p = np.exp(np.float64([logp[i] for i in best]))
    p /= p.sum()
    count = next((n for n in range(1, len(p)) if p[:n].sum() >= top_p), len(p))
    count = sum(p[:count] >= min_p * p[0])
    return dict(zip(best[:count], p[:count] / p[:count].sum(), strict=True))


@pytest.mark.parametrize("top_k", [None, 1, 4, 99])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.6, 1e-9])
@pytest.mark.parametrize("min_p", [0.0, 0.02, 0.5])
def test_filters_against_numpy(top_k, top_p, min_p):
    logp = log_probabilities(some_logits(seed=1), temperature=1.0, vocabulary=10)
    logp_I, id_I = (np.asarray(x) for x in most_probable(logp, top_k=top_k, top_p=top_p, min_p=min_p))
    assert logp_I.shape == id_I.shape == (2, 3, min(top_k or 12, 12))
    np.testing.assert_allclose(np.exp(np.float64(logp_I)).sum(-1), 1, rtol=1e-6)
    for at in np.ndindex(2, 3):
        expected = kept_by_hand(np.asarray(logp[at]), top_k, top_p, min_p)
        there = id_I[at] >= 0
        assert id_I[at][there].tolist() == list(expected) and (id_I[at][~there] == -1).all()
        np.testing.assert_allclose(np.exp(logp_I[at][there]), list(expected.values()), rtol=1e-5)
        assert (logp_I[at][~there] == MASKED).all()


def test_top_p_counts_what_top_k_left():
    """Of [.4, .3, .2, .1], two are left with [.571, .429]: the first alone has half of it, and .4 of the whole."""
    logp = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3]))
    assert most_probable(logp, top_k=None, top_p=0.5)[1].tolist() == [1, 3, -1, -1]
    assert most_probable(logp, top_k=2, top_p=0.5)[1].tolist() == [1, -1]


@pytest.mark.parametrize("gap", [0.0, 15.0, 40.0])
def test_top_p_of_1_keeps_every_id(gap):
    """However improbable, and however the probabilities before it were rounded on their way to 1."""
    rows = jnp.asarray(some_logits((4, 3000), seed=2)).at[:, 7].add(gap)
    _, id_I = most_probable(log_probabilities(rows, temperature=1.0, vocabulary=2990), top_k=None, top_p=1.0)
    assert (np.asarray(id_I >= 0).sum(-1) == 2990).all()


@pytest.mark.parametrize(("top_k", "top_p"), [(20, 1.0), (None, 0.8), (20, 0.8)])
def test_the_mean_ratio_over_the_kept_ids_is_1(top_k, top_p):
    """Where the trainer takes its probabilities over the sampler's set; over the whole vocabulary it is less."""
    old, new = (log_probabilities(some_logits((5, 50), seed=s) / 3, temperature=1.0, vocabulary=48) for s in (3, 4))
    sampler_I, id_I = most_probable(old, top_k=top_k, top_p=top_p)

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


def distribution(name):
    rng = np.random.default_rng(5)
    if name == "some impossible":
        return np.array([0.0, 0.5, 0.2, 0.0, 0.3, 0.0])
    if name == "impossible blocks":  # nothing in the first, the third and the last block of 128
        p = np.zeros(600)
        p[[130, 255, 400, 401]] = 0.1, 0.2, 0.3, 0.4
        return p
    p = np.exp(rng.normal(size={"flat": 400, "peaked": 300}[name]) * {"flat": 0.5, "peaked": 4}[name])
    return p / p.sum()


FILTERS = [{}, {"top_k": 20}, {"top_p": 0.7}, {"min_p": 0.2}, {"top_k": 30, "top_p": 0.9, "min_p": 0.1}]


@pytest.mark.parametrize(
    ("name", "filters"),
    [*((name, {}) for name in ("some impossible", "impossible blocks", "peaked")), *(("flat", f) for f in FILTERS)],
    ids=str,
)
def test_draws_follow_the_distribution(name, filters):
    """100,000 draws: Pearson's chi-square over the ids of 5 and more expected draws, the rest as one, and Kolmogorov
    and Smirnov's test of where in the cumulative distribution the draws are."""
    p, draws = distribution(name), 100_000
    logits = jnp.where(jnp.array(p) > 0, jnp.log(jnp.array(p)) + 7, MASKED)  # not normalised
    keys = jax.random.split(jax.random.key(0), draws)

    @jax.jit
    def draw(logits_V, key_B):
        id_I = jnp.arange(len(p))
        if filters:
            logits_V, id_I = module.most_probable(logits_V, **{"top_k": None, "top_p": 1.0} | filters)
        place_B, logp_B = module.draw(jnp.broadcast_to(logits_V, (draws, len(logits_V))), key_B, greedy=False)
        return id_I[place_B], logp_B

    drawn, logp = draw(logits, keys)
    limits = {"top_k": None, "top_p": 1.0, "min_p": 0.0} | filters
    kept = kept_by_hand(np.where(p > 0, np.log(np.maximum(p, 1e-300)), MASKED), **limits)
    p = np.array([kept.get(i, 0.0) for i in range(len(p))])
    counts = np.bincount(drawn, minlength=len(p))
    assert (counts[p == 0] == 0).all()
    np.testing.assert_allclose(logp, np.log(p[np.asarray(drawn)]), atol=1e-4)
    common = p * draws >= 5
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(p[common], p[~common].sum()) * draws
    assert len(kept) == 1 or scipy.stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue > 1e-3
    within = np.random.default_rng(0).random(draws)  # an id is a piece of [0, 1], in which any place is as good
    places = (np.cumsum(p) - p)[np.asarray(drawn)] + within * p[np.asarray(drawn)]
    assert scipy.stats.kstest(places, "uniform").pvalue > 1e-3


def test_draws_are_the_inverse_of_the_cumulative_distribution():
    """Against numpy in float64 with the same uniform numbers, wherever these are not within rounding of a border."""
    logits = some_logits((64, 700), seed=6)
    keys = jax.random.split(jax.random.key(1), 64)
    drawn, logp = module.draw(jnp.array(logits), keys, greedy=False)
    p = np.exp(np.float64(logits) - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    cumulative, uniform = np.cumsum(p, axis=1), np.asarray(jax.vmap(jax.random.uniform)(keys))
    clear = np.abs(cumulative - uniform[:, None]).min(1) > 1e-6
    assert clear.sum() > 50
    assert (np.asarray(drawn) == (cumulative <= uniform[:, None]).sum(1))[clear].all()
    np.testing.assert_allclose(logp, np.log(p[np.arange(64), np.asarray(drawn)]), atol=1e-5)


def test_greedy_is_the_argmax():
    logits = jnp.array(some_logits((5, 200), seed=7))
    drawn, logp = module.draw(logits, jax.random.split(jax.random.key(0), 5), greedy=True)
    np.testing.assert_array_equal(drawn, logits.argmax(1))
    np.testing.assert_allclose(logp, jax.nn.log_softmax(logits).max(1), atol=1e-6)


@pytest.mark.parametrize("greedy", [False, True])
def test_nan_draws_an_id_that_there_is(greedy):
    """So that the run goes on to the update, whose loss says what is wrong."""
    drawn, logp = module.draw(jnp.full((3, 200), jnp.nan), jax.random.split(jax.random.key(0), 3), greedy=greedy)
    assert (np.asarray(drawn) == 0).all() and np.isnan(logp).all()
