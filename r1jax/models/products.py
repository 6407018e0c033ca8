"""Where activations meet weights, with gradients written out: products, and the look-up in the embedding.

    x_BTD = lookup(embed_VD, token_BT, "bfloat16")
    hidden_BTF = dense("BTD,DF->BTF", x_BTD, up_DF)

Letters: B sequences, T positions, D model width, V vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from r1jax.parallel.mesh import ACTIVATIONS, TRAIN_WEIGHTS, constrain, gathered


def dense(equation: str, x: jax.Array, weight: jax.Array) -> jax.Array:
    """einsum(equation, x, weight) in the activations' type, in which the weight is gathered."""
    letters = equation.partition("->")[0].partition(",")[2]
    return jnp.einsum(equation, x, gathered(weight, letters, x.dtype))


# A look-up moves activations between devices and not the table: each one reads its part of D for the tokens of all.
PARTS_OF_D = {**ACTIVATIONS, "B": ("data", "expert"), "D": "fsdp"}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def lookup(embed_VD: jax.Array, token_BT: jax.Array, dtype: Any) -> jax.Array:
    """The embedding's rows of tokens, in `dtype`. Gradients are added in the embedding's own type.

    In bfloat16 a token that is seen often would lose most of its gradient: 256 + 1 is 256 there.
    """
    weight_VD = constrain(embed_VD.astype(dtype), "VD", TRAIN_WEIGHTS)
    return constrain(constrain(weight_VD[constrain(token_BT, "BT", PARTS_OF_D)], "BTD", PARTS_OF_D), "BTD")


def _lookup_forward(embed_VD: jax.Array, token_BT: jax.Array, dtype: Any) -> tuple[jax.Array, Any]:
    return lookup(embed_VD, token_BT, dtype), (embed_VD, token_BT)


def _lookup_backward(_: Any, saved: Any, gradient_BTD: jax.Array) -> tuple[jax.Array, None]:
    embed_VD, token_BT = saved
    gradient_BTD = constrain(constrain(gradient_BTD, "BTD"), "BTD", PARTS_OF_D).astype(embed_VD.dtype)
    sum_VD = jnp.zeros_like(embed_VD).at[constrain(token_BT, "BT", PARTS_OF_D)].add(gradient_BTD)
    return constrain(sum_VD, "VD", TRAIN_WEIGHTS), None


lookup.defvjp(_lookup_forward, _lookup_backward)
