"""Grouped-query attention over keys of three kinds: the forward's own, a cache, and a prompt that samples share.

The arguments of `attend` say which keys a query sees (segments, lengths, the cache's filled slots). There is no mask,
so that a fused kernel can replace the plain computation here, which builds its mask inside.

Letters: B sequences, P prompts, G samples a prompt (B = P·G), T query positions, S key positions, N query heads,
K key-value heads, Q query heads a key-value head (N = K·Q), H head dim.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

MASKED = -1e30  # finite, so that a row that sees no key gives numbers and not NaN


class Shared(NamedTuple):
    """One layer's keys and values of prompts: sequence b sees the first `length_P[b // G]` of prompt b // G's."""

    k_PSKH: jax.Array
    v_PSKH: jax.Array
    length_P: jax.Array


def attend(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    *,
    filled: jax.Array | int = 0,
    segments_BT: jax.Array | None = None,
    shared: Shared | None = None,
) -> jax.Array:
    """softmax(q·k / √H)·v, causal, scores and softmax in float32 (Ainslie et al. 2305.13245).

    The first `filled` keys come before the first query, so that query t sees the keys up to filled + t. With segments
    (S = T, none filled) it sees those of its own segment alone. Padding belongs on the right: no query of a token
    reaches it. The shared keys are visible to every query of their samples.
    """
    B, T, N, H = q_BTNH.shape
    S, K = k_BSKH.shape[1:3]
    visible = (jnp.arange(S)[None, :] <= filled + jnp.arange(T)[:, None])[None]
    if segments_BT is not None:
        visible &= segments_BT[:, :, None] == segments_BT[:, None, :]
    q_BTKQH = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
    scores = jnp.einsum("BTKQH,BSKH->BKQTS", q_BTKQH, k_BSKH, preferred_element_type=jnp.float32)
    scores = jnp.where(visible[:, None, None], scores, MASKED)
    if shared is not None:
        k_PSKH, v_PSKH, length_P = shared
        P, prompt = k_PSKH.shape[:2]
        q_PGTKQH = q_BTKQH.reshape(P, B // P, T, K, N // K, H)
        prompt_scores = jnp.einsum("PGTKQH,PSKH->PGKQTS", q_PGTKQH, k_PSKH, preferred_element_type=jnp.float32)
        visible_PS = jnp.arange(prompt)[None] < length_P[:, None]
        prompt_scores = jnp.where(visible_PS[:, None, None, None, None], prompt_scores, MASKED)
        scores = jnp.concatenate([prompt_scores.reshape(B, K, N // K, T, prompt), scores], axis=-1)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BSKH.dtype)
    out_BTKQH = jnp.einsum("BKQTS,BSKH->BTKQH", weights[..., -S:], v_BSKH)
    if shared is not None:
        prompt_weights = weights[..., :prompt].reshape(P, B // P, K, N // K, T, prompt)
        out_BTKQH += jnp.einsum("PGKQTS,PSKH->PGTKQH", prompt_weights, v_PSKH).reshape(out_BTKQH.shape)
    return out_BTKQH.reshape(B, T, N, H)
