"""Keys and values of earlier tokens: explicit pytrees that a forward is given and returns.

Letters: L layers, B sequences, P prompts, T query positions, S key positions, K key-value heads, H head dim.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from r1jax.parallel.mesh import constrain, own_rows_of, with_own_rows


@flax.struct.dataclass
class Cache:
    """`filled` counts the tokens written so far; a forward writes its keys and values after them.

    Past the last slot, forwards of one token begin again at the first and overwrite the oldest key. Row b sees only the
    keys written since `filled` was `began_B[b]`, at most as many as there are slots.

    Heads come before slots, as the products of attention want them. With slots first, TPUs copied it at each step.
    """

    k_LBKSH: jax.Array
    v_LBKSH: jax.Array
    filled: jax.Array
    began_B: jax.Array

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int, int], dtype: str) -> Cache:
        """No slot is filled; `shape` is that of [L, B, K, S, H]."""
        zeros = constrain(jnp.zeros(shape, dtype), "LBKSH")
        return cls(zeros, zeros, jnp.zeros((), jnp.int32), jnp.zeros(shape[1], jnp.int32))

    @property
    def slots(self) -> int:
        return self.k_LBKSH.shape[3]

    def write(self, layer: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array) -> Cache:
        """Puts one layer's new keys and values after the filled slots; `advance` counts them after the last layer."""
        start = (layer, 0, 0, self.filled % self.slots, 0)
        k_LBKSH = jax.lax.dynamic_update_slice(self.k_LBKSH, k_BTKH.swapaxes(1, 2)[None], start)
        v_LBKSH = jax.lax.dynamic_update_slice(self.v_LBKSH, v_BTKH.swapaxes(1, 2)[None], start)
        return dataclasses.replace(self, k_LBKSH=k_LBKSH, v_LBKSH=v_LBKSH)

    def advance(self, tokens: int) -> Cache:
        return dataclasses.replace(self, filled=self.filled + tokens)

    def layer(self, layer: jax.Array, slots: int | None = None) -> tuple[jax.Array, jax.Array]:
        """One layer's keys and values, [B, K, S, H] each, of the first `slots` slots or of all."""
        return self.k_LBKSH[layer, :, :, :slots], self.v_LBKSH[layer, :, :, :slots]

    def rows(self, row_B: jax.Array) -> Cache:
        """The cache of some rows; each device takes those of its own that its part of `row_B` counts."""
        k_LBKSH, v_LBKSH = (own_rows_of(x, row_B, axis=1) for x in (self.k_LBKSH, self.v_LBKSH))
        return Cache(k_LBKSH, v_LBKSH, self.filled, own_rows_of(self.began_B, row_B))


Keys = tuple[jax.Array, jax.Array]  # keys and values of a forward, [B, K, T, H] each, or of all layers with L in front


class Prefix(NamedTuple):
    """Keys and values of prompts in all layers, and how many of them are a prompt's; its samples share its row."""

    k_LPKSH: jax.Array
    v_LPKSH: jax.Array
    length_P: jax.Array

    def rows(self, row_P: jax.Array) -> Prefix:
        """The prefix of some rows, as in `Cache.rows`."""
        k_LPKSH, v_LPKSH = (own_rows_of(x, row_P, axis=1) for x in self[:2])
        return Prefix(k_LPKSH, v_LPKSH, own_rows_of(self.length_P, row_P))

    def with_rows(self, others: Prefix, row_P: jax.Array, new_P: jax.Array) -> Prefix:
        """This prefix, with row `row_P[p]` of `others` in the place of its own p where `new_P` is set."""
        k_LPKSH, v_LPKSH, length_P = (
            with_own_rows(x, other, row_P, new_P, axis=axis)
            for x, other, axis in zip(self, others, (1, 1, 0), strict=True)
        )
        return Prefix(k_LPKSH, v_LPKSH, length_P)
