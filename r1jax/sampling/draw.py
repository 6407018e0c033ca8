"""Drawing one token: the ids that top-k and top-p leave, and a draw from their distribution.

Letters: B sequences, V vocabulary, I ids a token is drawn from.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from r1jax.models.logprobs import MASKED, renormalize


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

    That is cheaper than the usual Gumbel noise, which takes a random number for each id.
    """
    if greedy:
        return jnp.argmax(logp_BV, axis=-1)
    cumulative_BV = jnp.cumsum(jnp.exp(logp_BV), axis=-1)
    uniform_B = jax.vmap(jax.random.uniform)(key_B)
    below_BV = cumulative_BV <= (uniform_B * cumulative_BV[:, -1])[:, None]
    # Rounding may put the target at the very top: it then means the last id with any probability.
    last_B = jnp.argmax(cumulative_BV == cumulative_BV[:, -1:], axis=-1)
    return jnp.minimum(below_BV.sum(axis=-1), last_B)
