"""The `model` block of a config: a pretrained model by its path, or the sizes of a new one."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from r1jax.config.base import PositiveFloat, Settings, Size

SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
# The most that a model is made of, far above what there is, so that a slip is refused before it takes memory.
LIMITS = {
    "hidden_size": 2**20,
    "intermediate_size": 2**22,
    "num_hidden_layers": 2**12,
    "num_attention_heads": 2**14,
    "num_key_value_heads": 2**14,
    "head_dim": 2**14,
    "vocab_size": 2**26,
}


class ModelSettings(Settings):
    """A pretrained model, or the description of a new one by the names of Hugging Face's config.json.

    A new model needs `family` and all sizes, and starts from random weights.
    """

    path: str | None = None
    """A Hugging Face folder or a hub id, whose config.json describes the architecture."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """What computations are in; weights are trained in float32."""
    remat: Literal["none", "dots", "full"] = "none"
    """Which activations the backward pass finds saved: all (none), the outputs of matrix products (dots), or the input
    of each layer alone (full). Saving less takes less memory and more time."""
    attention: Literal["auto", "plain"] = "auto"
    """How forwards without a cache attend: with a fused kernel where there is one (auto), or never (plain). On TPUs it
    is splash attention, where the length of the rows, or of completions after shared prompts, is a multiple of 128 on
    each device along `mesh.context`. On GPUs and CPUs there is none, and scores are held in memory."""
    family: Literal["llama", "qwen2", "qwen3"] | None = None
    """The architecture of a new model."""
    hidden_size: Size | None = None
    """Width of the residual stream."""
    intermediate_size: Size | None = None
    """Width of the MLP's hidden layer."""
    num_hidden_layers: Size | None = None
    """Layers."""
    num_attention_heads: Size | None = None
    """Query heads."""
    num_key_value_heads: Size | None = None
    """Key-value heads, a divisor of the query heads."""
    head_dim: Size | None = None
    """Width of a head, an even number."""
    rope_theta: PositiveFloat | None = None
    """Base of the rotary frequencies; 10,000 unless given."""

    @model_validator(mode="after")
    def _check(self) -> ModelSettings:
        needed = ("family", *SIZES)
        given = [name for name in (*needed, "rope_theta") if getattr(self, name) is not None]
        if self.path is not None and given:
            raise ValueError(
                f"{given[0]} is given beside path {self.path}, whose config.json describes the architecture; leave out "
                f"{', '.join(given)}"
            )
        for name in SIZES:
            if (getattr(self, name) or 0) > LIMITS[name]:
                raise ValueError(f"{name} is {getattr(self, name)}; {LIMITS[name]} is the most")
        missing = [name for name in needed if name not in given]
        if self.path is None and missing:
            raise ValueError(f"missing: {', '.join(missing)}; give a path, or the family and all sizes of a new model")
        check_heads(self.num_attention_heads, self.num_key_value_heads, self.head_dim)
        return self


def check_heads(num_attention_heads: int | None, num_key_value_heads: int | None, head_dim: int | None) -> None:
    """Raises ValueError where query heads do not divide over key-value heads, or heads into rotary pairs."""
    if num_attention_heads and num_key_value_heads and num_attention_heads % num_key_value_heads:
        raise ValueError(
            f"num_key_value_heads {num_key_value_heads} does not divide num_attention_heads {num_attention_heads}"
        )
    if head_dim and head_dim % 2:
        raise ValueError(f"head_dim {head_dim} is odd, and rotary embeddings turn pairs; give an even number")
