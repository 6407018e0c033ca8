"""Log-probs of completions under a model, in the layout that the sampler writes and every loss reads.

Letters: B sequences, S prompt positions, T completion positions, D model width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from r1jax.models.dense import Transformer, forward, unembed
from r1jax.objectives import entropy, log_probabilities


@flax.struct.dataclass
class Completions:
    """Right-padded prompts and completions. `length_B` counts the stop token; what lies past a length is never read."""

    prompt_BS: jax.Array
    prompt_length_B: jax.Array
    completion_BT: jax.Array
    length_B: jax.Array


def joined_rows(batch: Completions) -> jax.Array:
    """Each prompt followed at once by its completion: [B, S + T]."""
    S, T = batch.prompt_BS.shape[1], batch.completion_BT.shape[1]
    both = jnp.concatenate([batch.prompt_BS, batch.completion_BT], axis=1)
    position_1J, prompt_B1 = jnp.arange(S + T)[None], batch.prompt_length_B[:, None]
    source_BJ = jnp.where(position_1J < prompt_B1, position_1J, jnp.minimum(position_1J - prompt_B1 + S, S + T - 1))
    return jnp.take_along_axis(both, source_BJ, axis=1)


def completion_log_probs(
    model: Transformer, params: Any, batch: Completions, *, temperature: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each completion token its log-prob, the entropy it was drawn from, whether it was the likeliest; [B, T].

    Only the hidden states that predict a completion token reach the vocabulary. Values past `length_B` mean nothing.
    """
    hidden_BJD, _ = forward(model, params, joined_rows(batch))
    predictors_BT = batch.prompt_length_B[:, None] - 1 + jnp.arange(batch.completion_BT.shape[1])[None]
    hidden_BTD = jnp.take_along_axis(hidden_BJD, predictors_BT[:, :, None], axis=1)
    logits_BTV = unembed(model, params, hidden_BTD)
    logp_BTV = log_probabilities(logits_BTV, temperature=temperature, vocabulary=model.vocabulary)
    logp_BT = jnp.take_along_axis(logp_BTV, batch.completion_BT[:, :, None], axis=2)[:, :, 0]
    return logp_BT, entropy(logp_BTV), jnp.argmax(logp_BTV, axis=-1) == batch.completion_BT
