"""The dense decoder of the Llama, Mistral, Qwen2 and Qwen3 families: one forward for training, prefill and decode.

Qwen2 has biases on queries, keys and values (`qkv_bias`), Qwen3 norms on queries and keys (`qk_norm`), and a few Llamas
have biases on attention's output and in the MLP too (`output_bias`, `mlp_bias`).

Letters: B sequences, T query positions, S key positions, D model width, V vocabulary, N query heads, K key-value heads,
H head dim, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1jax.config.model import check_heads
from r1jax.models import splash
from r1jax.models.attention import Shared, attend, attend_cached
from r1jax.models.kv_cache import Cache, Keys, Prefix
from r1jax.models.layers import RMSNorm, RopeScaling, SwiGLU, dense_init, rope_frequencies, rotary, with_bias
from r1jax.models.products import dense, logits, lookup, saves_products
from r1jax.parallel.mesh import constrain, keeps_nothing_gathered, weights_are_split

# At most this many layers are unrolled, but in sampling: on a CPU, the loop costs a small model a quarter of its
# update. Its decoding is as fast in the loop, and compiles in two thirds of the time, once for each size of the batch.
UNROLLED_LAYERS = 4

REMAT = {
    "none": keeps_nothing_gathered,
    "dots": saves_products,
    "full": jax.checkpoint_policies.nothing_saveable,
}


@dataclass(frozen=True)
class TransformerConfig:
    """The whole architecture; fields as in Hugging Face's config.json.

    `vocab_size` is the number of the embedding's rows, which may be more than the tokenizer has ids; None until the
    tokenizer is known. Computations are in `dtype`; `remat` says what the backward pass recomputes, `attention` whether
    a fused kernel may stand in for the plain computation.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int | None = None
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = 1e-6
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tie_word_embeddings: bool = True
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Literal["none", "dots", "full"] = "none"
    attention: Literal["auto", "plain"] = "auto"

    def __post_init__(self) -> None:
        check_heads(self.num_attention_heads, self.num_key_value_heads, self.head_dim)


class Attention(nn.Module):
    """Grouped-query attention with its projections, rotary positions, and Qwen2's biases or Qwen3's norms."""

    config: TransformerConfig
    gather: bool = True

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        positions_BT: jax.Array,
        segments_BT: jax.Array | None,
        layer: jax.Array,
        cache: Cache | None,
        shared: Shared | None,
    ) -> tuple[jax.Array, Cache | Keys]:
        c = self.config
        D, N, K, H = c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim

        def project(name: str, letter: str, heads: int) -> jax.Array:
            w_DNH = self.param(f"{name}_D{letter}H", dense_init(), (D, heads, H))
            y_BTNH = dense(f"BTD,D{letter}H->BT{letter}H", x_BTD, w_DNH, gather=self.gather)
            if c.qkv_bias:
                bias = self.param(f"{name}_bias_{letter}H", nn.initializers.zeros, (heads, H)).astype(x_BTD.dtype)
                y_BTNH += bias[None, None]
            return y_BTNH

        q_BTNH, k_BTKH, v_BTKH = project("q", "N", N), project("k", "K", K), project("v", "K", K)
        if c.qk_norm:
            q_BTNH = RMSNorm(c.rms_norm_eps, "H", name="q_norm")(q_BTNH)
            k_BTKH = RMSNorm(c.rms_norm_eps, "H", name="k_norm")(k_BTKH)
        rope = rope_frequencies(c.head_dim, c.rope_theta, c.rope_scaling)
        q_BTNH = constrain(rotary(q_BTNH, positions_BT, *rope), "BTNH")
        k_BTKH = rotary(k_BTKH, positions_BT, *rope)
        if cache is not None:
            kept = cache.write(layer, k_BTKH, v_BTKH)
            out_BTNH = attend_cached(q_BTNH, kept, layer, shared)
        else:
            kept = k_BTKH.swapaxes(1, 2), v_BTKH.swapaxes(1, 2)
            fused = c.attention == "auto" and splash.fits(q_BTNH, kept[0], shared)
            out_BTNH = (splash.attend if fused else attend)(q_BTNH, *kept, segments_BT=segments_BT, shared=shared)
        o_NHD = self.param("o_NHD", dense_init(inputs=2), (N, H, D))
        out_BTD = dense("BTNH,NHD->BTD", out_BTNH, o_NHD, gather=self.gather)
        return with_bias(self, "o_bias_D", out_BTD) if c.output_bias else out_BTD, kept


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    config: TransformerConfig
    gather: bool = True

    @nn.compact
    def __call__(self, carry, keys, positions_BT, segments_BT, prompt_length_P, keep):
        x_BTD, prompt_PSD, cache, layer = carry
        epsilon = self.config.rms_norm_eps
        attention = Attention(self.config, self.gather, name="attention")
        attention_norm, mlp_norm = RMSNorm(epsilon, name="attention_norm"), RMSNorm(epsilon, name="mlp_norm")
        mlp = SwiGLU(self.config.intermediate_size, self.gather, self.config.mlp_bias, name="mlp")

        def block(x_BTD, positions_BT, segments_BT=None, cache=None, shared=None):
            out_BTD, kept = attention(attention_norm(x_BTD), positions_BT, segments_BT, layer, cache, shared)
            x_BTD = constrain(x_BTD + out_BTD, "BTD")
            return constrain(x_BTD + mlp(mlp_norm(x_BTD)), "BTD"), kept

        if prompt_PSD is not None:
            prompt_PSD, keys = block(prompt_PSD, counted(prompt_PSD))
        shared = None if keys is None else Shared(*keys, prompt_length_P)  # pyright: ignore
        x_BTD, kept = block(x_BTD, positions_BT, segments_BT, cache, shared)
        return (x_BTD, prompt_PSD, None if cache is None else kept, layer + 1), kept if keep else None


