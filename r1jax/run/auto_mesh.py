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
from r1jax.config.experiment import Config, GrpoStage
from r1jax.config.training import MeshSettings
from r1jax.models import Model, abstract_params
from r1jax.parallel.mesh import make_mesh
from r1jax.run.checks import mesh_problems

SMALL = 0.25  # of a device's memory: a training state of at most this has a copy on each device
FILLED = 0.6  # what training state and sampling weights may fill; the rest is for the cache and activations


def auto_mesh(
    config: Config, models: Sequence[Model], devices: Sequence[Any], memory: float | None = None
) -> tuple[Mesh, str]:
    """The mesh, and a line that says why. `memory` is a device's in bytes; default: what the devices themselves say.

    Among the layouts that divide the weights and the batches, it takes the one with the least `tensor`, and then the
    least `fsdp`, whose training state and sampling weights leave room for the rest: `tensor` within a host, `fsdp` over
    a host or, where that is too little, several, and `data` over the others. Devices that do not know their memory, as
    CPUs, hold everything. Raises ConfigError where there is no such layout.
    """
    memory = memory or float((devices[0].memory_stats() or {}).get("bytes_limit", math.inf))
    one = make_mesh(MeshSettings(data=1), devices[:1])
    params = max(sum(math.prod(x.shape) for x in jax.tree.leaves(abstract_params(model, one))) for model in models)
    reference = any(isinstance(stage, GrpoStage) and stage.kl.coef > 0 for stage in config.stages)
    # Weights, gradients and two moments in float32, and the reference; sampling weights are whole along fsdp.
    state, sampling = 4 * (5 if reference else 4) * params, params * max(_width(model) for model in models)
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
        share = (state / (sizes.fsdp * sizes.tensor) + sampling / sizes.tensor) / memory
        least = min(least, share)
        if share <= (SMALL if sizes.fsdp * sizes.tensor == 1 else FILLED):
            shape = " ".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1) or "one device"
            known = f"; training state and sampling weights take {share:.0%} of a device's {memory / 2**30:.1f} GiB"
            return mesh, f"mesh: auto is {shape}{known if memory < math.inf else ''}"
    reason = (
        "none divides the weights and the batches of every stage; give a prompts_per_step that more devices divide"
        if least == math.inf
        else f"the roomiest fills {least:.0%} of a device's {memory / 2**30:.1f} GiB with training state and sampling "
        f"weights, and at most {FILLED:.0%} leaves room for the rest; give more devices, or set the axes yourself"
    )
    raise ConfigError(f"mesh: auto found no layout of {len(devices)} devices: {reason}")


def _layouts(devices: Sequence[Any]) -> Iterator[MeshSettings]:
    """From the simplest on: everything on each device, then `tensor` and `fsdp` in a host, then `fsdp` over hosts."""
    total = len(devices)
    hosts = len({device.process_index for device in devices})
    local = total // hosts
    yield MeshSettings(data=total)
    for tensor in (n for n in range(1, local + 1) if local % n == 0):
        for several in (n for n in range(1, hosts + 1) if hosts % n == 0):
            fsdp = several * local // tensor
            yield MeshSettings(data=total // (fsdp * tensor), fsdp=fsdp, tensor=tensor)


def _width(model: Model) -> int:
    """Bytes of a sampling weight."""
    return jnp.dtype(model.config.dtype).itemsize
