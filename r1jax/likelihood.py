"""The one definition of log-probs: of the sampled token, at the sampling temperature, over what it was sampled from.

Letters: B sequences, T positions, V vocabulary, K kept tokens.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

MASKED = -1e30


def log_probabilities(logits: jax.Array, *, temperature: float, vocabulary: int) -> jax.Array:
    """log softmax(logits / temperature) in float32 over the tokenizer's ids alone.

    logits [..., V] → [..., V]; ids at or above `vocabulary` get MASKED, that is probability 0.
    """
    logits = logits.astype(jnp.float32) / temperature
    real = (jnp.arange(logits.shape[-1]) < vocabulary).reshape((1,) * (logits.ndim - 1) + (-1,))
    return jnp.where(real, jax.nn.log_softmax(jnp.where(real, logits, MASKED), axis=-1), MASKED)


def kept(logp: jax.Array, *, top_k: int | None, top_p: float) -> tuple[jax.Array, jax.Array]:
    """The likeliest ids, likeliest first, and their log-probs with probability 1 in all: ([..., K], [..., K]).

    Of the `top_k` likeliest (None: all), those before which less than `top_p` of their probability stands: so the
    first is always kept. The others have id -1 and MASKED.
    """
    logp_K, id_K = jax.lax.top_k(logp, logp.shape[-1] if top_k is None else min(top_k, logp.shape[-1]))
    p_K = jax.nn.softmax(logp_K, axis=-1)
    # A sum of float32 reaches 1 before its end.
    keep_K = ((jnp.cumsum(p_K, axis=-1) - p_K < top_p) | (top_p >= 1)) & (logp_K > MASKED / 2)
    return renormalised(logp_K, keep_K), jnp.where(keep_K, id_K, -1)


def renormalised(logits_K: jax.Array, keep_K: jax.Array) -> jax.Array:
    """Log-probs over what is kept alone; MASKED elsewhere."""
    return jnp.where(keep_K, jax.nn.log_softmax(jnp.where(keep_K, logits_K, MASKED), axis=-1), MASKED)


def entropy(logp: jax.Array) -> jax.Array:
    """-Σ p log p over the last axis, of log-probs as `log_probabilities` gives them."""
    p = jnp.exp(logp)
    return -jnp.sum(jnp.where(p > 0, p * logp, 0.0), axis=-1)