def counted(x_BT: jax.Array) -> jax.Array:
    """Positions from 0, [B, T]."""
    B, T = x_BT.shape[:2]
    return jnp.broadcast_to(jnp.arange(T)[None], (B, T))


class Transformer(nn.Module):
    """Token ids → final hidden states; `unembed` turns those into float32 logits over the padded vocabulary.

    `vocabulary` is the number of the tokenizer's ids, `rows` that of the embedding's rows, padding included. With
    `gather` weights may be split over the mesh's fsdp axis, as in training, and are gathered for each use; a few layers
    are unrolled. Without it the model is for sampling.
    """

    config: TransformerConfig
    vocabulary: int
    rows: int
    gather: bool = True

    def setup(self) -> None:
        c, V = self.config, self.rows
        # Variance 1 / D, so that tied logits start at unit scale; with a fixed 0.02 small models learn far more slowly.
        init = nn.initializers.normal(c.hidden_size**-0.5)
        self.embed_VD = self.param("embed_VD", init, (V, c.hidden_size))
        if not c.tie_word_embeddings:
            self.unembed_DV = self.param("unembed_DV", init, (c.hidden_size, V))
        recomputes = c.remat != "none" or (self.gather and weights_are_split())
        block = nn.remat(Block, policy=REMAT[c.remat], prevent_cse=False, static_argnums=6) if recomputes else Block
        self.layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, *[nn.broadcast] * 4),  # pyright: ignore[reportArgumentType]
            length=c.num_hidden_layers,
            unroll=c.num_hidden_layers if self.gather and c.num_hidden_layers <= UNROLLED_LAYERS else 1,
        )(c, self.gather)
        self.norm = RMSNorm(c.rms_norm_eps)

    def __call__(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segments_BT: jax.Array | None = None,
        cache: Cache | None = None,
        prefix: Prefix | None = None,
        keep: bool = False,
    ) -> tuple[jax.Array, Cache | Keys | None]:
        """Returns hidden_BTD and the cache with this forward's keys appended; without one and with `keep` these keys.

        Positions default to 0..T-1. Without a cache a token sees the earlier ones of its own segment (default: the
        row is one segment); with a cache it sees the filled slots as well; with a prefix, its prompt.
        """
        if positions_BT is None:
            positions_BT = counted(tokens_BT)
        if cache is None:
            x_BTD = lookup(self.embed_VD, tokens_BT, self.config.dtype)
        else:
            x_BTD = constrain(constrain(self.embed_VD.astype(self.config.dtype), "VD")[tokens_BT], "BTD")
        keys, prompt_length_P = (None, None) if prefix is None else (prefix[:2], prefix.length_P)
        carry = x_BTD, None, cache, jnp.zeros((), jnp.int32)
        (x_BTD, _, written, _), kept = self.layers(carry, keys, positions_BT, segments_BT, prompt_length_P, keep)
        return self.norm(x_BTD), kept if written is None else written.advance(tokens_BT.shape[1])  # pyright: ignore

    def after_prompts(
        self, tokens_BT: jax.Array, prompt_PS: jax.Array, prompt_length_P: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Hidden states of prompts and of the samples after them, [P, S, D] and [B, T, D]; row b is of prompt b // G.

        Each layer computes prompts and samples in turn, so that its weights are gathered, and gradients added, once.
        """
        prompt_PSD, x_BTD = (lookup(self.embed_VD, x, self.config.dtype) for x in (prompt_PS, tokens_BT))
        group_size = len(tokens_BT) // len(prompt_PS)
        positions_BT = jnp.repeat(prompt_length_P, group_size)[:, None] + counted(tokens_BT)
        carry = x_BTD, prompt_PSD, None, jnp.zeros((), jnp.int32)
        (x_BTD, prompt_PSD, _, _), _ = self.layers(carry, None, positions_BT, None, prompt_length_P, False)
        return self.norm(prompt_PSD), self.norm(x_BTD)  # pyright: ignore[reportArgumentType]

    @nn.nowrap
    def empty_cache(self, rows: int, slots: int) -> Cache:
        """A cache for `rows` sequences of at most `slots` tokens each."""
        c = self.config
        return Cache.empty((c.num_hidden_layers, rows, c.num_key_value_heads, slots, c.head_dim), c.dtype)

    def unembed(self, hidden_BTD: jax.Array) -> jax.Array:
        """Float32 logits over the padded vocabulary."""
        weight_VD = self.embed_VD if self.config.tie_word_embeddings else self.unembed_DV.T
        return logits(hidden_BTD, weight_VD.astype(hidden_BTD.dtype))
