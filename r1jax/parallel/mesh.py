"""The device mesh: five axes, the tables that place every array by its letters, and the way between host and devices.

    mesh = make_mesh(config.mesh)
    shardings = weight_shardings(mesh, abstract_params, TRAIN_WEIGHTS)

A letter names a dimension everywhere in r1jax: B sequences, P prompts, T and S positions, D model width, F mlp hidden,
V vocabulary, N query heads, K key-value heads, H head dim, E experts, L layers. The tables say which mesh axes a letter
is split over. A weight's letters are the suffix of its name, so `q_DNH` is its own sharding annotation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings

AXES = ("data", "fsdp", "tensor", "expert", "context")
ROWS = ("data", "fsdp", "expert")  # what sequences are split over

Table = Mapping[str, str | tuple[str, ...]]
ACTIVATIONS: Table = {"B": ROWS, "P": ROWS, "T": "context", "N": "tensor", "K": "tensor", "F": "tensor", "V": "tensor"}
TRAIN_WEIGHTS: Table = {"D": "fsdp", "N": "tensor", "K": "tensor", "F": "tensor", "V": "tensor", "E": "expert"}
# Decoding reads every weight for every token, so nothing is left to gather: D is whole on each device.
SAMPLE_WEIGHTS: Table = {"N": "tensor", "K": "tensor", "F": "tensor", "V": "tensor", "E": "expert"}


def join_processes(config: MeshSettings) -> None:
    """Connects the processes of one run, if the config or JAX_COORDINATOR_ADDRESS says there are several.

    On a TPU pod everything is found out from the pod itself; elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES
    and JAX_PROCESS_ID say who is who. Must run before the first use of a device.
    """
    if jax.distributed.is_initialized():
        return
    # JAX would swallow SIGTERM to announce a preemption; a run that is told to end ends, and goes on from a checkpoint.
    jax.config.update("jax_enable_preemption_service", False)
    if address := os.environ.get("JAX_COORDINATOR_ADDRESS"):
        missing = [name for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") if name not in os.environ]
        if missing:
            raise ConfigError(f"JAX_COORDINATOR_ADDRESS is set but {' and '.join(missing)} is not; set all three")
        jax.distributed.initialize(address, int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"]))
    elif config.distributed:
        jax.distributed.initialize()


def make_mesh(config: MeshSettings) -> Mesh:
    """The mesh over all devices. Raises ConfigError where the sizes do not multiply to their number."""
    sizes, devices = config.sizes(), jax.device_count()
    fixed = math.prod(size for size in sizes.values() if size != -1)
    shape = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    if devices % fixed or (-1 not in sizes.values() and devices != fixed):
        raise ConfigError(
            f"mesh: {shape} needs {fixed} devices and there are {devices}; change one axis, or set it to -1"
        )
    sizes = {axis: devices // fixed if size == -1 else size for axis, size in sizes.items()}
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def row_shards(mesh: Mesh) -> int:
    """Into how many parts the sequences of a batch are split."""
    return math.prod(mesh.shape[axis] for axis in ROWS)


def sharding(mesh: Mesh, letters: str, table: Table = ACTIVATIONS) -> NamedSharding:
    """Where an array with these letters lives; `sharding(mesh, "")` is a copy on every device."""
    return NamedSharding(mesh, PartitionSpec(*(table.get(letter) for letter in letters)))


def constrain(x: jax.Array, letters: str, table: Table = ACTIVATIONS) -> jax.Array:
    """Pins an array inside jit to its place on the mesh that is set; the identity where none is.

    A dimension that its axes do not divide (one decoded position over `context`) stays whole.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    axes = [table.get(letter) for letter in letters]
    fits = [a if size % _parts(mesh.shape, a) == 0 else None for a, size in zip(axes, x.shape, strict=True)]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*fits))


