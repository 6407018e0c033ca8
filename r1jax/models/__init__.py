"""Decoders in Flax Linen, behind one small interface: other rooms name no family and no weight.

    model = make_model(config, tokenizer.size)
    params = init_params(model, jax.random.key(0))
    hidden_BTD, _ = forward(model, params, token_BT)
    logits_BTV = unembed(model, params, hidden_BTD)

A family is a module such as `transformer`: a frozen dataclass of the architecture, a Linen module with `__call__` (one
forward for training, prefill and decode, with an explicit cache), `unembed` and `empty_cache`, and a table in
`huggingface.tables`. The names of its weights end in their letters, such as `q_DNH` for [D, N, H], by which
`parallel.mesh` places them; stacked layers have an L in front that the name leaves out. Scales of norms are named
`scale_…`, the embedding `embed_VD`.

Letters: B sequences, T query positions, D model width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from r1jax.models.kv_cache import Cache, Prefix
from r1jax.models.transformer import Transformer, TransformerConfig
from r1jax.parallel.mesh import TRAIN_WEIGHTS, abstract_weights, constrain

# Unions, once there is a second family.
Model = Transformer
ModelConfig = TransformerConfig

VOCABULARY_MULTIPLE = 64  # rows of the embedding are padded to this, so that any mesh divides them


def make_model(config: ModelConfig, vocabulary: int) -> Model:
    """The model of this architecture for a tokenizer of `vocabulary` ids. Raises ValueError where it has too many.

    Where the config has no `vocab_size`, it becomes `vocabulary`.
    """
    size = config.vocab_size or vocabulary
    if vocabulary > size:
        raise ValueError(
            f"tokenizer: it has ids up to {vocabulary - 1} and the model's embedding {size} rows; "
            f"give the tokenizer that came with the model"
        )
    rows = -(-size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    return Transformer(dataclasses.replace(config, vocab_size=size), vocabulary, rows)


def forward(
    model: Model,
    params: Any,
    tokens_BT: jax.Array,
    positions_BT: jax.Array | None = None,
    segments_BT: jax.Array | None = None,
    cache: Cache | None = None,
    prefix: Prefix | None = None,
) -> tuple[jax.Array, Any]:
    """The model's `__call__` with these weights: final hidden states [B, T, D], and the cache with the new keys."""
    return model.apply({"params": params}, tokens_BT, positions_BT, segments_BT, cache, prefix)  # type: ignore


def prefill(model: Model, params: Any, prompt_PS: jax.Array, length_P: jax.Array) -> tuple[jax.Array, Prefix]:
    """Prompts as a prefix for their samples: the hidden states of their last tokens [P, D], and keys and values."""
    hidden_PSD, keys = model.apply({"params": params}, prompt_PS, keep=True)  # type: ignore
    return last(hidden_PSD, length_P), Prefix(*keys, length_P)  # type: ignore


def predictors(
    model: Model, params: Any, completion_BT: jax.Array, prompt_PS: jax.Array, length_P: jax.Array
) -> jax.Array:
    """The final hidden states that predict completion tokens, [B, T, D], where row b is of prompt b // G.

    A prompt is computed once for its G samples.
    """
    arguments = {"params": params}, completion_BT, prompt_PS, length_P
    hidden: Any = model.apply(*arguments, method="after_prompts")  # type: ignore
    prompt_PSD, hidden_BTD = hidden
    first_PD = last(prompt_PSD, length_P)
    first_B1D = jnp.repeat(first_PD, len(completion_BT) // len(prompt_PS), axis=0)[:, None]
    return constrain(jnp.concatenate([first_B1D, hidden_BTD[:, :-1]], axis=1), "BTD")


def last(x_BTD: jax.Array, length_B: jax.Array) -> jax.Array:
    """What belongs to the last token of each sequence, [B, D]."""
    return jnp.take_along_axis(x_BTD, (length_B - 1)[:, None, None], axis=1)[:, 0]


def unembed(model: Model, params: Any, hidden_BTD: jax.Array) -> jax.Array:
    """Float32 logits over the padded vocabulary, [B, T, V]."""
    return model.apply({"params": params}, hidden_BTD, method="unembed")  # type: ignore


def head(params: Any) -> Any:
    """The part of the weights that `unembed` reads."""
    return {name: params[name] for name in ("embed_VD", "unembed_DV") if name in params}


def values(
    model: Model, value_params: Any, tokens_BT: jax.Array, positions_BT: Any = None, segments_BT: Any = None
) -> jax.Array:
    """What a value model expects, or a reward model thinks of the text, at each position: float32 [B, T]."""
    hidden_BTD, _ = forward(model, value_params["model"], tokens_BT, positions_BT, segments_BT)
    head_D = value_params["head_D"].astype(hidden_BTD.dtype)
    return jnp.einsum("BTD,D->BT", hidden_BTD, head_D, preferred_element_type=jnp.float32)


def init_value_params(params: Any) -> Any:
    """A value or reward model: a copy of the policy and a linear head of zeros on its last hidden states."""
    width = params["embed_VD"].shape[1]
    return {"model": jax.tree.map(jnp.copy, params), "head_D": jnp.zeros(width, jnp.float32)}


def init_params(model: Model, key: jax.Array) -> Any:
    """Random weights, float32; run it under jit with out_shardings, so that no device holds all of a weight."""
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def abstract_params(model: Model, mesh: Mesh, *, with_head: bool = False) -> Any:
    """Shapes and training shardings of the weights. Raises ConfigError where the mesh does not divide them.

    With a head they are those of `init_value_params`.
    """
    shapes = _weight_shapes(model, with_head)  # pyright: ignore[reportArgumentType] (modules hash by their fields)
    return abstract_weights(mesh, shapes, TRAIN_WEIGHTS)


@functools.lru_cache(maxsize=64)  # many functions ask, and tracing takes half a second
def _weight_shapes(model: Model, with_head: bool) -> Any:
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    return jax.eval_shape(init_value_params, shapes) if with_head else shapes


def cast_for_sampling(params: Any, dtype: str) -> Any:
    """What a forward would do to each weight at every token: all in `dtype`, but for the scales of norms."""
    return jax.tree.map_with_path(lambda path, w: w if path[-1].key.startswith("scale") else w.astype(dtype), params)
