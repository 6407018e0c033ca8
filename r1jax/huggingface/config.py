"""A Hugging Face folder's config.json ↔ ModelConfig."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1jax.config.base import ConfigError
from r1jax.config.experiment import ModelConfig, RopeScaling

FAMILIES: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {"model_type": "llama", "qkv_bias": False, "qk_norm": False},
    "Qwen2ForCausalLM": {"model_type": "qwen2", "qkv_bias": True, "qk_norm": False},
    "Qwen3ForCausalLM": {"model_type": "qwen3", "qkv_bias": False, "qk_norm": True},
}
SAME_NAMES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "tie_word_embeddings",
    "vocab_size",
)
# What other members of these families have and this model has not: the only value that is understood.
ONLY = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False}
ROPE_KEYS = {
    "linear": {"rope_type", "factor"},
    "llama3": {"rope_type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": set(RopeScaling.model_fields) - {"low_freq_factor", "high_freq_factor"},
}
CONFIG, GENERATION = "config.json", "generation_config.json"


def read_config(folder: Path) -> ModelConfig:
    """config.json → ModelConfig. Raises ConfigError for an architecture, or a feature of one, that is not supported."""
    file = folder / CONFIG
    raw = read_json(file)
    architectures = raw.get("architectures") or ["none"]
    family = FAMILIES.get(architectures[0])
    if family is None:
        raise ConfigError(f"{file}: architecture {architectures[0]} is not supported; those are {', '.join(FAMILIES)}")
    for name, value in ONLY.items():
        if raw.get(name, value) != value:
            raise ConfigError(f"{file}: {name} {raw[name]} is not supported; only {value} is")
    missing = [n for n in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size") if n not in raw]
    if missing:
        raise ConfigError(f"{file}: {missing[0]} is missing; give the config.json that came with the weights")
    heads = raw["num_attention_heads"]
    # Left out, a field has the value of its class in Hugging Face.
    defaults = {
        "num_key_value_heads": heads,
        "head_dim": raw["hidden_size"] // heads if family["model_type"] != "qwen3" else 128,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    }
    values = defaults | {name: raw[name] for name in SAME_NAMES if raw.get(name) is not None}
    theta, scaling = _rope(raw, file)
    try:
        return ModelConfig(
            **values,
            rope_theta=float(theta),
            rope_scaling=scaling,
            qkv_bias=family["qkv_bias"],
            qk_norm=family["qk_norm"],
        )
    except ValueError as error:
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from None


def _rope(raw: Mapping[str, Any], file: Path) -> tuple[float, RopeScaling | None]:
    """theta and scaling, which stand together in `rope_parameters` in newer files, apart in older ones."""
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
    if unknown := sorted(set(rope) - set(RopeScaling.model_fields)):
        raise ConfigError(f"{file}: rope scaling has {unknown[0]}, which is not supported")
    try:
        return theta, RopeScaling(rope_type=kind, **rope)
    except ValueError as error:
        raise ConfigError(f"{file}: rope scaling: {' '.join(str(error).split())}") from None


def config_json(config: ModelConfig, *, dtype: str, vocabulary: int, positions: int) -> dict[str, Any]:
    """ModelConfig → config.json. `positions` is what the model was trained on, where it did not come with its own."""
    wanted = {"qkv_bias": config.qkv_bias, "qk_norm": config.qk_norm}
    named = [(name, f) for name, f in FAMILIES.items() if all(f[key] == value for key, value in wanted.items())]
    if not named:
        raise ConfigError("no supported architecture has both qkv_bias and qk_norm; export is not possible")
    (architecture, family), *_ = named
    values = {name: getattr(config, name) for name in SAME_NAMES} | {"vocab_size": config.vocab_size or vocabulary}
    scaling = config.rope_scaling
    return {
        "architectures": [architecture],
        "model_type": family["model_type"],
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling and scaling.model_dump(include=ROPE_KEYS[scaling.rope_type], exclude_none=True),
        "torch_dtype": dtype,
        **values,
    }


def copy_description(source: Path, folder: Path) -> None:
    """config.json and generation_config.json of a model's folder, where it has them."""
    for name in (CONFIG, GENERATION):
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; raises ConfigError where there is none."""
    if not file.is_file():
        hint = "give the folder of a Hugging Face model"
        if (file.parent / "config.yaml").is_file():
            hint = f"of a run folder make a model first: r1jax export {file.parent} OUT --dtype float32"
        raise ConfigError(f"{file.parent}: no {file.name}; {hint}")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: need a JSON object")
    return value
