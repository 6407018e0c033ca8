"""Weights in Hugging Face folders, in and out, by the table of their names.

    params = import_params(folder, model.config, abstract_params(model, mesh))
    export_params(params, model.config, Path("out"), dtype="bfloat16")

Letters: those of the table.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from r1jax.config.base import ConfigError
from r1jax.huggingface.folder import read_json
from r1jax.huggingface.tables import EMBEDDING, HEAD, IGNORED, QUANTISED, WEIGHTS, WRAPPERS, Weight
from r1jax.models import ModelConfig

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PLAIN = re.compile(r"[^/\\\x00]+\.safetensors")  # a file's name, which leads to no other folder
ROWS = 4096  # of the vocabulary that are compared at once
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


class Tensor(NamedTuple):
    """One tensor of a safetensors file: where it is, its name there, its shape and its type."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


class Leaf(NamedTuple):
    """One array of ours as the table sees it: its letters in order, of which the first `stacked` number tensors."""

    weight: Weight
    array: Any
    sizes: dict[str, int]
    stacked: int

    def tensors(self, bounds: Mapping[str, tuple[int, int]] | None = None) -> Iterator[tuple[tuple[int, ...], str]]:
        """(place among the stacked axes, name) of each tensor, or of those within these bounds of our letters."""
        bounds = bounds or {letter: (0, size) for letter, size in self.sizes.items()}
        letters = list(self.sizes)[: self.stacked]
        for numbers in itertools.product(*(range(*bounds[letter]) for letter in letters)):
            named = dict(zip(letters, numbers, strict=True))
            place = tuple(number - bounds[letter][0] for letter, number in named.items())
            if "L" in named:
                named["L"] += self.weight.first_layer
            yield place, self.weight.name.format(**named)

    @property
    def inner(self) -> str:
        """The letters of one tensor, in the order that they have in the file."""
        return self.weight.axes.replace(" ", "")

    @property
    def shape(self) -> list[int]:
        """Of one tensor."""
        return [math.prod(self.sizes[letter] for letter in axis) for axis in self.weight.axes.split()]


def import_params(folder: Path, config: ModelConfig, abstract: Any) -> Any:
    """Weights, float32, in the shapes and shardings of `abstract`; the host holds one device's part of one weight.

    Raises ConfigError, before anything is loaded, for a file that is truncated and for a tensor that is missing, not
    expected, or of another shape.
    """
    tensors = check_params(folder, config, abstract)
    return jax.tree.unflatten(jax.tree.structure(abstract), [_load(tensors, leaf) for leaf in _leaves(abstract)])


def check_params(folder: Path, config: ModelConfig, abstract: Any) -> dict[str, Tensor]:
    """Every tensor of a folder, after a check that they are those that `abstract` needs; reads the headers alone."""
    tensors = find_tensors(folder)
    expected = dict(_expected(config, abstract))
    extra = [name for name in tensors if name not in expected and not IGNORED.fullmatch(name)]
    if quantised := [name for name in extra if QUANTISED.fullmatch(name)]:
        raise ConfigError(f"{folder}: the weights are quantised ({quantised[0]}), which is not supported")
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
            quantised = "" if found.dtype[0] not in "FIU" or found.dtype == "F64" else ", as in quantised models"
            raise ConfigError(f"{folder}: tensor {name} is {found.dtype}{quantised}; need {', '.join(DTYPES.values())}")
    return tensors


