"""Log-probs and values of completions, in the layout that the sampler writes and every loss reads.

Letters: B sequences, S prompt positions, T completion positions, J both, M packed rows of W positions, D model
width, I ids a token was drawn from.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from r1jax.models import Model, forward, predictors, values
from r1jax.models.logprobs import token_log_probs
from r1jax.parallel.mesh import by_rows
from r1jax.rl.types import TrainBatch


def joined_rows(batch: TrainBatch) -> jax.Array:
    """Each prompt followed at once by its completion: [B, S + T]."""
    S, T = batch.prompt_BS.shape[1], batch.completion_BT.shape[1]
    both = jnp.concatenate([batch.prompt_BS, batch.completion_BT], axis=1)
    position_1J, prompt_B1 = jnp.arange(S + T)[None], batch.prompt_length_B[:, None]
    source_BJ = jnp.where(position_1J < prompt_B1, position_1J, jnp.minimum(position_1J - prompt_B1 + S, S + T - 1))
    return jnp.take_along_axis(both, source_BJ, axis=1)


def completion_log_probs(
    model: Model, params: Any, batch: TrainBatch, *, temperature: float, group_size: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Of each completion token its log-prob and the entropy of what it was drawn from, both [B, T].

    Where each `group_size` sequences in turn have the same prompt, it is computed once for them; that is without a
    layout. Only the hidden states that predict a completion token reach the vocabulary; with a layout those of all
    positions of the packed rows, where these are fewer than B × T. Values past `length_B` mean nothing.
    """

    def of_tokens(hidden: jax.Array, given: Any) -> tuple[jax.Array, jax.Array]:
        token, support = given
        return token_log_probs(model, params, hidden, token, temperature=temperature, support_BTI=support)[:2]

    given = batch.completion_BT, batch.support_BTI
    if group_size > 1:
        assert batch.layout is None
        prompts = batch.prompt_BS[::group_size], batch.prompt_length_B[::group_size]
        return of_tokens(predictors(model, params, batch.completion_BT, *prompts), given)
    return at_predictors(model, params, batch, given, of_tokens)


def at_predictors(
    model: Model, params: Any, batch: TrainBatch, given: Any, function: Callable[[jax.Array, Any], Any]
) -> Any:
    """`function(hidden, given)` of the final hidden states that predict completion tokens: arrays [B, T, ...].

    `given` are arrays [B, T, ...] that belong to these tokens. With a layout the function sees packed rows instead,
    where these have fewer positions than B × T.
    """
    hidden = forward(model, params, *model_inputs(batch))[0]
    if batch.layout is None or batch.layout.source_MW.size >= batch.completion_BT.size:
        return function(to_completions(batch, hidden), given)
    outputs = function(hidden, jax.tree.map(functools.partial(next_in_rows, batch), given))
    return jax.tree.map(functools.partial(to_completions, batch), outputs)


def completion_values(model: Model, value_params: Any, batch: TrainBatch) -> jax.Array:
    """What a value model expects of the completion before each of its tokens, float32 [B, T]."""
    return to_completions(batch, values(model, value_params, *model_inputs(batch)))


def model_inputs(batch: TrainBatch) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Tokens, positions and segments: of prompts and completions joined, or in the packed rows of the layout."""
    joined_BJ, layout = joined_rows(batch), batch.layout
    if layout is None:
        return joined_BJ, None, None
    token_MW = by_rows(lambda joined_BJ, source_MW: joined_BJ.ravel()[source_MW], joined_BJ, layout.source_MW)
    return token_MW, layout.position_MW, layout.segment_MW


def to_completions(batch: TrainBatch, x: jax.Array) -> jax.Array:
    """From where the model's outputs are to what is at the position that predicts each token: [B, T, ...]."""
    predictors_BT = batch.prompt_length_B[:, None] - 1 + jnp.arange(batch.completion_BT.shape[1])[None]
    if batch.layout is None:
        return jnp.take_along_axis(x, predictors_BT.reshape(*predictors_BT.shape, *[1] * (x.ndim - 2)), axis=1)
    places_BT = batch.layout.place_B[:, None] + predictors_BT
    return by_rows(lambda x_MW, places_BT: x_MW.reshape(-1, *x_MW.shape[2:])[places_BT], x, places_BT)


def next_in_rows(batch: TrainBatch, x_BT: jax.Array) -> jax.Array:
    """The other way, into packed rows: at each position what belongs to the token after it, [M, W, ...]."""
    J = batch.prompt_BS.shape[1] + batch.completion_BT.shape[1]

    def move(x_BT: jax.Array, prompt_length_B: jax.Array, source_MW: jax.Array) -> jax.Array:
        sequence_MW, position_MW = source_MW // J, source_MW % J
        next_MW = position_MW + 1 - prompt_length_B[sequence_MW]
        return x_BT[sequence_MW, jnp.clip(next_MW, 0, x_BT.shape[1] - 1)]

    assert batch.layout is not None
    return by_rows(move, x_BT, batch.prompt_length_B, batch.layout.source_MW)
