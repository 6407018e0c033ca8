"""Grouped-query attention over keys of three kinds: the forward's own, a cache, and a prompt that samples share.

The arguments of `attend` say which keys a query sees (segments, lengths, the cache's filled slots). There is no mask,
so that a fused kernel can replace the plain computation here, which builds its mask inside.

Letters: B sequences, P prompts, G samples per prompt (B = P·G), T query positions, S key positions, N query heads,
K key-value heads, Q query heads a key-value head (N = K·Q), H head dim.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1jax.models.kv_cache import Cache, Keys
from r1jax.models.products import attention_product

PARTS, LEAST_SLOTS = 4, 32  # of a cache, that are read or not: each number of slots is compiled
MASKED = -1e30  # finite, so that a row that sees no key gives numbers and not NaN


class Shared(NamedTuple):
    """One layer's keys and values of prompts: sequence b sees the first `length_P[b // G]` of prompt b // G's."""

    k_PKSH: jax.Array
    v_PKSH: jax.Array
    length_P: jax.Array


def attend(
    q_BTNH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    *,
    filled: jax.Array | int = 0,
    began_B: jax.Array | None = None,
    segments_BT: jax.Array | None = None,
    shared: Shared | None = None,
) -> jax.Array:
    """softmax(q·k / √H)·v, causal, scores and softmax in float32 (Ainslie et al. 2305.13245).

    The first `filled` keys come before the first query, so that query t sees the keys up to filled + t. With `began_B`
    the keys are a ring of the last S tokens, as in `Cache`, and a query sees those written since its row began. With
    segments (S = T, none filled) it sees those of its own segment alone. Padding belongs on the right: no query of a
    token reaches it. The shared keys are visible to every query of their samples.
    """
    B, T, N, H = q_BTNH.shape
    K, S = k_BKSH.shape[1:3]
    now_T1 = filled + jnp.arange(T)[:, None]
    if began_B is None:
        visible = (jnp.arange(S)[None, :] <= now_T1)[None]
    else:
        before_TS = now_T1 % S - jnp.arange(S)[None, :]
        before_TS = jnp.where(before_TS < 0, before_TS + S, before_TS)  # how many tokens ago each key was written
        visible = before_TS[None] <= (now_T1[None] - began_B[:, None, None])
    if segments_BT is not None:
        visible &= segments_BT[:, :, None] == segments_BT[:, None, :]
    q_BTKQH = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
    scores = attention_product("BTKQH,BKSH->BKQTS", q_BTKQH, k_BKSH, jnp.float32)
    scores = jnp.where(visible[:, None, None], scores, MASKED)
    if shared is None:
        weights = jax.nn.softmax(scores, axis=-1).astype(v_BKSH.dtype)
        return attention_product("BKQTS,BKSH->BTKQH", weights, v_BKSH, v_BKSH.dtype).reshape(B, T, N, H)
    # One softmax over the keys of both kinds; putting their scores into one array would cost more than the products.
    k_PKSH, v_PKSH, length_P = shared
    P, _, prompt, _ = k_PKSH.shape
    q_PGTKQH = q_BTKQH.reshape(P, B // P, T, K, N // K, H)
    prompt_scores = attention_product("PGTKQH,PKSH->PGKQTS", q_PGTKQH, k_PKSH, jnp.float32)
    visible_PS = jnp.arange(prompt)[None] < length_P[:, None]
    prompt_scores = jnp.where(visible_PS[:, None, None, None, None], prompt_scores, MASKED)
    scores = scores.reshape(*prompt_scores.shape[:-1], S)
    most = jnp.maximum(scores.max(axis=-1, keepdims=True), prompt_scores.max(axis=-1, keepdims=True))
    most = jax.lax.stop_gradient(most)  # it cancels
    weights, prompt_weights = jnp.exp(scores - most), jnp.exp(prompt_scores - most)
    total = weights.sum(axis=-1, keepdims=True) + prompt_weights.sum(axis=-1, keepdims=True)
    weights = (weights / total).astype(v_BKSH.dtype).reshape(B, K, N // K, T, S)
    prompt_weights = (prompt_weights / total).astype(v_BKSH.dtype)
    out_BTKQH = attention_product("BKQTS,BKSH->BTKQH", weights, v_BKSH, v_BKSH.dtype)
    from_prompt = attention_product("PGKQTS,PKSH->PGTKQH", prompt_weights, v_PKSH, v_PKSH.dtype)
    out_BTKQH += from_prompt.reshape(out_BTKQH.shape)
    return out_BTKQH.reshape(B, T, N, H)


def attend_cached(q_BTNH: jax.Array, cache: Cache, layer: jax.Array, shared: Shared | None) -> jax.Array:
    """`attend` to one layer of a cache that holds the queries' own keys already; `filled` does not count them yet.

    Of a cache with more slots than queries only the filled ones are read, rounded up to a quarter of all.
    """
    T, S = q_BTNH.shape[1], cache.slots

    def attend_to(keys: Keys) -> jax.Array:
        return attend(q_BTNH, *keys, filled=cache.filled, began_B=cache.began_B, shared=shared)

    def read(slots: int) -> jax.Array:
        return attend_to(cache.layer(layer, slots))

    part = max(-(-S // PARTS), LEAST_SLOTS)
    sizes = [slots for slots in range(part, S, part) if slots >= T] + [S]
    if len(sizes) == 1:  # no conditional keeps slice and products apart; fused, they are far slower on a CPU
        return attend_to(jax.lax.optimization_barrier(cache.layer(layer)))
    place = jnp.searchsorted(jnp.array(sizes), cache.filled + T)  # past the end it is the last
    return jax.lax.switch(place, [functools.partial(read, slots) for slots in sizes])
