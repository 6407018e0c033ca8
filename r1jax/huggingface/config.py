"""The architecture of a model: from a config's `model` block, from a folder's config.json, and back into one.

config = model_config(settings.model)
config = read_config(Path("models/smollm2-135m-instruct"))
write_description(Path("out"), config, tokenizer, positions=512)
"""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from r1jax.config.base import ConfigError
from r1jax.config.model import LIMITS, SIZES, ModelSettings
from r1jax.huggingface.folder import CONFIG, GENERATION, find_model, read_json
from r1jax.huggingface.weights import has_own_head
from r1jax.models import ModelConfig
from r1jax.models.layers import RopeScaling
from r1jax.models.transformer import TransformerConfig
from r1jax.text.tokenizer import Tokenizer


class Family(NamedTuple):
    """A family by Hugging Face's `model_type`: its class there, and what is particular about its attention.

    `biases` are the settings that give it biases beside those of `qkv_bias`, and `key_value_heads` how many it has
    where config.json has no key for them (None: as many as heads).
    """

    architecture: str
    qkv_bias: bool
    qk_norm: bool
    biases: tuple[str, ...] = ()
    key_value_heads: int | None = None


FAMILIES = {
    "llama": Family("LlamaForCausalLM", False, False, biases=("attention_bias", "mlp_bias")),
    "qwen2": Family("Qwen2ForCausalLM", True, False, key_value_heads=32),
    "qwen3": Family("Qwen3ForCausalLM", False, True, biases=("attention_bias",), key_value_heads=32),
    "mistral": Family("MistralForCausalLM", False, False, key_value_heads=8),
}
SAME_NAMES = (*SIZES, "rms_norm_eps", "tie_word_embeddings", "vocab_size")
REQUIRED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
ROPE_KEYS = {
    "default": set[str](),
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
    """config.json → our config. Raises ConfigError for an architecture, or a feature of one, that is not supported.

    Where the weights beside it have an output head of their own, the embeddings are not tied, whatever it says.
    """
    file = folder / CONFIG
    raw = read_json(file)
    kind = _kind(raw, file)
    family = FAMILIES[kind]
    if quantised := raw.get("quantization_config"):
        method = quantised.get("quant_method", "") if isinstance(quantised, dict) else quantised
        raise ConfigError(f"{file}: the weights are quantised ({method}), which is not supported; give the originals")
    if raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ConfigError(f"{file}: hidden_act {raw['hidden_act']} is not supported; only silu is")
    for name in REQUIRED:
        if type(raw.get(name)) is not int or raw[name] < 1:
            was = f"is {raw[name]!r:.80}" if name in raw else "is missing"
            raise ConfigError(f"{file}: {name} {was}; give the config.json that came with the weights")
    for name, most in LIMITS.items():
        if isinstance(raw.get(name), int) and raw[name] > most:
            raise ConfigError(f"{file}: {name} is {raw[name]}; {most} is the most that is read")
    _check_window(raw, kind, file)
    heads, grouped = raw["num_attention_heads"], "num_key_value_heads" in raw
    # Left out, a field has the value of its class in Hugging Face.
    defaults = {
        "num_key_value_heads": heads if grouped else family.key_value_heads or heads,
        "head_dim": raw["hidden_size"] // heads if kind != "qwen3" else 128,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    }
    values = defaults | {name: raw[name] for name in SAME_NAMES if raw.get(name) is not None}
    for name in ("num_key_value_heads", "head_dim"):
        if type(values[name]) is not int or values[name] < 1:
            raise ConfigError(f"{file}: {name} is {values[name]!r:.80}; need a whole number above 0")
    if type(values["tie_word_embeddings"]) is not bool or not 0 <= _number(values, "rms_norm_eps", file) < 1:
        raise ConfigError(f"{file}: tie_word_embeddings must be true or false, and rms_norm_eps a small number")
    if values["tie_word_embeddings"] and has_own_head(folder):
        warnings.warn(
            f"{file} has tie_word_embeddings true, and the weights beside it an lm_head.weight that differs from the "
            f"embedding; the one in the file is used, untied",
            stacklevel=2,
        )
        values["tie_word_embeddings"] = False
    attention, mlp = (raw.get(name) is True and name in family.biases for name in ("attention_bias", "mlp_bias"))
    theta, scaling = _rope(raw, file)
    try:
        return TransformerConfig(
            **values,
            rope_theta=theta,
            rope_scaling=scaling,
            qkv_bias=family.qkv_bias or attention,
            output_bias=attention,
            mlp_bias=mlp,
            qk_norm=family.qk_norm,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from None


def _kind(raw: Mapping[str, Any], file: Path) -> str:
    """The family by its class, or where the file names none, by its `model_type`."""
    named = raw.get("architectures")
    if named and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise ConfigError(f"{file}: architectures is {named!r:.80}; need a list of names of classes")
    kinds = {family.architecture: kind for kind, family in FAMILIES.items()}
    if named and named[0] in kinds:
        return kinds[named[0]]
    if not named and raw.get("model_type") in [*FAMILIES]:
        return raw["model_type"]
    what = f"architecture {named[0]}" if named else f"model_type {raw.get('model_type')!r:.80}, without architectures,"
    raise ConfigError(f"{file}: {what} is not supported; those are {', '.join(kinds)}")


def _check_window(raw: Mapping[str, Any], kind: str, file: Path) -> None:
    """Raises ConfigError where a layer attends to a window alone."""
    types, window = raw.get("layer_types"), raw.get("sliding_window", 4096)
    slides = window is not None and kind != "llama"
    if kind.startswith("qwen"):
        first = raw.get("max_window_layers", 28)
        late = not isinstance(first, int) or first < raw["num_hidden_layers"]
        slides = slides and raw.get("use_sliding_window") is True and types is None and late
    if slides:
        raise ConfigError(
            f"{file}: layers attend to a sliding window of {window} tokens, which is not supported; if no text "
            f"will be longer, set sliding_window to null in a copy"
        )
    if types is not None and (not isinstance(types, list) or any(each != "full_attention" for each in types)):
        raise ConfigError(f"{file}: layer_types are not all full_attention, which is not supported")


def _scaling(block: Mapping[str, Any]) -> dict[str, Any]:
    """What a block says of scaling, by its newer names."""
    kind = {"rope_type": block.get("rope_type", block.get("type"))}
    return {name: value for name, value in block.items() if name not in ("rope_theta", "type")} | kind


def _rope(raw: Mapping[str, Any], file: Path) -> tuple[float, RopeScaling | None]:
    """theta and scaling: newer files have both in `rope_parameters`, older ones have two keys for them."""
    newer, older = (raw.get(name) or {} for name in ("rope_parameters", "rope_scaling"))
    for name, block in (("rope_parameters", newer), ("rope_scaling", older)):
        if not isinstance(block, dict) or any(isinstance(value, dict) for value in block.values()):
            raise ConfigError(
                f"{file}: {name} is not one block for all layers, which alone is supported: {block!r:.80}"
            )
    if newer and older and _scaling(newer) != _scaling(older):
        raise ConfigError(f"{file}: has rope_parameters and rope_scaling, and they differ; leave one of them out")
    rope = dict(newer or older)
    theta = _number({"rope_theta": rope.pop("rope_theta", raw.get("rope_theta", 10_000.0))}, "rope_theta", file)
    if theta == 0:
        raise ConfigError(f"{file}: rope_theta is 0; need a number above it")
    kind = rope.pop("rope_type", None) or rope.get("type") or "default"
    rope.pop("type", None)
    if not isinstance(kind, str) or kind not in ROPE_KEYS:
        raise ConfigError(f"{file}: rope scaling {kind!s:.80} is not supported; linear, llama3 and yarn are")
    if raw.get("partial_rotary_factor", 1) != 1 or rope.pop("partial_rotary_factor", 1) != 1:
        raise ConfigError(f"{file}: partial_rotary_factor is not supported; rotary embeddings turn whole heads")
    if unknown := sorted(set(rope) - ROPE_KEYS[kind]):
        raise ConfigError(f"{file}: rope scaling {kind} has {unknown[0]}, which is not supported; leave it out")
    if kind == "default":
        return theta, None
    if kind != "linear":
        rope.setdefault("original_max_position_embeddings", raw.get("max_position_embeddings"))
        if "original_max_position_embeddings" in raw:  # this one comes first, as for Phi-3
            rope["original_max_position_embeddings"] = raw["original_max_position_embeddings"]
    rope = {name: value for name, value in rope.items() if value is not None}
    for name in rope.keys() - {"truncate"}:
        _number(rope, name, file)
    try:
        return theta, RopeScaling(rope_type=kind, **rope)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file}: rope scaling: {error}") from None


def _number(values: Mapping[str, Any], name: str, file: Path) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise ConfigError(f"{file}: {name} is {value!r:.80}; need a number, 0 or more")
    return float(value)


def config_json(config: ModelConfig, *, dtype: str, positions: int) -> dict[str, Any]:
    """Our config → config.json. `positions` is the length that the model was trained on."""
    kind = "qwen3" if config.qk_norm else "qwen2" if config.qkv_bias and not config.output_bias else "llama"
    family = FAMILIES[kind]
    biases = {"attention_bias": config.output_bias, "mlp_bias": config.mlp_bias}
    if any(needed and name not in family.biases for name, needed in biases.items()) or (
        config.qkv_bias != (family.qkv_bias or config.output_bias)
    ):
        raise ConfigError(f"no Hugging Face architecture like {family.architecture} has these biases; cannot export")
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
        **{name: biases[name] for name in family.biases},
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
    texts: dict[str, Any] = {"stop_strings": list(tokenizer.stop_texts)} if tokenizer.stop_texts else {}
    if source is not None and (source / CONFIG).is_file():
        described = read_json(source / CONFIG) | {"tie_word_embeddings": config.tie_word_embeddings}
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
    generation |= texts
    for name, content in ((CONFIG, described), (GENERATION, generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