def find_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder, from model.safetensors or the files that model.safetensors.index.json names.

    Their names are without what wrappers put in front, such as `_orig_mod.`, and with `model.` where a file of the bare
    decoder leaves it out.
    """
    from safetensors import SafetensorError, safe_open

    where = _weight_map(folder)
    found: dict[str, Tensor] = {}
    for file in sorted({folder / name for name in where.values()}) or [folder / SINGLE]:
        if not file.is_file():
            pickled = "; pickled .bin files are not read" if [*folder.glob("*.bin")] else ""
            raise ConfigError(
                f"{folder}: no {file.name}; need {SINGLE}, or {INDEX} and the files that it names{pickled}"
            )
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict)
                    if where and name not in where:
                        raise ConfigError(
                            f"{file} has a tensor {name} that {INDEX} does not name; give one model's files"
                        )
                    if where.get(name, file.name) == file.name:
                        view = opened.get_slice(name)
                        found[name] = Tensor(file, name, tuple(view.get_shape()), view.get_dtype())
        except (SafetensorError, OSError) as error:
            raise ConfigError(
                f"{file}: a truncated or broken safetensors file ({error}); copy or download it again"
            ) from None
    if missing := [name for name in where if name not in found]:
        raise ConfigError(f"{folder / INDEX}: {where[missing[0]]} has no tensor {missing[0]}; give one model's files")
    bare = any(WRAPPERS.sub("", name) == "embed_tokens.weight" for name in found)
    tensors: dict[str, Tensor] = {}
    for name, tensor in found.items():
        plain = WRAPPERS.sub("", name)
        plain = f"model.{plain}" if bare and plain != HEAD else plain
        if plain in tensors:
            raise ConfigError(f"{folder}: {name} and {tensors[plain].name} are both the tensor {plain}; drop one")
        tensors[plain] = tensor
    return tensors


def _weight_map(folder: Path) -> dict[str, str]:
    """The files of a folder by the tensors that its index says they have; empty where it has none."""
    if not (folder / INDEX).is_file():
        return {}
    where = read_json(folder / INDEX).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise ConfigError(
            f"{folder / INDEX}: weight_map is {where!r:.80}; need tensors with the files that they are in"
        )
    if wrong := [file for file in where.values() if not isinstance(file, str) or not PLAIN.fullmatch(file)]:
        raise ConfigError(
            f"{folder / INDEX}: weight_map has the file {wrong[0]!r:.80}; need .safetensors files beside it"
        )
    if (folder / SINGLE).is_file() and SINGLE not in where.values():
        raise ConfigError(f"{folder} has {SINGLE}, and {INDEX} names other files; delete those that are out of date")
    return where


def has_own_head(folder: Path) -> bool:
    """Whether the weights of a folder, if it has any, have an output head that differs from the embedding."""
    if not any((folder / name).is_file() for name in (SINGLE, INDEX)):
        return False
    tensors = find_tensors(folder)
    if HEAD not in tensors or EMBEDDING not in tensors:
        return False
    head, embedding = tensors[HEAD], tensors[EMBEDDING]
    if head.shape != embedding.shape or head.dtype not in DTYPES.values() or embedding.dtype not in DTYPES.values():
        return True
    return any(
        not np.array_equal(_rows_of(head, start, start + ROWS), _rows_of(embedding, start, start + ROWS))
        for start in range(0, head.shape[0], ROWS)
    )


def _rows_of(tensor: Tensor, start: int, stop: int) -> np.ndarray:
    from safetensors import safe_open

    with safe_open(tensor.file, framework="numpy") as opened:
        return np.asarray(opened.get_slice(tensor.name)[start : min(stop, tensor.shape[0])])


def export_params(
    params: Any, config: ModelConfig, folder: Path, *, dtype: str, shard_bytes: int = 5 * 10**9, is_writer: bool = True
) -> None:
    """Writes weights as safetensors, one file or several of at most `shard_bytes` with an index.

    Rows that pad the embedding beyond the config's `vocab_size` are left out. All processes call it.
    """
    from huggingface_hub import split_state_dict_into_shards_factory

    shapes = dict(_expected(config, params))
    split = split_state_dict_into_shards_factory(
        shapes,
        get_storage_size=lambda shape: math.prod(shape) * jnp.dtype(dtype).itemsize,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=shard_bytes,
    )
    for file, wanted in split.filename_to_tensors.items():
        values = {}
        for name, value in _on_host(params, set(wanted)):
            with np.errstate(over="ignore"):
                values[name] = value[: shapes[name][0]].astype(dtype)
            if not np.isfinite(values[name]).all():
                raise ConfigError(f"export: {name} has values that {dtype} cannot hold; choose bfloat16 or float32")
        if is_writer:
            _save(values, folder / file)
    if is_writer and split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": dict(sorted(split.tensor_to_filename.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _save(tensors: dict[str, np.ndarray], file: Path) -> None:
    """A safetensors file with the mode that every new file gets; the library's own is readable by its owner alone."""
    from safetensors.numpy import save_file

    file.touch()
    mode = file.stat().st_mode
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(mode)


