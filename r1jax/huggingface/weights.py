"""Weights in Hugging Face folders, in and out: one table of names, read both ways.

    config = read_config(find_model("Qwen/Qwen2.5-0.5B"))
    params = import_params(folder, abstract_params(model, mesh))
    export_params(params, config, Path("out"), dtype="bfloat16")

Letters: L layers, D model width, F mlp hidden, V vocabulary, N query heads, K key-value heads, H head dim.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from r1jax.config.base import ConfigError
from r1jax.config.experiment import Config, PretrainedModel
from r1jax.huggingface.config import read_config, read_json

# Each weight's path in our tree: the tensor's name, and its letters. Letters written together are one flattened axis.
TENSORS = {
    "embed_VD": ("model.embed_tokens.weight", "V D"),
    "unembed_DV": ("lm_head.weight", "V D"),
    "norm/scale_D": ("model.norm.weight", "D"),
    "layers/attention_norm/scale_D": ("model.layers.{}.input_layernorm.weight", "D"),
    "layers/attention/q_DNH": ("model.layers.{}.self_attn.q_proj.weight", "NH D"),
    "layers/attention/k_DKH": ("model.layers.{}.self_attn.k_proj.weight", "KH D"),
    "layers/attention/v_DKH": ("model.layers.{}.self_attn.v_proj.weight", "KH D"),
    "layers/attention/o_NHD": ("model.layers.{}.self_attn.o_proj.weight", "D NH"),
    "layers/attention/q_bias_NH": ("model.layers.{}.self_attn.q_proj.bias", "NH"),
    "layers/attention/k_bias_KH": ("model.layers.{}.self_attn.k_proj.bias", "KH"),
    "layers/attention/v_bias_KH": ("model.layers.{}.self_attn.v_proj.bias", "KH"),
    "layers/attention/q_norm/scale_H": ("model.layers.{}.self_attn.q_norm.weight", "H"),
    "layers/attention/k_norm/scale_H": ("model.layers.{}.self_attn.k_norm.weight", "H"),
    "layers/mlp_norm/scale_D": ("model.layers.{}.post_attention_layernorm.weight", "D"),
    "layers/mlp/gate_DF": ("model.layers.{}.mlp.gate_proj.weight", "F D"),
    "layers/mlp/up_DF": ("model.layers.{}.mlp.up_proj.weight", "F D"),
    "layers/mlp/down_FD": ("model.layers.{}.mlp.down_proj.weight", "D F"),
}
# Older Llama files keep rotary frequencies, which are computed here.
IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "*.model", "merges.txt")


class Tensor(NamedTuple):
    """One tensor of a safetensors file: where it is, its shape and its type there."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def resolve_model(config: Config) -> Config:
    """The config with a pretrained model's config.json read into it, and its tokenizer where none is named."""
    if isinstance(config.model, PretrainedModel):
        model = read_config(find_model(config.model.path)).model_copy(update=config.model.model_dump())
        config = config.model_copy(update={"model": model})
    if config.tokenizer is None:
        config = config.model_copy(update={"tokenizer": config.model.path or "characters"})
    return config


