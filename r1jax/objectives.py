"""Advantages, policy loss, KL, likelihoods: pure functions of arrays, each with its formula.

Letters: P prompts, G samples a prompt, B = P·G sequences, T completion positions, V vocabulary. A mask is float32, 1.0
where a token counts. Losses come as terms per token; `token_weights` says how they are summed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

MASKED = -1e30


def log_probabilities(logits: jax.Array, *, temperature: float, vocabulary: int) -> jax.Array:
    """The one definition of log-probs: log softmax(logits / temperature) in float32 over the tokenizer's ids alone.

    logits [..., V] → [..., V]; ids at or above `vocabulary` get MASKED, that is probability 0.
    """
    logits = logits.astype(jnp.float32) / temperature
    real = (jnp.arange(logits.shape[-1]) < vocabulary).reshape((1,) * (logits.ndim - 1) + (-1,))
    return jnp.where(real, jax.nn.log_softmax(jnp.where(real, logits, MASKED), axis=-1), MASKED)


def entropy(logp: jax.Array) -> jax.Array:
    """-Σ p log p over the last axis, of log-probs as `log_probabilities` gives them."""
    p = jnp.exp(logp)
    return -jnp.sum(jnp.where(p > 0, p * logp, 0.0), axis=-1)


def length_mask(length_B: jax.Array, positions: int) -> jax.Array:
    """[B, T] with 1.0 at the first `length` positions of each row."""
    return (jnp.arange(positions)[None] < length_B[:, None]).astype(jnp.float32)


def group_advantages(rewards_PG: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(r - mean) / (std + 1e-4) within each group, and which samples count (DeepSeekMath 2402.03300, section 4.1.2).

    The paper leaves std and guard open: std is the sample's (n - 1), 1e-4 as in TRL. A group of equal rewards gives
    exactly 0. NaN marks a reward that could not be graded: it leaves the group's statistics, gets advantage 0, and
    is False in the second result; a group with a single graded sample gives 0.
    """
    graded_PG = ~jnp.isnan(rewards_PG)
    count_P1 = graded_PG.sum(axis=1, keepdims=True)
    r_PG = jnp.where(graded_PG, rewards_PG, 0.0)
    centred_PG = jnp.where(graded_PG, r_PG - r_PG.sum(axis=1, keepdims=True) / jnp.maximum(count_P1, 1), 0.0)
    variance_P1 = jnp.square(centred_PG).sum(axis=1, keepdims=True) / jnp.maximum(count_P1 - 1, 1)
    highest_P1 = jnp.where(graded_PG, rewards_PG, -jnp.inf).max(axis=1, keepdims=True)
    lowest_P1 = jnp.where(graded_PG, rewards_PG, jnp.inf).min(axis=1, keepdims=True)
    return jnp.where(highest_P1 > lowest_P1, centred_PG / (jnp.sqrt(variance_P1) + 1e-4), 0.0), graded_PG


def policy_terms(
    logp_BT: jax.Array, *, old_logp_BT: jax.Array, advantage_B: jax.Array, clip_low: float, clip_high: float
) -> tuple[jax.Array, jax.Array]:
    """-min(r·A, clip(r, 1 - low, 1 + high)·A) per token and the ratio r (DeepSeekMath 2402.03300 eq. 3).

    The log-ratio is limited to ±20 before exp, so that values and gradients stay finite. Unequal clips: DAPO.
    """
    ratio_BT = jnp.exp(jnp.clip(logp_BT - old_logp_BT, -20.0, 20.0))
    advantage_B1 = advantage_B[:, None]
    clipped_BT = jnp.clip(ratio_BT, 1 - clip_low, 1 + clip_high)
    return -jnp.minimum(ratio_BT * advantage_B1, clipped_BT * advantage_B1), ratio_BT


def kl_terms(logp_BT: jax.Array, reference_logp_BT: jax.Array) -> jax.Array:
    """k3 = π_ref/π - log(π_ref/π) - 1 per token (DeepSeekMath eq. 4), through expm1 so that it is never negative."""
    difference_BT = jnp.clip(reference_logp_BT - logp_BT, -20.0, 20.0)
    return jnp.maximum(jnp.expm1(difference_BT) - difference_BT, 0.0)


def sequence_mean_weights(mask_BT: jax.Array) -> jax.Array:
    """Weights that make Σ w·term the mean over sequences of the mean over each one's tokens (GRPO's 1/G Σ 1/|o| Σ).

    The sequences counted are those with a token in the mask; computed on the whole batch, before it is split.
    """
    tokens_B1 = mask_BT.sum(axis=1, keepdims=True)
    return mask_BT / jnp.maximum(tokens_B1, 1) / jnp.maximum((tokens_B1 > 0).sum(), 1)


def token_mean_weights(mask_BT: jax.Array) -> jax.Array:
    """Weights that make Σ w·term the mean over all tokens of the whole batch."""
    return mask_BT / jnp.maximum(mask_BT.sum(), 1)
