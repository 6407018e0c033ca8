"""From hidden states to the log-probs of given tokens, without all of the logits in memory at once.

    logp_BT, entropy_BT, is_argmax_BT = token_log_probs(model, params, hidden_BTD, token_BT, temperature=1.0)

Sampler, trainer and evaluation share this one definition: log-probs are at the sampling temperature, over the ids that
the token was drawn from, without those that the tokenizer does not have, in float32.

Letters: B sequences, T positions, C a chunk's positions, A parts of a batch's positions, D model width, V vocabulary,
I ids a token was drawn from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from r1jax.models import Model, head, unembed
from r1jax.parallel.mesh import TRAIN_WEIGHTS, constrain, gathered, parts

MASKED = -1e30
UNCHUNKED_BYTES = 2**29  # of float32 logits that a device may hold at once: chunks cost one matrix product in four more
CHUNK_BYTES = 2**27  # of the logits of one chunk


def scaled_logits(logits: jax.Array, *, temperature: float, vocabulary: int) -> jax.Array:
    """logits / temperature in float32 [..., V]; MASKED at ids that the tokenizer does not have."""
    real = (jnp.arange(logits.shape[-1]) < vocabulary).reshape((1,) * (logits.ndim - 1) + (-1,))
    return jnp.where(real, logits.astype(jnp.float32) / temperature, MASKED)


def log_probabilities(logits: jax.Array, *, temperature: float, vocabulary: int) -> jax.Array:
    """log softmax(logits / temperature) in float32 over the tokenizer's ids alone.

    logits [..., V] → [..., V]; ids at or above `vocabulary` get MASKED, which is probability 0.
    """
    logits = scaled_logits(logits, temperature=temperature, vocabulary=vocabulary)
    return jnp.where(logits > MASKED, jax.nn.log_softmax(logits, axis=-1), MASKED)


def renormalize(logits_I: jax.Array, keep_I: jax.Array) -> jax.Array:
    """Log-probs over the ids to keep, whose probabilities then sum to 1; MASKED elsewhere."""
    return jnp.where(keep_I, jax.nn.log_softmax(jnp.where(keep_I, logits_I, MASKED), axis=-1), MASKED)


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
    support_BTI: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each token's log-prob, the entropy of its distribution, and whether it is the argmax; [B, T] each.

    `support_BTI` are the ids that a token was drawn from, the most probable first, and -1 where there are fewer; None
    is the whole vocabulary. Where all logits take more than UNCHUNKED_BYTES on a device, they are computed in chunks of
    positions, and computed again in the backward pass.
    """

    def of_chunk(params: Any, rows: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        hidden_BCD, token_BC, support_BCI = rows
        logits_BCV = unembed(model, params, hidden_BCD)
        logp_BCV = log_probabilities(logits_BCV, temperature=temperature, vocabulary=model.vocabulary)
        return of_tokens(logp_BCV, token_BC, support_BCI)

    return in_chunks(of_chunk, head(params), (hidden_BTD, token_BT, support_BTI), logit_chunks(token_BT.size, model))


def of_tokens(
    logp_BCV: jax.Array, token_BC: jax.Array, support_BCI: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `token_log_probs` returns, from the log-probs of the whole vocabulary."""
    if support_BCI is None:
        logp_BC = jnp.take_along_axis(logp_BCV, token_BC[:, :, None], axis=2)[:, :, 0]
        return logp_BC, entropy(logp_BCV), jnp.argmax(logp_BCV, axis=-1) == token_BC
    keep_BCI = support_BCI >= 0
    logp_BCI = renormalize(jnp.take_along_axis(logp_BCV, jnp.maximum(support_BCI, 0), axis=2), keep_BCI)
    is_token_BCI = keep_BCI & (support_BCI == token_BC[:, :, None])
    logp_BC = jnp.where(is_token_BCI, logp_BCI, 0.0).sum(axis=2)
    logp_BC = jnp.where(is_token_BCI.any(axis=2), logp_BC, MASKED)
    return logp_BC, entropy(logp_BCI), support_BCI[:, :, 0] == token_BC


def in_chunks(function: Callable[[Any, Any], Any], weights: Any, rows: Any, chunks: int) -> Any:
    """`function(weights, rows)` of arrays [B, T, ...], for some of the T positions at a time; it returns such arrays.

    The first of `rows` are hidden states, in the type that the weights are used in. With several chunks it is computed
    again in the backward pass. Each device then has its own copy of the weights and adds up its own gradient in their
    type, so that weights are gathered and gradients reduced once, outside the loop.
    """
    B, T = jax.tree.leaves(rows)[0].shape[:2]
    chunks = min(T, chunks)
    if chunks == 1:
        return function(weights, rows)
    high, wide = (parts("B"), parts("T")) if B % parts("B") == 0 else (1, 1)
    C = -(-T // (chunks * wide))

    # Chunk i has the positions that are i modulo `chunks`, so that each one is spread over the context axis as T is.
    def split(x_BT: jax.Array) -> jax.Array:
        x_BT = jnp.pad(x_BT, ((0, 0), (0, wide * C * chunks - T)) + ((0, 0),) * (x_BT.ndim - 2))
        x = x_BT.reshape(high, B // high, wide, C, chunks, *x_BT.shape[2:])
        return jnp.moveaxis(x, (4, 0, 2), (0, 1, 2)).reshape(chunks, high * wide, B // high, C, *x_BT.shape[2:])

    def join(x: jax.Array) -> jax.Array:
        x = x.reshape(chunks, high, wide, B // high, C, *x.shape[4:])
        return jnp.moveaxis(x, (0, 1, 2), (4, 0, 2)).reshape(B, wide * C * chunks, *x.shape[5:])[:, :T]

    @functools.partial(jax.checkpoint, prevent_cse=False)  # a loop needs no barrier, which would keep work inside
    def of_parts(weights: Any, rows: Any) -> Any:
        return jax.vmap(function)(weights, jax.tree.map(lambda x: constrain(x, "A" + "_" * (x.ndim - 1)), rows))

    dtype = jax.tree.leaves(rows)[0].dtype
    weights = jax.tree.map_with_path(
        lambda path, w: copies(w, path[-1].key.rpartition("_")[2], dtype, high * wide), weights
    )
    outputs = jax.lax.scan(lambda _, rows: (None, of_parts(weights, rows)), None, jax.tree.map(split, rows))[1]
    return jax.tree.map(join, outputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def copies(weight: jax.Array, letters: str, dtype: Any, number: int) -> jax.Array:
    """Copies of a weight, [A, ...], gathered and rounded in `dtype`, but of the weight's type, as their gradients are.

    The gradient is the sum over the copies, in the sharding of the weight.
    """
    copied = jnp.broadcast_to(gathered(weight, letters, dtype)[None], (number, *weight.shape))
    return constrain(copied, f"A{letters}").astype(weight.dtype)


def _copies_forward(weight: jax.Array, letters: str, dtype: Any, number: int) -> tuple[jax.Array, None]:
    return copies(weight, letters, dtype, number), None


def _copies_backward(letters: str, dtype: Any, number: int, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (constrain(constrain(gradient, f"A{letters}").sum(axis=0), letters, TRAIN_WEIGHTS),)


copies.defvjp(_copies_forward, _copies_backward)


def logit_chunks(tokens: int, model: Model) -> int:
    """How many chunks the logits of `tokens` positions are split into, on the mesh that is set."""
    mesh = jax.sharding.get_abstract_mesh()
    size = tokens * model.rows * 4 / (1 if mesh.empty else mesh.size)
    return 1 if size <= UNCHUNKED_BYTES else math.ceil(size / CHUNK_BYTES)
