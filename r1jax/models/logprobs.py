"""From hidden states to the log-probs of given tokens, without all of the logits at once.

    logp_BT, entropy_BT, likeliest_BT = token_log_probs(model, params, hidden_BTD, token_BT, temperature=1.0)

Letters: B sequences, T positions, C a chunk's positions, D model width, V vocabulary, K kept ids.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from r1jax.models import Model, unembed
from r1jax.parallel.mesh import constrain

MASKED = -1e30
FEW_BYTES = 2**29  # of float32 logits, which a device may hold all at once: chunks cost one product of four more
LOGITS_BYTES = 2**27  # of a chunk's


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


def token_log_probs(
    model: Model,
    params: Any,
    hidden_BTD: jax.Array,
    token_BT: jax.Array,
    *,
    temperature: float,
    support_BTK: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each token its log-prob, the entropy of what it was drawn from, and whether it was the likeliest; [B, T].

    `support_BTK` are the ids that a token was drawn from, likeliest first and -1 where there are fewer; None: all of
    the vocabulary. Where all logits are more than FEW_BYTES on a device, they are made in chunks of positions, and made
    again for the gradient.
    """
    (B, T), chunks = token_BT.shape, min(token_BT.shape[1], logit_chunks(token_BT.size, model))
    if chunks == 1:
        return _of_chunk(model, params, hidden_BTD, token_BT, support_BTK, temperature)
    C = -(-T // chunks)

    # Chunk i has every position that is i modulo `chunks`: each is spread over the context axis as the whole is.
    def split(x_BT: jax.Array) -> jax.Array:
        x_BT = jnp.pad(x_BT, ((0, 0), (0, C * chunks - T)) + ((0, 0),) * (x_BT.ndim - 2))
        return jnp.moveaxis(x_BT.reshape(B, C, chunks, *x_BT.shape[2:]), 2, 0)

    @jax.checkpoint
    def of_chunk(params: Any, rows: Any) -> Any:
        hidden_BCD, token_BC, support_BCK = jax.tree.map(lambda x: constrain(x, "BT_"[: x.ndim]), rows)
        return _of_chunk(model, params, hidden_BCD, token_BC, support_BCK, temperature)

    parts = jax.tree.map(split, (hidden_BTD, token_BT, support_BTK))
    outputs = jax.lax.scan(lambda _, rows: (None, of_chunk(params, rows)), None, parts)[1]
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2).reshape(B, C * chunks)[:, :T], outputs)


def logit_chunks(tokens: int, model: Model) -> int:
    """Into how many chunks the logits of `tokens` positions are split on the mesh that is set."""
    mesh = jax.sharding.get_abstract_mesh()
    size = tokens * model.rows * 4 / (1 if mesh.empty else mesh.size)
    return 1 if size <= FEW_BYTES else math.ceil(size / LOGITS_BYTES)


def _of_chunk(
    model: Model,
    params: Any,
    hidden_BCD: jax.Array,
    token_BC: jax.Array,
    support_BCK: jax.Array | None,
    temperature: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    logits_BCV = unembed(model, params, hidden_BCD)
    logp_BCV = log_probabilities(logits_BCV, temperature=temperature, vocabulary=model.vocabulary)
    if support_BCK is None:
        logp_BC = jnp.take_along_axis(logp_BCV, token_BC[:, :, None], axis=2)[:, :, 0]
        return logp_BC, entropy(logp_BCV), jnp.argmax(logp_BCV, axis=-1) == token_BC
    keep_BCK = support_BCK >= 0
    logp_BCK = renormalised(jnp.take_along_axis(logp_BCV, jnp.maximum(support_BCK, 0), axis=2), keep_BCK)
    drawn_BCK = keep_BCK & (support_BCK == token_BC[:, :, None])
    logp_BC = jnp.where(drawn_BCK, logp_BCK, 0.0).sum(axis=2)
    logp_BC = jnp.where(drawn_BCK.any(axis=2), logp_BC, MASKED)
    return logp_BC, entropy(logp_BCK), support_BCK[:, :, 0] == token_BC
