"""Log-probs and values of completions, in the layout that the sampler writes and every loss reads.

Letters: B sequences, S prompt positions, T completion positions, J both, D model width, K kept ids.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from r1jax.mesh import by_rows
from r1jax.models.dense import Transformer, forward
from r1jax.models.head import token_log_probs
from r1jax.packing import Layout


@flax.struct.dataclass
class Completions:
    """Right-padded prompts and completions. `length_B` counts the stop token; what lies past a length is never read.

    `support_BTK` are the ids that each token was drawn from, -1 where there are fewer; None: the whole vocabulary. With
    a `layout` the transformer sees them in packed rows; what comes of it is the same.
    """

    prompt_BS: jax.Array
    prompt_length_B: jax.Array
    completion_BT: jax.Array
    length_B: jax.Array
    support_BTK: jax.Array | None = None
    layout: Layout | None = None


def joined_rows(batch: Completions) -> jax.Array:
    """Each prompt followed at once by its completion: [B, S + T]."""
    S, T = batch.prompt_BS.shape[1], batch.completion_BT.shape[1]
    both = jnp.concatenate([batch.prompt_BS, batch.completion_BT], axis=1)
    position_1J, prompt_B1 = jnp.arange(S + T)[None], batch.prompt_length_B[:, None]
    source_BJ = jnp.where(position_1J < prompt_B1, position_1J, jnp.minimum(position_1J - prompt_B1 + S, S + T - 1))
    return jnp.take_along_axis(both, source_BJ, axis=1)


def predicting_states(model: Transformer, params: Any, batch: Completions) -> jax.Array:
    """The hidden states from which the completion's tokens are predicted: [B, T, D]."""
    joined_BJ, layout = joined_rows(batch), batch.layout
    predictors_BT = batch.prompt_length_B[:, None] - 1 + jnp.arange(batch.completion_BT.shape[1])[None]
    if layout is None:
        hidden_BJD, _ = forward(model, params, joined_BJ)
        return jnp.take_along_axis(hidden_BJD, predictors_BT[:, :, None], axis=1)
    token_RW = by_rows(lambda joined_BJ, source_RW: joined_BJ.ravel()[source_RW], joined_BJ, layout.source_RW)
    hidden_RWD, _ = forward(model, params, token_RW, layout.position_RW, layout.segment_RW)
    places_BT = layout.place_B[:, None] + predictors_BT
    return by_rows(lambda x_RWD, places_BT: x_RWD.reshape(-1, x_RWD.shape[2])[places_BT], hidden_RWD, places_BT)


def completion_log_probs(
    model: Transformer, params: Any, batch: Completions, *, temperature: float
) -> tuple[jax.Array, jax.Array]:
    """Of each completion token its log-prob and the entropy of what it was drawn from, both [B, T].

    Only the hidden states that predict a completion token reach the vocabulary. Values past `length_B` mean nothing.
    """
    hidden_BTD = predicting_states(model, params, batch)
    logp_BT, entropy_BT, _ = token_log_probs(
        model, params, hidden_BTD, batch.completion_BT, temperature=temperature, support_BTK=batch.support_BTK
    )
    return logp_BT, entropy_BT


def completion_values(model: Transformer, value_params: Any, batch: Completions) -> jax.Array:
    """What a value model expects of the completion before each of its tokens, float32 [B, T].

    `value_params` are those of a transformer, "model", and a head, "head_D", on its last hidden states.
    """
    hidden_BTD = predicting_states(model, value_params["model"], batch)
    head_D = value_params["head_D"].astype(hidden_BTD.dtype)
    return jnp.einsum("BTD,D->BT", hidden_BTD, head_D, preferred_element_type=jnp.float32)
