"""Keys and values of earlier tokens: explicit pytrees that a forward is given and returns.

Letters: L layers, B sequences, T query positions, S key positions, K key-value heads, H head dim.
"""

from __future__ import annotations

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from r1jax.parallel.mesh import constrain


@flax.struct.dataclass
class Cache:
    """`filled` slots of each row hold keys and values; a forward writes its own after them."""

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    filled: jax.Array

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int, int], dtype: str) -> Cache:
        """No slot is filled; `shape` is that of [L, B, S, K, H]."""
        zeros = constrain(jnp.zeros(shape, dtype), "LBSKH")
        return cls(zeros, zeros, jnp.zeros((), jnp.int32))

    def write(self, layer: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array) -> Cache:
        """Puts one layer's new keys and values after the filled slots; `advance` counts them after the last layer."""
        start = (layer, 0, self.filled, 0, 0)
        k_LBSKH = jax.lax.dynamic_update_slice(self.k_LBSKH, k_BTKH[None], start)
        v_LBSKH = jax.lax.dynamic_update_slice(self.v_LBSKH, v_BTKH[None], start)
        return dataclasses.replace(self, k_LBSKH=k_LBSKH, v_LBSKH=v_LBSKH)

    def advance(self, tokens: int) -> Cache:
        return dataclasses.replace(self, filled=self.filled + tokens)

    def layer(self, layer: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One layer's keys and values, [B, S, K, H] each."""
        return self.k_LBSKH[layer], self.v_LBSKH[layer]


# A prefilled cache whose rows are prompts, and their lengths; the G samples of a prompt share its row.
Prefix = tuple[Cache, jax.Array]
