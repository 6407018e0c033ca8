"""Keys and values kept between forwards: explicit pytrees that go in and come out.

Letters: L layers, B sequences, P prompts (B = P × G samples each), S key positions, K key-value heads, H head dim.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from r1jax.parallel.mesh import constrain


@flax.struct.dataclass
class Cache:
    """`filled` slots of each row hold keys and values; a forward appends its own."""

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    filled: jax.Array

    @classmethod
    def empty(cls, *, layers: int, rows: int, slots: int, heads: int, head_dim: int, dtype: str) -> Cache:
        zeros = constrain(jnp.zeros((layers, rows, slots, heads, head_dim), dtype), "LBSKH")
        return cls(zeros, zeros, jnp.zeros((), jnp.int32))

    def shared(self, length_P: jax.Array) -> Prefix:
        """This cache of prompts of these lengths, to be read by several samples of each."""
        return Prefix(self.k_LBSKH, self.v_LBSKH, length_P)


@flax.struct.dataclass
class Prefix:
    """A prefilled prompt cache that the G samples of each prompt share: row b reads prompt b // G, up to its length."""

    k_LPSKH: jax.Array
    v_LPSKH: jax.Array
    length_P: jax.Array
