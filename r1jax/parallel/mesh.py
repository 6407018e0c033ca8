"""The device mesh: its five axes, the tables that shard every array by its letters, and moves to and from the host.

    mesh = make_mesh(config.mesh)
    shardings = weight_shardings(mesh, abstract_params, TRAIN_WEIGHTS)

A letter names a dimension, the same one in every file of r1jax. The tables say which mesh axes a letter is split over:
they are the sharding configuration. A weight's letters are the suffix of its name, so `q_DNH` annotates itself.

Letters: B sequences (of P prompts with G samples each), T positions of a query or a completion, S positions of a prompt
or of keys, J prompt and completion joined, M packed rows of W positions, C positions of a chunk, A parts of a batch's
positions, one for each device that has its own, D model width, F mlp hidden, V vocabulary, I ids a token was drawn
from, N query heads, K key-value heads, Q query heads a key-value head, H head dim, E experts, L layers, R rewards.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.experimental.mesh_utils import create_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings
from r1jax.parallel.jitted import abstract

AXES = ("data", "fsdp", "tensor", "expert", "context")
ROWS = ("data", "fsdp", "expert")  # the axes that sequences are split over

Table = Mapping[str, str | tuple[str, ...]]
TENSOR: Table = dict.fromkeys("NKFV", "tensor")
ACTIVATIONS: Table = {"B": ROWS, "P": ROWS, "T": "context", "A": (*ROWS, "context"), **TENSOR}
TRAIN_WEIGHTS: Table = {"D": "fsdp", "E": "expert", **TENSOR}
# Decoding reads every weight for every token, and gathering them each time would be slow: D is not split.
SAMPLE_WEIGHTS: Table = {"E": "expert", **TENSOR}


def make_mesh(config: MeshSettings, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh over all devices, or over those of a slice that is planned for.

    Raises ConfigError where the axes do not multiply to the number of devices.
    """
    if config.auto:
        raise ConfigError("mesh: auto is for training, whose batches and memory it looks at; give the axes here")
    devices = jax.devices() if devices is None else devices
    sizes, count = config.sizes(), len(devices)
    fixed = math.prod(size for size in sizes.values() if size != -1)
    shape = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    if count % fixed or (-1 not in sizes.values() and count != fixed):
        raise ConfigError(
            f"mesh: {shape} needs {fixed} devices and there are {count}; change one axis, or set it to -1"
        )
    sizes = {axis: count // fixed if size == -1 else size for axis, size in sizes.items()}
    if len({getattr(device, "slice_index", 0) for device in devices}) > 1:
        raise ConfigError("mesh: the devices are of several TPU slices, which is not supported; use those of one")
    # Axes that no dimensions of a TPU's torus make up take parts of them.
    placed = create_device_mesh(tuple(sizes.values()), devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def row_shards(mesh: Mesh) -> int:
    """How many parts the sequences of a batch are split into."""
    return _parts(mesh.shape, ROWS)


def sharding(mesh: Mesh, letters: str) -> NamedSharding:
    """The sharding of an array with these letters; `sharding(mesh, "")` is a copy on every device."""
    return NamedSharding(mesh, PartitionSpec(*map(ACTIVATIONS.get, letters)))


def constrain(x: jax.Array, letters: str, table: Table = ACTIVATIONS) -> jax.Array:
    """Constrains the sharding of an array inside jit, on the mesh that is set; the identity where none is set.

    A dimension that its mesh axes do not divide (one decoded position over `context`) is not split.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    axes = zip(map(table.get, letters), x.shape, strict=True)
    fits = [axis if size % _parts(mesh.shape, axis) == 0 else None for axis, size in axes]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*fits))


def gathered(weight: jax.Array, letters: str, dtype: Any) -> jax.Array:
    """A weight in the type that it is used in, whole but for `tensor`: cast first, so that fewer bytes are moved."""
    return constrain(constrain(weight.astype(dtype), letters, TRAIN_WEIGHTS), letters)


def keeps_nothing_gathered(primitive: Any, *_: Any, **__: Any) -> bool:
    """A policy for jax.checkpoint: the backward pass gathers weights again, and computes nothing else again."""
    return primitive.name != "sharding_constraint"


def weights_are_split() -> bool:
    """Whether the mesh that is set splits weights in training and gathers them for use."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and mesh.shape["fsdp"] > 1


def parts(letter: str) -> int:
    """How many parts a dimension of activations is split into, on the mesh that is set; 1 where none is set."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else _parts(mesh.shape, ACTIVATIONS.get(letter))


def by_rows(function: Callable[..., jax.Array], *arrays: jax.Array, axes: Sequence[int] | None = None) -> jax.Array:
    """Applies `function` to each device's own rows of the arrays, inside jit, so that its indexing moves no data.

    `axes` says which axis of each array is that of the rows; the result has them where the first array has.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or _parts(mesh.shape, ROWS) == 1:
        return function(*arrays)
    specs = [PartitionSpec(*[None] * axis, ROWS) for axis in axes or [0] * len(arrays)]
    return jax.shard_map(function, in_specs=tuple(specs), out_specs=specs[0], axis_names=set(ROWS))(*arrays)


def own_rows_of(x: jax.Array, row_B: jax.Array, *, axis: int = 0) -> jax.Array:
    """Rows of an array along an axis: each device takes those of its own that its part of `row_B` counts."""

    def take(x: jax.Array, row_B: jax.Array) -> jax.Array:
        if axis == 0:
            return x[row_B]
        like = jax.lax.dynamic_slice_in_dim(x, row_B[0], 1, axis)
        return _copied(jnp.repeat(like, len(row_B), axis=axis), x, row_B, jnp.arange(len(row_B)), len(row_B), axis)

    return by_rows(take, x, row_B, axes=(axis, 0))


def with_own_rows(x: jax.Array, others: jax.Array, row_B: jax.Array, new_B: jax.Array, *, axis: int) -> jax.Array:
    """`x` with row `row_B[b]` of `others` in the place of its own b where `new_B` is set, on each device by itself."""

    def put(x: jax.Array, others: jax.Array, row_B: jax.Array, new_B: jax.Array) -> jax.Array:
        place_B = jnp.argsort(~new_B, stable=True)
        return _copied(x, others, row_B[place_B], place_B, new_B.sum(), axis)

    return by_rows(put, x, others, row_B, new_B, axes=(axis, axis, 0, 0))


def _copied(
    out: jax.Array, x: jax.Array, row_B: jax.Array, place_B: jax.Array, count: jax.Array | int, axis: int
) -> jax.Array:
    """`out` with the first `count` of the rows `row_B` of `x` at `place_B`.

    Row by row: a gather along an axis that is not the first would have TPUs lay the array out anew, padded.
    """

    def copy(i: jax.Array, out: jax.Array) -> jax.Array:
        row = jax.lax.dynamic_slice_in_dim(x, row_B[i], 1, axis)
        return jax.lax.dynamic_update_slice_in_dim(out, row, place_B[i], axis)

    return jax.lax.fori_loop(0, count, copy, out)


def _parts(shape: Mapping[str, int], axes: str | tuple[str, ...] | None) -> int:
    """How many parts `axes` of a mesh split a dimension into."""
    return math.prod(shape[a] for a in ((axes,) if isinstance(axes, str) else axes or ()))


def weight_shardings(mesh: Mesh, params: Any, table: Table) -> Any:
    """One sharding per weight, from the letters that its name ends in; for arrays or their abstract shapes.

    A number has a copy on every device. Raises ConfigError where a mesh axis does not divide a weight; key-value heads
    are replicated instead.
    """

    def place(path: tuple[Any, ...], weight: Any) -> NamedSharding:
        if weight.ndim == 0:
            return sharding(mesh, "")
        letters = path[-1].key.rpartition("_")[2]
        letters = "L" * (weight.ndim - len(letters)) + letters
        spec: list[Any] = []
        for letter, size in zip(letters, weight.shape, strict=True):
            axes = table.get(letter)
            parts = _parts(mesh.shape, axes)
            if size % parts and letter != "K":
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                raise ConfigError(
                    f"mesh: {axes}={parts} does not divide {letter}={size} of weight {name}; choose a mesh size that "
                    f"divides it"
                )
            spec.append(None if size % parts else axes)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map_with_path(place, params)


def abstract_weights(mesh: Mesh, shapes: Any, table: Table) -> Any:
    """The shapes of weights with the shardings that `table` gives them."""
    return abstract(shapes, weight_shardings(mesh, shapes, table))


def own_rows(mesh: Mesh, rows: int) -> np.ndarray:
    """Which of `rows` sequences this process makes, decodes and grades.

    Devices along `tensor` and `context` hold the same rows; the first of them owns these, so that no row has two
    owners, whose time-outs or machines might differ. A process may own none.
    """
    blocks = _first_devices(sharding(mesh, "B"), (rows,))
    own = [np.arange(start, stop) for start, stop, device in blocks if device.process_index == jax.process_index()]
    return np.concatenate([np.arange(0), *own])


def to_global(mesh: Mesh, local: Any, rows: int) -> Any:
    """A pytree of the rows that this process owns, in the order of `own_rows` → global arrays split over ROWS.

    Every process calls it; other processes that hold a row are sent what its owner gave.
    """
    own = own_rows(mesh, rows)

    def put(x: np.ndarray) -> jax.Array:
        if len(x) != len(own):
            raise ValueError(f"got {len(x)} rows; this process owns {len(own)} of {rows}")
        full = np.zeros((rows, *x.shape[1:]), x.dtype)
        full[own] = x
        return jax.make_array_from_callback(full.shape, sharding(mesh, "B"), full.__getitem__)

    arrays = jax.tree.map(put, local)
    return _sent_by_owners(mesh)(arrays) if _processes_share_rows(mesh) else arrays


@functools.cache
def _sent_by_owners(mesh: Mesh) -> Callable[[Any], Any]:
    """A jitted function that gives what the first device of those with the same rows has to the others."""
    others = tuple(axis for axis in AXES if axis not in ROWS)

    def send(x: jax.Array) -> jax.Array:
        numbers = x.astype(jnp.int32) if x.dtype == bool else x
        return jax.lax.psum(jnp.where(jax.lax.axis_index(others) == 0, numbers, 0), others).astype(x.dtype)

    def send_all(tree: Any) -> Any:
        return jax.tree.map(send, tree)

    return jax.jit(jax.shard_map(send_all, mesh=mesh, in_specs=PartitionSpec(ROWS), out_specs=PartitionSpec(ROWS)))


@functools.cache
def _processes_share_rows(mesh: Mesh) -> bool:
    process = np.vectorize(lambda device: device.process_index)(mesh.devices)
    first = process[tuple(slice(None) if axis in ROWS else slice(1) for axis in AXES)]
    return bool((process != first).any())


def _first_devices(placed: Sharding, shape: tuple[int, ...]) -> list[tuple[int, int, Any]]:
    """The blocks of an array's rows, from where to where, and the first of the devices that hold each."""
    devices: dict[tuple[int, int], Any] = {}
    for device, index in placed.devices_indices_map(shape).items():
        start, stop, _ = index[0].indices(shape[0])
        devices.setdefault((start, stop), device)
    return [(*rows, devices[rows]) for rows in sorted(devices)]


def move_rows(tree: Any, mesh: Mesh) -> Any:
    """Global arrays with the same rows on another mesh of the same devices."""
    return jax.device_put(tree, sharding(mesh, "B"))


def to_local(tree: Any) -> Any:
    """The rows of global arrays that this process owns, in the order of `own_rows`."""

    def get(x: jax.Array) -> np.ndarray:
        own = {shard.device: shard.data for shard in x.addressable_shards}
        blocks = [own[device] for *_, device in _first_devices(x.sharding, x.shape) if device in own]
        return np.concatenate([np.zeros((0, *x.shape[1:]), x.dtype), *map(np.asarray, blocks)])

    return jax.tree.map(get, tree)


def gather(mesh: Mesh, local: Any, rows: int) -> Any:
    """A pytree of the rows that this process owns → numpy arrays of all rows, the same on every process."""
    return local if jax.process_count() == 1 else to_host(to_global(mesh, local, rows))


def to_host(tree: Any) -> Any:
    """Global arrays → numpy arrays of all rows, the same on every process."""
    return jax.device_get(tree) if jax.process_count() == 1 else multihost_utils.process_allgather(tree, tiled=True)
