"""PPO's value model: a decoder of its own with a linear head on its last hidden states.

    value_params = init_value_params(params)
    value_BT = values(model, value_params, token_BT)

Letters: B sequences, T positions, D model width.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from r1jax.models import Model, forward


def init_value_params(params: Any) -> Any:
    """A value model that begins as a copy of the policy, with a head of zeros."""
    width = params["embed_VD"].shape[1]
    return {"model": jax.tree.map(jnp.copy, params), "head_D": jnp.zeros(width, jnp.float32)}


def values(model: Model, value_params: Any, *inputs: jax.Array | None) -> jax.Array:
    """The value at each position, which has seen the tokens up to it: float32 [B, T]; `inputs` are `forward`'s."""
    hidden_BTD, _ = forward(model, value_params["model"], *inputs)  # pyright: ignore[reportArgumentType]
    head_D = value_params["head_D"].astype(hidden_BTD.dtype)
    return jnp.einsum("BTD,D->BT", hidden_BTD, head_D, preferred_element_type=jnp.float32)