def by_rows(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """`function` of each device's own rows of the arrays, inside jit; what it indexes stays where it is."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or math.prod(mesh.shape[axis] for axis in ROWS) == 1:
        return function(*arrays)
    rows = PartitionSpec(ROWS)
    return jax.shard_map(function, in_specs=(rows,) * len(arrays), out_specs=rows, axis_names=set(ROWS))(*arrays)


def _parts(shape: Mapping[str, int], axes: str | tuple[str, ...] | None) -> int:
    """Into how many parts `axes` of a mesh split a dimension."""
    return math.prod(shape[a] for a in ((axes,) if isinstance(axes, str) else axes or ()))


def weight_shardings(mesh: Mesh, params: Any, table: Table) -> Any:
    """One sharding per weight, from the letters its name ends in; works on arrays and on their abstract shapes.

    Raises ConfigError where an axis does not divide a weight, except for key-value heads: those are repeated.
    """

    def place(path: tuple[Any, ...], weight: Any) -> NamedSharding:
        names = [entry.key for entry in path]
        letters = names[-1].rpartition("_")[2]
        letters = "L" * (weight.ndim - len(letters)) + letters
        spec: list[Any] = []
        for letter, size in zip(letters, weight.shape, strict=True):
            axes = table.get(letter)
            parts = _parts(mesh.shape, axes)
            if size % parts and letter != "K":
                raise ConfigError(
                    f"mesh: {axes}={parts} does not divide {letter}={size} of weight {'/'.join(names)}; "
                    f"choose a mesh size that divides it"
                )
            spec.append(None if size % parts else axes)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map_with_path(place, params)


def abstract_weights(mesh: Mesh, shapes: Any, table: Table) -> Any:
    """The shapes of weights with the shardings that `table` gives them."""
    shardings = weight_shardings(mesh, shapes, table)
    return jax.tree.map(lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings)


def own_rows(mesh: Mesh, rows: int) -> np.ndarray:
    """Which of `rows` sequences this process makes and grades: those that lie on its devices."""
    indices = sharding(mesh, "B").addressable_devices_indices_map((rows,)).values()
    return np.unique(np.concatenate([np.arange(rows)[index] for index in indices]))


def to_global(mesh: Mesh, local: Any, rows: int) -> Any:
    """A pytree of this process's rows (as `own_rows` orders them) → global arrays of `rows` rows, split over ROWS."""
    own = own_rows(mesh, rows)

    def put(x: np.ndarray) -> jax.Array:
        if len(x) != len(own):
            raise ValueError(f"got {len(x)} local rows, this process holds {len(own)} of {rows}")

        def shard(index: Any) -> np.ndarray:
            return x[np.searchsorted(own, np.arange(rows)[index[0]])]

        return jax.make_array_from_callback((rows, *x.shape[1:]), sharding(mesh, "B"), shard)

    return jax.tree.map(put, local)


def to_local(tree: Any) -> Any:
    """The rows of global arrays that lie on this process, in the order of `own_rows`."""

    def get(x: jax.Array) -> np.ndarray:
        blocks = {shard.index[0].start or 0: np.asarray(shard.data) for shard in x.addressable_shards}
        return np.concatenate([blocks[start] for start in sorted(blocks)])

    return jax.tree.map(get, tree)


def gather(mesh: Mesh, local: Any, rows: int) -> Any:
    """A pytree of this process's rows → numpy arrays of all rows, the same on every process."""
    if jax.process_count() == 1:
        return local
    return jax.tree.map(np.asarray, move(to_global(mesh, local, rows), sharding(mesh, "")))


def greatest(number: int) -> int:
    """The greatest of the processes' numbers, the same on every process."""
    return number if jax.process_count() == 1 else int(multihost_utils.process_allgather(np.int32(number)).max())


def move(tree: Any, shardings: Any) -> Any:
    """The same values in other places: one jitted identity."""
    return jax.jit(_identity, out_shardings=shardings)(tree)


def _identity(tree: Any) -> Any:
    return tree