def find_model(path: str) -> Path:
    """A local folder as it is; else a hub id such as `Qwen/Qwen2.5-0.5B`, downloaded or from the hub's cache."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        raise ConfigError(f"{path} is no folder, and no hub id of the form OWNER/NAME; give one of the two")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, allow_patterns=list(HUB_FILES)))
    except LocalEntryNotFoundError:
        raise ConfigError(
            f"{path} is no folder here, not in the hub's cache, and the hub cannot be reached; "
            f"give a folder, or download it where there is a network"
        ) from None
    except HfHubHTTPError as error:
        raise ConfigError(f"{path} is no folder here, and the hub says: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no folder, and no hub id: {error}") from None


def import_params(folder: Path, abstract: Any, vocabulary: int | None = None) -> Any:
    """Weights, float32, in the shapes and shardings of `abstract`; host memory holds one device's part of one weight.

    Raises ConfigError, before anything is loaded, for a file that is cut off and for a tensor that is missing, not
    expected, or of another shape.
    """
    tensors = check_params(folder, abstract, vocabulary)
    leaves, structure = jax.tree.flatten_with_path(abstract)
    return jax.tree.unflatten(structure, [_load(tensors, _name(path), leaf) for path, leaf in leaves])


def check_params(folder: Path, abstract: Any, vocabulary: int | None = None) -> dict[str, Tensor]:
    """Every tensor of a folder, where they are those that `abstract` needs; reads the files' headers alone.

    `vocabulary` is how many rows the embedding has in the folder (None: as many as here, where it is padded).
    """
    tensors = find_tensors(folder)
    _check_tensors(folder, tensors, jax.tree.flatten_with_path(abstract)[0], vocabulary)
    return tensors


def find_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder, from model.safetensors or the files that model.safetensors.index.json names."""
    from safetensors import SafetensorError, safe_open

    if (folder / INDEX).is_file():
        files = sorted({folder / name for name in read_json(folder / INDEX).get("weight_map", {}).values()})
    else:
        files = [folder / SINGLE]
    tensors: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{folder}: no {file.name}; need {SINGLE}, or {INDEX} and the files that it names")
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict)
                    view = opened.get_slice(name)
                    tensors[name] = Tensor(file, tuple(view.get_shape()), view.get_dtype())
        except SafetensorError as error:
            raise ConfigError(f"{file}: not a whole safetensors file ({error}); copy or download it again") from None
    return tensors


def _check_tensors(
    folder: Path, tensors: Mapping[str, Tensor], leaves: list[tuple[Any, Any]], vocabulary: int | None
) -> None:
    expected = dict(_expected(leaves, vocabulary))
    tied = "lm_head.weight" not in expected  # some files keep the tied weight twice
    extra = [
        n for n in tensors if n not in expected and not IGNORED.fullmatch(n) and not (tied and n.startswith("lm_"))
    ]
    missing = [name for name in expected if name not in tensors]
    if missing:
        also = f"; it has {extra[0]}, which is not expected" if extra else ""
        raise ConfigError(f"{folder}: no tensor {missing[0]} of shape {list(expected[missing[0]])}{also}")
    if extra:
        raise ConfigError(f"{folder}: tensor {extra[0]} of shape {list(tensors[extra[0]].shape)} is not expected")
    for name, shape in expected.items():
        found = tensors[name]
        if found.shape != shape:
            raise ConfigError(f"{folder}: tensor {name} has shape {list(found.shape)}, config.json asks {list(shape)}")
        if found.dtype not in DTYPES.values():
            raise ConfigError(f"{folder}: tensor {name} is {found.dtype}; need {', '.join(DTYPES.values())}")


def _expected(leaves: list[tuple[Any, Any]], vocabulary: int | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every tensor of a tree of weights, whose embeddings have `vocabulary` rows."""
    for path, leaf in leaves:
        ours = _name(path)
        name, groups = TENSORS[ours]
        sizes = _sizes(ours, leaf.shape)
        if vocabulary is not None and "V" in sizes:
            sizes["V"] = vocabulary
        shape = tuple(math.prod(sizes[letter] for letter in group) for group in groups.split())
        for layer in range(sizes.get("L", 1)):
            yield name.format(layer), shape


def _load(tensors: Mapping[str, Tensor], ours: str, leaf: Any) -> jax.Array:
    """One weight, a device's part at a time; neighbouring devices that hold the same part share it."""
    arrays, last_index, last_part = [], None, np.empty(0)
    for device, index in leaf.sharding.addressable_devices_indices_map(leaf.shape).items():
        if index != last_index:
            last_index, last_part = index, _read(tensors, ours, leaf.shape, index)
        arrays.append(jax.device_put(last_part, device))
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, arrays)


