"""The dense decoder of the Llama, Qwen2 and Qwen3 families: one forward for training, prefill and decode.

    hidden_BTD, cache = forward(model, params, tokens_BT)
    logits_BTV = unembed(model, params, hidden_BTD)

Letters: B sequences, T query positions, S key positions, D model width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1jax.config.experiment import ModelConfig
from r1jax.models.attention import Attention
from r1jax.models.kv_cache import Cache, Prefix
from r1jax.models.layers import RMSNorm, SwiGLU
from r1jax.parallel.mesh import constrain

VOCABULARY_MULTIPLE = 64  # rows of the embedding are padded to this, so that any mesh divides them

# A few layers are written out after each other: a loop costs a small model a quarter of its update on a CPU.
UNROLLED_LAYERS = 4

REMAT = {
    "dots": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def padded_vocabulary(size: int) -> int:
    """The rows of the embedding for a tokenizer of `size` ids."""
    return -(-size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    config: ModelConfig

    @nn.compact
    def __call__(self, carry, positions_BT, visible_BTS, prefix):
        x_BTD, cache, layer = carry
        epsilon = self.config.rms_norm_eps
        normed_BTD = RMSNorm(epsilon, name="attention_norm")(x_BTD)
        out_BTD, cache = Attention(self.config, name="attention")(
            normed_BTD, positions_BT, visible_BTS, layer, cache, prefix
        )
        x_BTD = constrain(x_BTD + out_BTD, "BTD")
        x_BTD = x_BTD + SwiGLU(self.config, name="mlp")(RMSNorm(epsilon, name="mlp_norm")(x_BTD))
        return (constrain(x_BTD, "BTD"), cache, layer + 1), None


class Transformer(nn.Module):
    """Token ids → final hidden states; `unembed` turns those into float32 logits over the padded vocabulary."""

    config: ModelConfig
    vocabulary: int

    def setup(self) -> None:
        c, V = self.config, padded_vocabulary(max(self.vocabulary, self.config.vocab_size or 0))
        # Variance 1 / D, so that tied logits begin at unit scale; a fixed 0.02 makes small models learn far slower.
        init = nn.initializers.normal(c.hidden_size**-0.5)
        self.embed_VD = self.param("embed_VD", init, (V, c.hidden_size))
        if not c.tie_word_embeddings:
            self.unembed_DV = self.param("unembed_DV", init, (c.hidden_size, V))
        block = Block if c.remat == "none" else nn.remat(Block, policy=REMAT[c.remat], prevent_cse=False)
        self.layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]
            length=c.num_hidden_layers,
            unroll=c.num_hidden_layers if c.num_hidden_layers <= UNROLLED_LAYERS else 1,
        )(c)
        self.norm = RMSNorm(c.rms_norm_eps)

    def __call__(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segments_BT: jax.Array | None = None,
        cache: Cache | None = None,
        prefix: Prefix | None = None,
    ) -> tuple[jax.Array, Cache | None]:
        """Returns hidden_BTD and the cache with this forward's keys appended.

        Positions default to 0..T-1. Without a cache a token sees the earlier ones of its own segment (default: all of
        the row); with one, every filled slot too; with a prefix, its prompt before those.
        """
        B, T = tokens_BT.shape
        if positions_BT is None:
            positions_BT = jnp.broadcast_to(jnp.arange(T)[None], (B, T))
        if cache is None:
            visible_BTS = jnp.broadcast_to(jnp.tril(jnp.ones((T, T), bool))[None], (B, T, T))
            if segments_BT is not None:
                visible_BTS &= segments_BT[:, :, None] == segments_BT[:, None, :]
        else:
            slots = jnp.arange(cache.k_LBSKH.shape[2])
            visible_TS = slots[None, :] <= cache.filled + jnp.arange(T)[:, None]
            visible_BTS = jnp.broadcast_to(visible_TS[None], (B, *visible_TS.shape))
        x_BTD = constrain(constrain(self.embed_VD.astype(self.config.dtype), "VD")[tokens_BT], "BTD")
        (x_BTD, cache, _), _ = self.layers((x_BTD, cache, jnp.zeros((), jnp.int32)), positions_BT, visible_BTS, prefix)
        if cache is not None:
            cache = dataclasses.replace(cache, filled=cache.filled + T)
        return self.norm(x_BTD), cache

    def unembed(self, hidden_BTD: jax.Array) -> jax.Array:
        """Float32 logits over the padded vocabulary."""
        weight_VD = self.embed_VD if self.config.tie_word_embeddings else self.unembed_DV.T
        weight_VD = weight_VD.astype(hidden_BTD.dtype)
        return jnp.einsum("BTD,VD->BTV", hidden_BTD, weight_VD, preferred_element_type=jnp.float32)


def forward(
    model: Transformer,
    params: Any,
    tokens_BT: jax.Array,
    positions_BT: jax.Array | None = None,
    segments_BT: jax.Array | None = None,
    cache: Cache | None = None,
    prefix: Prefix | None = None,
) -> tuple[jax.Array, Any]:
    """`Transformer.__call__` with these weights: (hidden_BTD, cache)."""
    return model.apply({"params": params}, tokens_BT, positions_BT, segments_BT, cache, prefix)  # type: ignore


def unembed(model: Transformer, params: Any, hidden_BTD: jax.Array) -> jax.Array:
    """`Transformer.unembed` with these weights: float32 logits_BTV."""
    return model.apply({"params": params}, hidden_BTD, method="unembed")  # type: ignore
