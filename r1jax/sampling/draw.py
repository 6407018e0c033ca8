"""Drawing one token: the ids that top-k, top-p and min-p leave, and a draw from their distribution.

Letters: B sequences, V vocabulary, I ids a token is drawn from.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from r1jax.models.logprobs import MASKED, renormalize

BLOCK = 128  # ids whose probabilities are summed first: a cumulative sum over the whole vocabulary costs far more


def top_k_top_p(logp: jax.Array, *, top_k: int | None, top_p: float) -> tuple[jax.Array, jax.Array]:
    """The log-probs and ids that top-k and top-p leave, most probable first: ([..., I], [..., I]).

    Of the `top_k` most probable ids (None: of all), top-p keeps those whose predecessors have less than `top_p` of the
    probability that top-k left; the first is always kept. The kept ones' probabilities sum to 1. The others have id -1
    and log-prob MASKED.
    """
    logp_I, id_I = jax.lax.top_k(logp, logp.shape[-1] if top_k is None else min(top_k, logp.shape[-1]))
    p_I = jax.nn.softmax(logp_I, axis=-1)
    # A float32 sum may reach 1 before its last term, so that a top_p of 1 is a case of its own.
    keep_I = ((jnp.cumsum(p_I, axis=-1) - p_I < top_p) | (top_p >= 1)) & (logp_I > MASKED / 2)
    return renormalize(logp_I, keep_I), jnp.where(keep_I, id_I, -1)


def draw(logp_BV: jax.Array, key_B: jax.Array, *, greedy: bool) -> jax.Array:
    """One index a row: the argmax if greedy, else by inverting the cumulative distribution at one uniform number.

    That takes one random number a row, where the usual Gumbel noise takes one for each id. The inversion finds a block
    of BLOCK ids by the blocks' sums, and then the id in it.
    """
    if greedy:
        return jnp.argmax(logp_BV, axis=-1)
    B, V = logp_BV.shape
    p_BV = jnp.pad(jnp.exp(logp_BV), ((0, 0), (0, -V % BLOCK)))
    blocks = p_BV.reshape(B, -1, BLOCK)
    cumulative = jnp.cumsum(blocks.sum(axis=2), axis=1)
    target_B = jax.vmap(jax.random.uniform)(key_B) * cumulative[:, -1]
    block_B = _first_above(cumulative, target_B)
    chosen = jnp.take_along_axis(blocks, block_B[:, None, None], axis=1)[:, 0]
    before_B = jnp.take_along_axis(jnp.pad(cumulative, ((0, 0), (1, 0))), block_B[:, None], axis=1)[:, 0]
    return block_B * BLOCK + _first_above(jnp.cumsum(chosen, axis=1), target_B - before_B)


def _first_above(cumulative: jax.Array, target_B: jax.Array) -> jax.Array:
    """In each row the first index whose sum is above the target, [B]; its own term is never 0.

    Rounding may put the target at the very top: it then means the last index with any probability.
    """
    below_B = (cumulative <= target_B[:, None]).sum(axis=1)
    last_B = jnp.argmax(cumulative == cumulative[:, -1:], axis=1)
    return jnp.minimum(below_B, last_B)
