"""Products, and the look-up in the embedding, as fast backward as forward and on a CPU as elsewhere.

    x_BTD = lookup(embed_VD, token_BT, "bfloat16")
    hidden_BTF = dense("BTD,DF->BTF", x_BTD, up_DF)

Letters: B sequences, P prompts, T positions of queries, S positions of keys, D model width, V vocabulary, K key-value
heads, Q query heads a key-value head, H head dim.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from r1jax.parallel.mesh import ACTIVATIONS, TRAIN_WEIGHTS, constrain, gathered


def dense(equation: str, x: jax.Array, weight: jax.Array, *, gather: bool = True) -> jax.Array:
    """einsum(equation, x, weight) in the activations' type, in which the weight is gathered where it is split."""
    letters = equation.partition("->")[0].partition(",")[2]
    multiply = _product if x.dtype == jnp.bfloat16 else jnp.einsum
    return multiply(equation, x, gathered(weight, letters, x.dtype) if gather else weight.astype(x.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(equation: str, x: jax.Array, weight: jax.Array) -> jax.Array:
    """einsum(equation, x, weight) in bfloat16, whose backward products on a CPU are as fast as the forward one.

    A CPU's units for bfloat16 want operands in row-major order, which those of XLA's own backward products are not.
    """
    return jnp.einsum(equation, x, weight)


def _product_forward(equation: str, x: jax.Array, weight: jax.Array) -> tuple[jax.Array, Any]:
    return _product(equation, x, weight), (x, weight)


def _product_backward(equation: str, saved: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    inputs, letters, outputs = equation.replace("->", ",").split(",")

    def einsums(x: jax.Array, weight: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        by_x = jnp.einsum(f"{outputs},{letters}->{inputs}", gradient, weight)
        return by_x, jnp.einsum(f"{inputs},{outputs}->{letters}", x, gradient)

    def matrices(x: jax.Array, weight: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        columns = math.prod(size for size, letter in zip(weight.shape, letters, strict=True) if letter in outputs)
        rows_x, matrix = x.reshape(-1, weight.size // columns), weight.reshape(-1, columns)
        rows = gradient.reshape(-1, columns)
        return (rows @ _transposed(matrix)).reshape(x.shape), (_transposed(rows_x) @ rows).reshape(weight.shape)

    return jax.lax.platform_dependent(*saved, gradient, cpu=matrices, default=einsums)


def _transposed(matrix: jax.Array) -> jax.Array:
    """The transposed matrix, laid out anew in row-major order."""
    return with_layout_constraint(matrix.T, Layout(major_to_minor=(0, 1)))


_product.defvjp(_product_forward, _product_backward)


def saves_products(primitive: Any, *inputs: Any, **parameters: Any) -> bool:
    """A policy for jax.checkpoint: products of activations and weights are kept, and all else is computed again."""
    products = jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims
    return primitive.name == "custom_vjp_call" or products(primitive, *inputs, **parameters)


def attention_product(equation: str, x: jax.Array, y: jax.Array, dtype: Any) -> jax.Array:
    """einsum(equation, x, y), summed in float32 and returned in `dtype`; the equation has the letters of attention.

    On a CPU operands are converted to float32 first, because products of many small bfloat16 matrices are slow there;
    and those of one query for each sequence are sums of elements, because matrices of so few rows are slow too.
    """

    def plain(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.einsum(equation, x, y, preferred_element_type=dtype)

    def on_cpu(x: jax.Array, y: jax.Array) -> jax.Array:
        product = _sums_of_elements if few else jnp.einsum
        return product(equation, x.astype(jnp.float32), y.astype(jnp.float32)).astype(dtype)

    few = "P" not in equation and x.shape[equation.index("T")] == 1
    if x.dtype != jnp.bfloat16 and not few:
        return plain(x, y)
    return jax.lax.platform_dependent(x, y, cpu=on_cpu, default=plain)


def _sums_of_elements(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
    *inputs, output = equation.replace("->", ",").split(",")
    every = "BKQTSH"  # in the order of the keys in memory

    def spread(x: jax.Array, letters: str) -> jax.Array:
        order = [letter for letter in every if letter in letters]
        sizes = dict(zip(letters, x.shape, strict=True))
        return x.transpose([letters.index(letter) for letter in order]).reshape([sizes.get(n, 1) for n in every])

    (summed,) = set(every) - set(output)
    total = (spread(x, inputs[0]) * spread(y, inputs[1])).sum(axis=every.index(summed))
    rest = every.replace(summed, "")
    return total.transpose([rest.index(letter) for letter in output])


@jax.custom_vjp
def logits(x_BTD: jax.Array, weight_VD: jax.Array) -> jax.Array:
    """Float32 logits; backward, their gradient has the activations' type, as that of each other product has."""
    return jnp.einsum("BTD,VD->BTV", x_BTD, weight_VD, preferred_element_type=jnp.float32)


def _logits_forward(x_BTD: jax.Array, weight_VD: jax.Array) -> tuple[jax.Array, Any]:
    return logits(x_BTD, weight_VD), (x_BTD, weight_VD)


def _logits_backward(saved: Any, gradient_BTV: jax.Array) -> tuple[jax.Array, jax.Array]:
    def einsums(x_BTD: jax.Array, weight_VD: jax.Array, gradient_BTV: jax.Array) -> tuple[jax.Array, jax.Array]:
        by_x = jnp.einsum("BTV,VD->BTD", gradient_BTV, weight_VD)
        return by_x, jnp.einsum("BTV,BTD->VD", gradient_BTV, x_BTD)

    def matrices(x_BTD: jax.Array, weight_VD: jax.Array, gradient_BTV: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = gradient_BTV.reshape(-1, gradient_BTV.shape[-1])
        return (rows @ weight_VD).reshape(x_BTD.shape), _transposed(rows) @ x_BTD.reshape(-1, x_BTD.shape[-1])

    return jax.lax.platform_dependent(*saved, gradient_BTV.astype(saved[0].dtype), cpu=matrices, default=einsums)


logits.defvjp(_logits_forward, _logits_backward)


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
