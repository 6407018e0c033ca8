"""Keys and values kept between forwards: explicit pytrees that go in and come out.

Letters: L layers, B sequences, P prompts (B = P × G samples each), S key positions, K key-value heads, H head dim.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from r1jax.config.experiment import ModelConfig


@flax.struct.dataclass
class Cache:
    """`filled` slots of each row hold keys and values; a forward appends its own."""

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    filled: jax.Array

    @classmethod
    def empty(cls, config: ModelConfig, rows: int, slots: int) -> Cache:
        shape = (config.num_hidden_layers, rows, slots, config.num_key_value_heads, config.head_dim)
        zeros = jnp.zeros(shape, config.dtype)
        return cls(zeros, zeros, jnp.zeros((), jnp.int32))


@flax.struct.dataclass
class Prefix:
    """A prefilled prompt cache that the G samples of each prompt share: row b reads prompt b // G, up to its length."""

    k_LPSKH: jax.Array
    v_LPSKH: jax.Array
    length_P: jax.Array
