"""The parts that every decoder shares: RMSNorm, rotary embeddings, the SwiGLU block.

Letters: B sequences, T query positions, D model width, F mlp hidden, N heads, H head dim.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1jax.config import ModelConfig


def dense_init(inputs: int = 1) -> nn.initializers.Initializer:
    """Truncated normal of variance 1 / fan-in, where the first `inputs` axes of the weight are summed over."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        in_axis, out_axis = tuple(range(inputs)), tuple(range(inputs, len(shape)))
        return nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis)(key, shape, dtype)

    return init


class RMSNorm(nn.Module):
    """x / rms(x) × scale over the last axis, computed in float32 (Zhang & Sennrich 2019, 1910.07467)."""

    epsilon: float
    letter: str = "D"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param(f"scale_{self.letter}", nn.initializers.ones, (x.shape[-1],))
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.epsilon)
        return (normed * scale.reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


def rotary(x_BTNH: jax.Array, positions_BT: jax.Array, theta: float) -> jax.Array:
    """Rotates the two halves of each head by position (Su et al. 2104.09864; half-split layout as in Hugging Face)."""
    half = x_BTNH.shape[-1] // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles_BT1H = positions_BT.astype(jnp.float32)[:, :, None, None] * frequencies[None, None, None, :]
    cos, sin = jnp.cos(angles_BT1H), jnp.sin(angles_BT1H)
    left, right = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x_BTNH.dtype)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) × up(x)) (Shazeer 2002.05202)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        D, F = self.config.hidden_size, self.config.intermediate_size
        gate_DF = self.param("gate_DF", dense_init(), (D, F)).astype(x_BTD.dtype)
        up_DF = self.param("up_DF", dense_init(), (D, F)).astype(x_BTD.dtype)
        down_FD = self.param("down_FD", dense_init(), (F, D)).astype(x_BTD.dtype)
        hidden_BTF = nn.silu(jnp.einsum("BTD,DF->BTF", x_BTD, gate_DF)) * jnp.einsum("BTD,DF->BTF", x_BTD, up_DF)
        return jnp.einsum("BTF,FD->BTD", hidden_BTF, down_FD)
