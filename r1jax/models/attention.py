"""Grouped-query attention over three kinds of keys: the forward's own, a cache, and a prompt shared by its samples.

Letters: B sequences, P prompts, G samples a prompt (B = P·G), T query positions, S key positions, D model width,
N query heads, K key-value heads, R query heads a key-value head (N = K·R), H head dim.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1jax.config.experiment import ModelConfig
from r1jax.models.kv_cache import Cache, Prefix
from r1jax.models.layers import RMSNorm, dense_init, rope_frequencies, rotary
from r1jax.parallel.mesh import constrain

MASKED = -1e30  # finite, so that a row with nothing to see gives numbers and not NaN


def attend(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    visible_BTS: jax.Array,
    prefix: tuple[jax.Array, jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """softmax(q·k / √H)·v over the visible keys, scores and softmax in float32 (Ainslie et al. 2305.13245).

    `prefix` is (k_PSKH, v_PSKH, length_P): the first `length` keys of prompt b // G are visible to row b as well.
    """
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    q_BTKRH = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
    scores = jnp.einsum("BTKRH,BSKH->BKRTS", q_BTKRH, k_BSKH, preferred_element_type=jnp.float32)
    scores = jnp.where(visible_BTS[:, None, None], scores, MASKED)
    if prefix is None:
        weights = jax.nn.softmax(scores, axis=-1).astype(v_BSKH.dtype)
        return jnp.einsum("BKRTS,BSKH->BTKRH", weights, v_BSKH).reshape(B, T, N, H)
    k_PSKH, v_PSKH, length_P = prefix
    P, S = k_PSKH.shape[:2]
    q_PGTKRH = q_BTKRH.reshape(P, B // P, T, K, N // K, H)
    shared = jnp.einsum("PGTKRH,PSKH->PGKRTS", q_PGTKRH, k_PSKH, preferred_element_type=jnp.float32)
    seen_PS = jnp.arange(S)[None] < length_P[:, None]
    shared = jnp.where(seen_PS[:, None, None, None, None], shared, MASKED).reshape(B, K, N // K, T, S)
    weights = jax.nn.softmax(jnp.concatenate([shared, scores], axis=-1), axis=-1).astype(v_BSKH.dtype)
    shared, own = weights[..., :S].reshape(P, B // P, K, N // K, T, S), weights[..., S:]
    out_BTKRH = jnp.einsum("BKRTS,BSKH->BTKRH", own, v_BSKH)
    out_BTKRH += jnp.einsum("PGKRTS,PSKH->PGTKRH", shared, v_PSKH).reshape(out_BTKRH.shape)
    return out_BTKRH.reshape(B, T, N, H)


class Attention(nn.Module):
    """Projections, optional qkv bias (Qwen2) and q/k norm (Qwen3), rotary positions, attention, output projection."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        positions_BT: jax.Array,
        visible_BTS: jax.Array,
        layer: jax.Array,
        cache: Cache | None,
        prefix: Prefix | None,
    ) -> tuple[jax.Array, Cache | None]:
        c = self.config
        D, N, K, H = c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim

        def project(name: str, letter: str, heads: int) -> jax.Array:
            w_DNH = self.param(f"{name}_D{letter}H", dense_init(), (D, heads, H)).astype(x_BTD.dtype)
            y_BTNH = jnp.einsum("BTD,DNH->BTNH", x_BTD, w_DNH)
            if c.qkv_bias:
                bias = self.param(f"{name}_bias_{letter}H", nn.initializers.zeros, (heads, H)).astype(x_BTD.dtype)
                y_BTNH += bias[None, None]
            return y_BTNH

        q_BTNH, k_BTKH, v_BTKH = project("q", "N", N), project("k", "K", K), project("v", "K", K)
        if c.qk_norm:
            q_BTNH = RMSNorm(c.rms_norm_eps, "H", name="q_norm")(q_BTNH)
            k_BTKH = RMSNorm(c.rms_norm_eps, "H", name="k_norm")(k_BTKH)
        rope = rope_frequencies(c)
        q_BTNH = constrain(rotary(q_BTNH, positions_BT, *rope), "BTNH")
        k_BTKH = rotary(k_BTKH, positions_BT, *rope)
        k, v = k_BTKH, v_BTKH
        if cache is not None:
            start = (layer, 0, cache.filled, 0, 0)
            cache = dataclasses.replace(
                cache,
                k_LBSKH=jax.lax.dynamic_update_slice(cache.k_LBSKH, k_BTKH[None], start),
                v_LBSKH=jax.lax.dynamic_update_slice(cache.v_LBSKH, v_BTKH[None], start),
            )
            k, v = cache.k_LBSKH[layer], cache.v_LBSKH[layer]
        shared = None if prefix is None else (prefix.k_LPSKH[layer], prefix.v_LPSKH[layer], prefix.length_P)
        out_BTNH = attend(q_BTNH, k, v, visible_BTS, shared)
        o_NHD = self.param("o_NHD", dense_init(inputs=2), (N, H, D)).astype(x_BTD.dtype)
        return jnp.einsum("BTNH,NHD->BTD", out_BTNH, o_NHD), cache
