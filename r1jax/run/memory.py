"""What a stage certainly needs of a device's memory, so that what cannot fit is refused before it is compiled.

problem = memory_problem(stage, mesh)  # None, or why it cannot fit

Only what every step holds is counted: weights, gradients, Adam's moments, a reference, and the sampler's cache. That it
fits says nothing about activations.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import jax
from jax.sharding import Mesh

from r1jax.config.experiment import GrpoStage, RejectStage
from r1jax.models import abstract_params
from r1jax.parallel.mesh import row_shards
from r1jax.run.stages import StageRun


def memory_problem(stage: StageRun, mesh: Mesh) -> str | None:
    """Why a stage cannot fit the devices of a mesh, with the key of the stage that it is about; None where it may."""
    settings, limit = stage.settings, device_memory(mesh)
    weights = sum(
        math.prod(x.sharding.shard_shape(x.shape)) * 4 for x in jax.tree.leaves(abstract_params(stage.model, mesh))
    )
    copies = 1 if isinstance(settings, RejectStage) else 4 + (isinstance(settings, GrpoStage) and settings.kl.coef > 0)
    cache = 0
    if samples := getattr(settings, "group_size", 0) * settings.prompts_per_step:
        keys = jax.eval_shape(lambda: stage.model.empty_cache(1, settings.max_completion_length)).k_LBKSH
        cache = 2 * math.prod(keys.shape) * keys.dtype.itemsize * samples // (row_shards(mesh) * mesh.shape["tensor"])
    if copies * weights + cache <= limit:
        return None
    figures = (
        f"{copies * weights / 1e9:,.1f} GB of weights{' with gradients and optimizer' if copies > 1 else ''} and "
        f"{cache / 1e9:,.1f} GB for the cache of sampling, and a device has {limit / 1e9:,.1f} GB"
    )
    if copies * weights <= limit:
        return f"max_completion_length: {figures}; give a shorter one, fewer prompts_per_step or a smaller group_size"
    return f"model: {figures}; give a smaller one, or more devices along mesh.fsdp or mesh.tensor"


def device_memory(mesh: Mesh) -> int:
    """Bytes of one device; on CPUs this process's share of what the machine, or its control group, has."""
    device = mesh.local_devices[0]
    if limit := (device.memory_stats() or {}).get("bytes_limit"):
        return limit
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group = Path("/sys/fs/cgroup/memory.max")
    if group.is_file() and (text := group.read_text().strip()).isdigit():
        total = min(total, int(text))
    return total // len(mesh.local_devices)
