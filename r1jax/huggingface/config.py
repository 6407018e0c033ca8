"""The architecture of a model: from a config's `model` block, from a folder's config.json, and back into one.

config = model_config(settings.model)
config = read_config(Path("models/smollm2-135m-instruct"))
write_description(Path("out"), config, tokenizer, positions=512)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from r1jax.config.base import ConfigError
from r1jax.config.model import SIZES, ModelSettings
from r1jax.huggingface.folder import CONFIG, GENERATION, find_model, read_json
from r1jax.models import ModelConfig
from r1jax.models.layers import RopeScaling
from r1jax.models.transformer import TransformerConfig
from r1jax.text.tokenizer import Tokenizer


class Family(NamedTuple):
    """A family by Hugging Face's `model_type`: its class there, and what is particular about its attention."""

    architecture: str
    qkv_bias: bool
    qk_norm: bool


FAMILIES = {
    "llama": Family("LlamaForCausalLM", qkv_bias=False, qk_norm=False),
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True, qk_norm=False),
    "qwen3": Family("Qwen3ForCausalLM", qkv_bias=False, qk_norm=True),
}
SAME_NAMES = (*SIZES, "rms_norm_eps", "tie_word_embeddings", "vocab_size")
REQUIRED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
# Features that some models of these families have and ours does not: the only value that is supported.
ONLY = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False}
ROPE_KEYS = {
    "linear": {"rope_type", "factor"},
    "llama3": {"rope_type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {field.name for field in dataclasses.fields(RopeScaling)} - {"low_freq_factor", "high_freq_factor"},
}


def model_config(settings: ModelSettings, folder: Path | None = None) -> ModelConfig:
    """The architecture that a config's `model` block describes or points to.

    With a `folder` its config.json is read instead: a run's own copy outlives the folder that `settings.path` names.
    """
    if folder is None and settings.path is not None:
        folder = find_model(settings.path)
    if folder is None:
        family = FAMILIES[settings.family or "none"]
        given = settings.model_dump(include={*SIZES, "rope_theta"}, exclude_none=True)
        config = TransformerConfig(**given, qkv_bias=family.qkv_bias, qk_norm=family.qk_norm)
    else:
        config = read_config(folder)
    computed = {name: getattr(settings, name) for name in ("dtype", "remat", "attention")}
    return dataclasses.replace(config, **computed)


def read_config(folder: Path) -> ModelConfig:
    """config.json → our config. Raises ConfigError for an architecture, or a feature of one, that is not supported."""
    file = folder / CONFIG
    raw = read_json(file)
    architecture = (raw.get("architectures") or ["none"])[0]
    named = [(kind, family) for kind, family in FAMILIES.items() if family.architecture == architecture]
    if not named:
        supported = ", ".join(family.architecture for family in FAMILIES.values())
        raise ConfigError(f"{file}: architecture {architecture} is not supported; those are {supported}")
    ((kind, family),) = named
    for name, value in ONLY.items():
        if raw.get(name, value) != value:
            raise ConfigError(f"{file}: {name} {raw[name]} is not supported; only {value} is")
    for name in REQUIRED:
        if not isinstance(raw.get(name), int) or raw[name] < 1:
            was = f"is {raw[name]!r}" if name in raw else "is missing"
            raise ConfigError(f"{file}: {name} {was}; give the config.json that came with the weights")
    heads = raw["num_attention_heads"]
    # Left out, a field has the value of its class in Hugging Face.
    defaults = {
        "num_key_value_heads": heads,
        "head_dim": raw["hidden_size"] // heads if kind != "qwen3" else 128,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    }
    values = defaults | {name: raw[name] for name in SAME_NAMES if raw.get(name) is not None}
    theta, scaling = _rope(raw, file)
    try:
        return TransformerConfig(
            **values, rope_theta=float(theta), rope_scaling=scaling, qkv_bias=family.qkv_bias, qk_norm=family.qk_norm
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from None


def _rope(raw: Mapping[str, Any], file: Path) -> tuple[float, RopeScaling | None]:
    """theta and scaling: newer files have both in `rope_parameters`, older ones have two keys for them."""
    rope = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    theta = rope.pop("rope_theta", raw.get("rope_theta", 10_000.0))
    kind = rope.pop("rope_type", None) or rope.pop("type", None) or "default"
    rope.pop("type", None)
    if kind == "default":
        return theta, None
    if kind not in ("linear", "llama3", "yarn"):
        raise ConfigError(f"{file}: rope scaling {kind} is not supported; linear, llama3 and yarn are")
    if kind != "linear":
        rope.setdefault("original_max_position_embeddings", raw.get("max_position_embeddings"))
    if unknown := sorted(set(rope) - {field.name for field in dataclasses.fields(RopeScaling)}):
        raise ConfigError(f"{file}: rope scaling has {unknown[0]}, which is not supported")
    try:
        return theta, RopeScaling(rope_type=kind, **rope)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file}: rope scaling: {error}") from None


def config_json(config: ModelConfig, *, dtype: str, positions: int) -> dict[str, Any]:
    """Our config → config.json. `positions` is the length that the model was trained on."""
    wanted = (config.qkv_bias, config.qk_norm)
    named = [(kind, family) for kind, family in FAMILIES.items() if (family.qkv_bias, family.qk_norm) == wanted]
    if not named:
        raise ConfigError("no Hugging Face architecture has both qkv_bias and qk_norm; export is not possible")
    ((kind, family),) = named
    scaling = config.rope_scaling
    rope_scaling = scaling and {
        name: value
        for name, value in dataclasses.asdict(scaling).items()
        if name in ROPE_KEYS[scaling.rope_type] and value is not None
    }
    return {
        "architectures": [family.architecture],
        "model_type": kind,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rope_theta": config.rope_theta,
        "rope_scaling": rope_scaling,
        "torch_dtype": dtype,
        **{name: getattr(config, name) for name in SAME_NAMES},
    }


def write_description(
    folder: Path,
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    positions: int,
    dtype: str | None = None,
    source: Path | None = None,
) -> None:
    """Writes config.json, generation_config.json and the tokenizer's files with its chat template.

    Where the model came from a folder, `source`, its config.json and generation_config.json are taken over, but with
    the stop tokens of the tokenizer. `positions` is the length that the model was trained on, if there is no source.
    `dtype` is the type of the weights that belong to these files (None: the source's, else float32).
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    stops: dict[str, Any] = {"eos_token_id": list(tokenizer.stop_ids)}
    if source is not None and (source / CONFIG).is_file():
        described = read_json(source / CONFIG)
        if dtype is not None:
            described["dtype" if "dtype" in described else "torch_dtype"] = dtype
    else:
        described = config_json(config, dtype=dtype or "float32", positions=positions) | stops
    if source is not None and (source / GENERATION).is_file():
        generation = read_json(source / GENERATION)
        named = generation.get("eos_token_id", described.get("eos_token_id"))
        named = set(named if isinstance(named, list) else [] if named is None else [named])
        if named | {tokenizer.stop_ids[0]} != set(tokenizer.stop_ids):  # the tokenizer is not the source's own
            generation |= stops
    else:
        generation = ({} if tokenizer.bos_id is None else {"bos_token_id": tokenizer.bos_id}) | stops
    for name, content in ((CONFIG, described), (GENERATION, generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
