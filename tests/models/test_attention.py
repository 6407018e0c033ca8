"""Attention against numpy, one query at a time: causal, within segments, after filled slots, with a shared prompt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import attention
from r1jax.models.attention import Shared
from r1jax.models.kv_cache import Cache


@jax.jit
def attend(q, k, v, *, shared=None, **visible):
    """With keys and values as [B, S, K, H], as people write them."""
    if shared is not None:
        shared = Shared(shared[0].swapaxes(1, 2), shared[1].swapaxes(1, 2), shared[2])
    return attention.attend(q, k.swapaxes(1, 2), v.swapaxes(1, 2), shared=shared, **visible)


B, T, N, K, H = 4, 5, 4, 2, 3


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_hand(q, k, v, visible):
    """softmax over the keys that are visible to each query; `visible(b, t)` gives (keys, values) of [S, K, H]."""
    out = np.zeros_like(q, dtype=np.float64)
    for b, t, n in np.ndindex(*q.shape[:3]):
        keys, values = visible(b, t)
        scores = keys[:, n // (N // K)] @ q[b, t, n] / np.sqrt(H)
        weights = np.exp(scores - scores.max())
        out[b, t, n] = weights / weights.sum() @ values[:, n // (N // K)]
    return out


def test_a_query_sees_the_keys_up_to_its_own():
    q, k, v = draw(B, T, N, H), draw(B, T, K, H, seed=1), draw(B, T, K, H, seed=2)
    expected = by_hand(q, k, v, lambda b, t: (k[b, : t + 1], v[b, : t + 1]))
    np.testing.assert_allclose(attend(q, k, v), expected, atol=1e-5)


def test_of_its_own_segment():
    q, k, v = draw(B, T, N, H), draw(B, T, K, H, seed=1), draw(B, T, K, H, seed=2)
    segments = np.array([[1, 1, 2, 2, 2], [1, 2, 3, 4, 5], [1, 1, 1, 1, 0], [7, 7, 7, 7, 7]])

    def visible(b, t):
        seen = (segments[b] == segments[b, t]) & (np.arange(T) <= t)
        return k[b, seen], v[b, seen]

    np.testing.assert_allclose(attend(q, k, v, segments_BT=segments), by_hand(q, k, v, visible), atol=1e-5)


@pytest.mark.parametrize("filled", [0, 3])
def test_after_the_filled_slots_and_no_further(filled):
    slots = 9
    q, k, v = draw(B, T, N, H), draw(B, slots, K, H, seed=1), draw(B, slots, K, H, seed=2)
    expected = by_hand(q, k, v, lambda b, t: (k[b, : filled + t + 1], v[b, : filled + t + 1]))
    np.testing.assert_allclose(attend(q, k, v, filled=jnp.int32(filled)), expected, atol=1e-5)


def test_samples_see_their_prompt_up_to_its_length():
    q, k, v = draw(B, 1, N, H), draw(B, 6, K, H, seed=1), draw(B, 6, K, H, seed=2)
    prompt_k, prompt_v, lengths = draw(2, 7, K, H, seed=3), draw(2, 7, K, H, seed=4), np.array([7, 2])

    def visible(b, t):
        length = lengths[b // 2]
        keys = np.concatenate([prompt_k[b // 2, :length], k[b, : 4 + t + 1]])
        return keys, np.concatenate([prompt_v[b // 2, :length], v[b, : 4 + t + 1]])

    shared = Shared(jnp.array(prompt_k), jnp.array(prompt_v), jnp.array(lengths))
    out = attend(q, k, v, filled=jnp.int32(4), shared=shared)
    np.testing.assert_allclose(out, by_hand(q, k, v, visible), atol=1e-5)


def test_scores_and_softmax_are_float32():
    """In bfloat16 the weights of 300 equal keys would not sum to 1 within a thousandth."""
    k = jnp.zeros((1, 300, 1, 2), jnp.bfloat16)
    out = attend(jnp.zeros((1, 1, 1, 2), jnp.bfloat16), k, jnp.ones_like(k), filled=jnp.int32(299))
    np.testing.assert_allclose(np.asarray(out, np.float32), 1.0, rtol=4e-3)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("filled", [0, 30, 31, 32, 33, 64, 96])
def test_of_a_cache_the_filled_slots_alone_are_read(filled, queries):
    """Infinities in slots that need not be read do no harm, and what is read does not depend on how much."""
    slots, layer = 100, jnp.int32(1)
    k, v = draw(2, B, K, slots, H, seed=1), draw(2, B, K, slots, H, seed=2)
    q = draw(B, queries, N, H)
    last = -(-(filled + queries) // 32) * 32  # in parts of LEAST_SLOTS
    poisoned = [x.copy() for x in (k, v)]
    for x in poisoned:
        x[:, :, :, last:] = np.inf
    cached = jax.jit(attention.attend_cached)
    out = cached(q, Cache(*map(jnp.array, poisoned), jnp.int32(filled), jnp.zeros(B, jnp.int32)), layer, None)
    expected = attention.attend(q, jnp.array(k[1]), jnp.array(v[1]), filled=jnp.int32(filled))
    np.testing.assert_allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize("filled", [39, 40, 75, 80, 1000])
def test_a_row_sees_what_was_written_since_it_began(filled):
    """Of a cache that is full the oldest keys were overwritten; each row equals one alone with its keys in order."""
    slots, layer = 40, jnp.int32(1)
    k, v = draw(2, B, K, slots, H, seed=1), draw(2, B, K, slots, H, seed=2)
    q, seen = draw(B, 1, N, H), np.linspace(1, slots, B).astype(int)
    began_B = jnp.array(filled + 1 - seen, jnp.int32)
    cached = jax.jit(attention.attend_cached)
    out = cached(q, Cache(jnp.array(k), jnp.array(v), jnp.int32(filled), began_B), layer, None)
    for b in range(B):
        written = [(filled - age) % slots for age in range(seen[b])]  # the query's own key is written already
        alone = (jnp.array(x[1, b : b + 1][:, :, written]) for x in (k, v))
        expected = attention.attend(q[b : b + 1], *alone, filled=seen[b] - 1)
        np.testing.assert_allclose(out[b : b + 1], expected, atol=1e-6)
