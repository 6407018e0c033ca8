"""Grouped-query attention over three kinds of keys: the forward's own, a cache, and a prompt shared by its samples.

Letters: B sequences, P prompts, G samples a prompt (B = P·G), T query positions, S key positions, D model width,
N query heads, K key-value heads, R query heads a key-value head (N = K·R), H head dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

MASKED = -1e30  # finite, so that a row with nothing to see gives numbers and not NaN


def attend(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    visible_BTS: jax.Array,
    prefix: tuple[jax.Array, jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """softmax(q·k / √H)·v over the visible keys, scores and softmax in float32 (Ainslie et al. 2305.13245).

    `prefix` is (k_PSKH, v_PSKH, length_P): the first `length` keys of prompt b // G are visible to row b as well.
    """
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    q_BTKRH = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
    scores = jnp.einsum("BTKRH,BSKH->BKRTS", q_BTKRH, k_BSKH, preferred_element_type=jnp.float32)
    scores = jnp.where(visible_BTS[:, None, None], scores, MASKED)
    if prefix is None:
        weights = jax.nn.softmax(scores, axis=-1).astype(v_BSKH.dtype)
        return jnp.einsum("BKRTS,BSKH->BTKRH", weights, v_BSKH).reshape(B, T, N, H)
    k_PSKH, v_PSKH, length_P = prefix
    P, S = k_PSKH.shape[:2]
    q_PGTKRH = q_BTKRH.reshape(P, B // P, T, K, N // K, H)
    shared = jnp.einsum("PGTKRH,PSKH->PGKRTS", q_PGTKRH, k_PSKH, preferred_element_type=jnp.float32)
    seen_PS = jnp.arange(S)[None] < length_P[:, None]
    shared = jnp.where(seen_PS[:, None, None, None, None], shared, MASKED).reshape(B, K, N // K, T, S)
    weights = jax.nn.softmax(jnp.concatenate([shared, scores], axis=-1), axis=-1).astype(v_BSKH.dtype)
    shared, own = weights[..., :S].reshape(P, B // P, K, N // K, T, S), weights[..., S:]
    out_BTKRH = jnp.einsum("BKRTS,BSKH->BTKRH", own, v_BSKH)
    out_BTKRH += jnp.einsum("PGKRTS,PSKH->PGTKRH", shared, v_PSKH).reshape(out_BTKRH.shape)
    return out_BTKRH.reshape(B, T, N, H)
