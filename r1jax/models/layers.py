"""The layers that all decoders share: RMSNorm, rotary embeddings, SwiGLU, and the initializer of their weights.

Letters: B sequences, T query positions, D model width, F mlp hidden, N heads, H head dim.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from r1jax.models.products import dense


@dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies scaled for longer contexts; fields as in Hugging Face's `rope_scaling`."""

    rope_type: Literal["linear", "llama3", "yarn"]
    factor: float
    original_max_position_embeddings: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise ValueError(f"factor is {self.factor}; need 1 or more, since scaling makes contexts longer")
        if self.rope_type != "linear" and not self.original_max_position_embeddings:
            raise ValueError(f"rope_type {self.rope_type} needs original_max_position_embeddings")


def dense_init(inputs: int = 1) -> nn.initializers.Initializer:
    """Truncated normal with variance 1 / fan-in; the first `inputs` axes of a weight are its inputs."""

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


def rope_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> tuple[np.ndarray, float]:
    """How far each pair of a head's dimensions turns per position, in radians [H/2], and a factor for cos and sin.

    The frequencies are theta^(-2i/H) (Su et al. 2104.09864). For longer contexts `scaling` divides them by `factor`:
    all of them (linear), or the low ones and not the high ones, with a blend in between; the bounds are turns within
    the original context (llama3, and yarn: Peng et al. 2309.00071, whose factor for cos and sin is not 1).
    """
    half = head_dim // 2
    plain = theta ** (-np.arange(half) / half)
    if scaling is None:
        return plain.astype(np.float32), 1.0
    scaled = plain / scaling.factor
    if scaling.rope_type == "linear":
        return scaled.astype(np.float32), 1.0
    context = scaling.original_max_position_embeddings or 0
    if scaling.rope_type == "llama3":
        turns = context * plain / (2 * np.pi)  # of each pair within the original context
        unscaled = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        factor = 1.0
    else:
        unscaled = 1 - _yarn_ramp(scaling, half, theta, context)
        factor = _yarn_factor(scaling)
    unscaled = np.clip(unscaled, 0, 1)
    return (unscaled * plain + (1 - unscaled) * scaled).astype(np.float32), factor


def _yarn_ramp(scaling: RopeScaling, half: int, theta: float, context: int) -> np.ndarray:
    """Rises from 0 at the pair that makes `beta_fast` turns to 1 at the one that makes `beta_slow`."""

    def pair(turns: float) -> float:
        return half * math.log(context / (turns * 2 * math.pi)) / math.log(theta)

    first, last = pair(scaling.beta_fast), pair(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * half - 1)
    return np.clip((np.arange(half) - first) / max(last - first, 0.001), 0, 1)


def _yarn_factor(scaling: RopeScaling) -> float:
    """sqrt(1/t) of YaRN's equation 22, unless the model's own config gives another factor."""

    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(scaling.factor) + 1.0

    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return scale(scaling.mscale) / scale(scaling.mscale_all_dim)
    return scale(1.0)


def rotary(x_BTNH: jax.Array, positions_BT: jax.Array, frequencies: np.ndarray, factor: float) -> jax.Array:
    """Rotates each pair by its position (Su et al. 2104.09864); pair i is (i, i + H/2), as in Hugging Face's models."""
    angles_BT1H = positions_BT.astype(jnp.float32)[:, :, None, None] * frequencies[None, None, None, :]
    cos, sin = jnp.cos(angles_BT1H) * factor, jnp.sin(angles_BT1H) * factor
    left, right = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x_BTNH.dtype)


def with_bias(layer: nn.Module, name: str, x_BT: jax.Array) -> jax.Array:
    """An activation plus a bias of its last axis, a parameter of this name."""
    bias = layer.param(name, nn.initializers.zeros, (x_BT.shape[-1],)).astype(x_BT.dtype)
    return x_BT + bias[None, None]


class SwiGLU(nn.Module):
    """down(silu(gate(x)) × up(x)) (Shazeer 2002.05202)."""

    hidden: int
    gather: bool = True
    bias: bool = False

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        D, F = x_BTD.shape[2], self.hidden
        gate_DF = self.param("gate_DF", dense_init(), (D, F))
        up_DF = self.param("up_DF", dense_init(), (D, F))
        down_FD = self.param("down_FD", dense_init(), (F, D))
        product = functools.partial(dense, gather=self.gather)
        gate_BTF, up_BTF = product("BTD,DF->BTF", x_BTD, gate_DF), product("BTD,DF->BTF", x_BTD, up_DF)
        if self.bias:
            gate_BTF, up_BTF = with_bias(self, "gate_bias_F", gate_BTF), with_bias(self, "up_bias_F", up_BTF)
        out_BTD = product("BTF,FD->BTD", nn.silu(gate_BTF) * up_BTF, down_FD)
        return with_bias(self, "down_bias_D", out_BTD) if self.bias else out_BTD
