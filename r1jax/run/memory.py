"""What a stage certainly needs of a device's memory, so that what cannot fit is refused before it is compiled.

problem = memory_problem(stage, mesh)  # None, or why it cannot fit

Only what every step holds is counted: weights, gradients, Adam's moments, a reference, a value model, and the sampler's
cache. That it fits says nothing about activations.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import jax
from jax.sharding import Mesh

from r1jax.config.experiment import Config, GrpoStage, RejectStage, StageSettings
from r1jax.config.shared import Shared
from r1jax.models import Model, abstract_params
from r1jax.parallel.mesh import row_shards
from r1jax.run.stages import StageRun


def copies(stage: StageSettings) -> int:
    """How many float32 numbers a stage keeps for each weight: to train, it, its gradient and Adam's two moments."""
    if isinstance(stage, RejectStage):
        return 1
    if not isinstance(stage, GrpoStage):
        return 4
    return 4 + (stage.kl.coef > 0) + (0 if stage.value is None else 4)


def cache_bytes(stage: StageSettings, model: Model, mesh: Mesh) -> int:
    """What the keys and values of a stage's rollout take on a device."""
    if not hasattr(stage, "group_size"):
        return 0
    slots = cache_slots(stage, row_shards(mesh))
    keys = jax.eval_shape(lambda: model.empty_cache(1, 1)).k_LBKSH
    heads = mesh.shape["tensor"] if keys.shape[2] % mesh.shape["tensor"] == 0 else 1  # repeated where it has fewer
    return 2 * math.prod(keys.shape) * keys.dtype.itemsize * slots // (row_shards(mesh) * heads)


def cache_slots(stage: StageSettings, shards: int) -> int:
    """The slots of the caches of a stage's rollout, on all devices: of prompts, and of sequences at once.

    Where sequences wait, each that is being decoded has a copy of its prompt's; else the samples of a prompt share it.
    """
    P, S, T = stage.prompts_per_step, stage.max_prompt_length, stage.max_completion_length
    rows, batch = P * getattr(stage, "group_size", 1), (getattr(stage, "decode_batch", None) or math.inf) * shards
    return P * S + (rows * T if rows <= batch else int(batch) * (S + T))


def memory_problem(stage: StageRun, mesh: Mesh) -> str | None:
    """Why a stage cannot fit the devices of a mesh, with the key of the stage that it is about; None where it may."""
    settings, limit = stage.settings, device_memory(mesh)
    weights = sum(
        math.prod(x.sharding.shard_shape(x.shape)) * 4 for x in jax.tree.leaves(abstract_params(stage.model, mesh))
    )
    held = copies(settings) * weights
    cache = cache_bytes(settings, stage.model, mesh)
    if held + cache <= limit:
        return None
    figures = (
        f"{held / 1e9:,.1f} GB of weights{' with gradients and optimizer' if held > weights else ''} and "
        f"{cache / 1e9:,.1f} GB for the cache of sampling, and a device has {limit / 1e9:,.1f} GB"
    )
    if held <= limit:
        return f"decode_batch: {figures}; give a smaller one, so that fewer are decoded at once, or prompts_per_step"
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


def sequences_at_once(config: Config, lengths: Shared, shards: int) -> int:
    """How many sequences of these lengths an evaluation has in memory, on all devices.

    Whoever can train on a stage's sequences can evaluate as many, as far as the cache of its rollout would hold them.
    """

    def sequences(stage: StageSettings) -> int:
        slots = cache_slots(stage, shards) // (lengths.max_prompt_length + lengths.max_completion_length)
        return min(stage.prompts_per_step * getattr(stage, "group_size", 1), slots)

    return max(1, *map(sequences, config.stages))