def _read(tensors: Mapping[str, Tensor], ours: str, shape: tuple[int, ...], index: tuple[slice, ...]) -> np.ndarray:
    """The part `index` of a weight, stacked over layers; rows that the padded vocabulary adds are 0."""
    from safetensors import safe_open

    name, groups = TENSORS[ours]
    letters, sizes = _letters(ours), _sizes(ours, shape)
    bounds = {letter: s.indices(size)[:2] for letter, s, size in zip(letters, index, shape, strict=True)}
    out = np.zeros([stop - start for start, stop in bounds.values()], np.float32)
    inner = groups.replace(" ", "")
    order = [inner.index(letter) for letter in letters.replace("L", "")]
    parts = [bounds[letter][1] - bounds[letter][0] for letter in inner]
    for position, layer in enumerate(range(*bounds.get("L", (0, 1)))):
        tensor = tensors[name.format(layer)]
        where = [_rows(group, bounds, sizes, rows) for group, rows in zip(groups.split(), tensor.shape, strict=True)]
        if where[0].start >= where[0].stop:
            continue  # this part is padding alone
        # Opened anew each time: a mapped file counts as this process's memory for as long as it stays open.
        with safe_open(tensor.file, framework="numpy") as opened:
            piece = np.asarray(opened.get_slice(name.format(layer))[tuple(where)], np.float32)
        if inner[0] == "V":
            parts[0] = piece.shape[0]
        piece = piece.reshape(parts).transpose(order)
        target = out[position] if "L" in letters else out
        target[tuple(slice(size) for size in piece.shape)] = piece
    return out


def _rows(group: str, bounds: Mapping[str, tuple[int, int]], sizes: Mapping[str, int], rows: int) -> slice:
    """The slice of a flattened axis of `rows` whose first letter alone may be split."""
    inner = math.prod(sizes[letter] for letter in group[1:])
    start, stop = bounds[group[0]]
    return slice(start * inner, min(stop * inner, rows))


def export_params(
    params: Any, folder: Path, *, dtype: str, vocabulary: int, shard_bytes: int = 5 * 10**9, is_writer: bool = True
) -> None:
    """Writes weights as safetensors, one file or several of at most `shard_bytes` with an index.

    Of the embedding's rows `vocabulary` are written, without those that pad it here. All processes call it.
    """
    from safetensors.numpy import save_file

    leaves, _ = jax.tree.flatten_with_path(params)
    shapes = dict(_expected(leaves, vocabulary))
    size = {name: math.prod(shape) * jnp.dtype(dtype).itemsize for name, shape in shapes.items()}
    files: list[list[str]] = [[]]
    for name in shapes:
        if files[-1] and sum(size[n] for n in files[-1]) + size[name] > shard_bytes:
            files.append([])
        files[-1].append(name)
    n = len(files)
    names = [SINGLE] if n == 1 else [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)]
    tensors = _tensors(leaves)
    for file, wanted in zip(names, files, strict=True):
        whole = {}
        for name, value in itertools.islice(tensors, len(wanted)):
            with np.errstate(over="ignore"):
                whole[name] = value[: shapes[name][0]].astype(dtype)
            if not np.isfinite(whole[name]).all():
                raise ConfigError(f"export: {name} has values that {dtype} cannot hold; choose bfloat16 or float32")
        if is_writer:
            save_file(whole, folder / file, metadata={"format": "pt"})
    if is_writer and n > 1:
        places = {name: file for file, wanted in zip(names, files, strict=True) for name in wanted}
        index = {"metadata": {"total_size": sum(size.values())}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _tensors(leaves: list[tuple[Any, Any]]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, value on the host, float32) of every tensor, in the order of `_expected`."""
    for path, leaf in leaves:
        ours = _name(path)
        name, groups = TENSORS[ours]
        inner = groups.replace(" ", "")
        letters = _letters(ours)
        order = [letters.replace("L", "").index(letter) for letter in inner]
        sizes = _sizes(ours, leaf.shape)
        shape = [math.prod(sizes[letter] for letter in group) for group in groups.split()]
        for layer in range(sizes.get("L", 1)):
            value = leaf[layer] if "L" in letters else leaf
            host = np.asarray(multihost_utils.process_allgather(value, tiled=True))
            yield name.format(layer), np.ascontiguousarray(host.transpose(order).reshape(shape))


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(entry.key for entry in path)


def _letters(ours: str) -> str:
    return ("L" if ours.startswith("layers/") else "") + ours.rpartition("_")[2]


def _sizes(ours: str, shape: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(_letters(ours), shape, strict=True))