def _expected(config: ModelConfig, params: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every tensor for a tree of weights, the embedding without the rows that pad it."""
    for leaf in _leaves(params):
        if "V" in leaf.sizes and config.vocab_size is not None:
            leaf.sizes["V"] = config.vocab_size
        for _, name in leaf.tensors():
            yield name, tuple(leaf.shape)


def _load(tensors: Mapping[str, Tensor], leaf: Leaf) -> jax.Array:
    """One weight, a device's part at a time; neighbouring devices that hold the same part share it."""
    arrays, last_index, last_part = [], None, np.empty(0)
    shape, sharding = leaf.array.shape, leaf.array.sharding
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        if index != last_index:
            last_index, last_part = index, _read(tensors, leaf, index)
        arrays.append(jax.device_put(last_part, device))
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def _read(tensors: Mapping[str, Tensor], leaf: Leaf, index: tuple[slice, ...]) -> np.ndarray:
    """The part `index` of a weight; rows that pad the vocabulary are 0."""
    from safetensors import safe_open

    letters = list(leaf.sizes)
    bounds = {letter: s.indices(leaf.sizes[letter])[:2] for letter, s in zip(letters, index, strict=True)}
    out = np.zeros([stop - start for start, stop in bounds.values()], np.float32)
    order = [leaf.inner.index(letter) for letter in letters[leaf.stacked :]]
    parts = [bounds[letter][1] - bounds[letter][0] for letter in leaf.inner]
    for place, name in leaf.tensors(bounds):
        tensor, axes = tensors[name], leaf.weight.axes.split()
        where = [_rows(axis, bounds, leaf.sizes, rows) for axis, rows in zip(axes, tensor.shape, strict=True)]
        if where[0].start >= where[0].stop:
            continue  # this part is padding alone
        # Opened anew each time: a mapped file counts as this process's memory for as long as it stays open.
        with safe_open(tensor.file, framework="numpy") as opened:
            piece = np.asarray(opened.get_slice(tensor.name)[tuple(where)], np.float32)
        if not np.isfinite(piece).all():
            raise ConfigError(f"{tensor.file}: tensor {name} has values that are NaN or infinite; download it again")
        if leaf.inner[0] == "V":
            parts[0] = piece.shape[0]
        piece = piece.reshape(parts).transpose(order)
        out[place][tuple(slice(size) for size in piece.shape)] = piece
    return out


def _rows(axis: str, bounds: Mapping[str, tuple[int, int]], sizes: Mapping[str, int], rows: int) -> slice:
    """The slice of a flattened axis of `rows` of which only the first letter may be split."""
    inner = math.prod(sizes[letter] for letter in axis[1:])
    start, stop = bounds[axis[0]]
    return slice(start * inner, min(stop * inner, rows))


def _on_host(params: Any, wanted: Set[str]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, value on the host, float32) of the tensors with these names."""
    for leaf in _leaves(params):
        order = ["".join(leaf.sizes)[leaf.stacked :].index(letter) for letter in leaf.inner]
        for place, name in leaf.tensors():
            if name in wanted:
                host = np.asarray(multihost_utils.process_allgather(leaf.array[place], tiled=True))
                yield name, np.ascontiguousarray(host.transpose(order).reshape(leaf.shape))


def _leaves(params: Any) -> Iterator[Leaf]:
    """The arrays of a tree of weights, in its order."""
    for path, array in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        weight = WEIGHTS[name]
        stacked = re.findall(r"{(\w)}", weight.name)
        letters = ("L" if "L" in stacked else "") + name.rpartition("_")[2]
        yield Leaf(weight, array, dict(zip(letters, array.shape, strict=True)), len(stacked))
