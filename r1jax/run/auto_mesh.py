"""`mesh: auto`: the layout that a run's devices, models and batches ask for.

mesh, reason = auto_mesh(config, models, jax.devices())
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from r1jax.config.base import ConfigError
from r1jax.config.experiment import Config
from r1jax.config.training import MeshSettings
from r1jax.models import Model, abstract_params
from r1jax.parallel.mesh import make_mesh
from r1jax.parallel.processes import greatest
from r1jax.run.checks import mesh_problems
from r1jax.run.memory import cache_bytes, copies, device_memory

SMALL = 0.25  # of a device's memory: weights and training state of at most this have a copy on each device
KEPT = 0.6  # what they may fill where they are split; the rest is for the cache and activations
FILLED = 0.8  # what they and the cache may fill


def least_memory(devices: Sequence[Any]) -> float:
    """The bytes of a device, the least that a process has; the same in every process, and all have to call it."""
    everywhere = make_mesh(MeshSettings(data=len(devices)), devices)
    return -greatest(-(device_memory(everywhere) // 2**20)) * 2**20


def auto_mesh(
    config: Config, models: Sequence[Model], devices: Sequence[Any], memory: float | None = None
) -> tuple[Mesh, str]:
    """The mesh, and a line that says why. `memory` is a device's in bytes; default: the least that a process has.

    Among the layouts that divide the weights and the batches, it takes the one with the least `tensor`, and then the
    least `fsdp`, where training state, sampling weights and the cache of sampling leave room for activations: `tensor`
    within a process's devices, `fsdp` over them or, where that is too little, those of several processes, and `data`
    over the rest. Teachers and reward models are not counted. Raises ConfigError where there is no such layout.
    """
    memory = least_memory(devices) if memory is None else memory
    one = make_mesh(MeshSettings(data=1), devices[:1])
    params = max(sum(math.prod(x.shape) for x in jax.tree.leaves(abstract_params(model, one))) for model in models)
    # Sampling weights are whole along fsdp. What trains has weights, gradients and two moments in float32.
    kept, sampling = max(map(copies, config.stages)), params * max(_width(model) for model in models)
    least = math.inf
    for sizes in _layouts(devices):
        mesh = make_mesh(sizes, devices)
        try:
            for model in models:
                abstract_params(model, mesh)
        except ConfigError:  # it does not divide the weights
            continue
        if any(next(mesh_problems(stage, mesh, stage.max_prompt_length), None) for stage in config.stages):
            continue
        state = (4 * kept * params / (sizes.fsdp * sizes.tensor) + sampling / sizes.tensor) / memory
        cache = max(cache_bytes(stage, model, mesh) for stage in config.stages for model in models) / memory
        least = min(least, state + cache)
        if state + cache <= FILLED and state <= (SMALL if sizes.fsdp * sizes.tensor == 1 else KEPT):
            shape = " ".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1) or "one device"
            return mesh, (
                f"mesh: auto is {shape}; training state and sampling weights take {state:.0%} of a device's "
                f"{memory / 2**30:.1f} GiB, and the cache {cache:.0%}"
            )
    reason = (
        "none divides the weights and the batches of every stage; give a prompts_per_step that more devices divide"
        if least == math.inf
        else f"the roomiest fills {least:.0%} of a device's {memory / 2**30:.1f} GiB with training state, sampling "
        f"weights and cache, and at most {KEPT:.0%}, with the cache {FILLED:.0%}, leaves room for the rest; give more "
        f"devices, or set the axes yourself"
    )
    raise ConfigError(f"mesh: auto found no layout of {len(devices)} devices: {reason}")


def _layouts(devices: Sequence[Any]) -> Iterator[MeshSettings]:
    """From the simplest on: everything on each device, then `tensor` and `fsdp` in a process, then `fsdp` over more."""
    total = len(devices)
    processes = len({device.process_index for device in devices})
    local = total // processes
    yield MeshSettings(data=total)
    for tensor in (n for n in range(1, local + 1) if local % n == 0):
        for several in (n for n in range(1, processes + 1) if processes % n == 0):
            fsdp = several * local // tensor
            yield MeshSettings(data=total // (fsdp * tensor), fsdp=fsdp, tensor=tensor)


def _width(model: Model) -> int:
    """Bytes of a sampling weight."""
    return jnp.dtype(model.config.dtype).itemsize
