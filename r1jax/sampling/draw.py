"""Drawing one token: the ids that top-k, top-p and min-p leave, and a draw from their distribution.

Letters: B sequences, V vocabulary, I ids a token is drawn from.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from r1jax.models.logprobs import MASKED, renormalize

BLOCK = 128  # ids whose probabilities are summed first: a cumulative sum over the whole vocabulary costs far more


def most_probable(
    logp: jax.Array, *, top_k: int | None, top_p: float, min_p: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """The log-probs and ids that top-k, top-p and min-p leave, most probable first: ([..., I], [..., I]).

    Of the `top_k` most probable ids (None: of all), top-p keeps those whose predecessors have less than `top_p` of the
    probability that top-k left, and min-p those that have at least `min_p` times the probability of the first (Nguyen
    et al. 2407.01082); the first is always kept. The kept ones' probabilities sum to 1. The others have id -1 and
    log-prob MASKED.
    """
    logp_I, id_I = jax.lax.top_k(logp, logp.shape[-1] if top_k is None else min(top_k, logp.shape[-1]))
    p_I = jax.nn.softmax(logp_I, axis=-1)
    # A float32 sum may reach 1 before its last term, so that a top_p of 1 is a case of its own.
    keep_I = ((jnp.cumsum(p_I, axis=-1) - p_I < top_p) | (top_p >= 1)) & (logp_I > MASKED / 2)
    if min_p > 0:
        keep_I &= logp_I >= logp_I[..., :1] + math.log(min_p)
    return renormalize(logp_I, keep_I), jnp.where(keep_I, id_I, -1)


def draw(logits_BV: jax.Array, key_B: jax.Array, *, greedy: bool) -> tuple[jax.Array, jax.Array]:
    """One index a row, drawn from softmax(logits), or the argmax if greedy, and its log-prob; [B] each.

    The cumulative distribution is inverted at one uniform number a row, where the usual Gumbel noise takes one for each
    id: the blocks' sums tell the block, and its own terms the id in it.
    """
    B, V = logits_BV.shape
    blocks = jnp.pad(logits_BV, ((0, 0), (0, -V % BLOCK)), constant_values=MASKED).reshape(B, -1, BLOCK)
    most_B = logits_BV.max(axis=1)
    sums = jnp.exp(blocks - most_B[:, None, None]).sum(axis=2)
    cumulative = jnp.cumsum(sums, axis=1)
    total_B = cumulative[:, -1]
    if greedy:
        return jnp.argmax(logits_BV, axis=1), -jnp.log(total_B)
    target_B = jax.vmap(jax.random.uniform)(key_B) * total_B
    block_B = _first_above(sums, cumulative, target_B)
    before_B = jnp.where(block_B > 0, jnp.take_along_axis(cumulative, block_B[:, None] - 1, axis=1)[:, 0], 0.0)
    block = jnp.take_along_axis(blocks, block_B[:, None, None], axis=1)[:, 0] - most_B[:, None]
    p = jnp.exp(block)
    place_B = _first_above(p, jnp.cumsum(p, axis=1), target_B - before_B)
    logp_B = jnp.take_along_axis(block, place_B[:, None], axis=1)[:, 0] - jnp.log(total_B)
    return block_B * BLOCK + place_B, logp_B


def _first_above(p: jax.Array, cumulative: jax.Array, target_B: jax.Array) -> jax.Array:
    """In each row the first index of a p above 0 whose cumulative sum is above the target, [B].

    Rounding may put the target at the very top: it then means the last index of a p above 0. Where p is NaN it is 0.
    """
    positive = p > 0
    above = (cumulative > target_B[:, None]) & positive
    last_B = jnp.where(positive, jnp.arange(p.shape[1])[None], 0).max(axis=1)
    return jnp.where(above.any(axis=1), jnp.argmax(above, axis=1), last_B)
