"""What a jitted function needs of a chip, from the program that the TPU compiler makes of it.

    estimate = estimate_of(functions(...)["update"], mesh, chip)
    estimate.peak / 2**30, estimate.seconds

Memory is the compiler's. Time is an estimate: the compiler's cycles for each instruction, a loop's body times its
trips, and then the bytes that collectives send at the chip's rate, as if nothing were sent meanwhile. The compiler
says nothing of fused kernels, which are counted at half of the chip's FLOPs.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.sharding import Mesh

from r1jax.parallel.jitted import Jitted
from r1jax.planning.flops import jaxpr_flops
from r1jax.planning.hlo import program_cost
from r1jax.planning.slices import Chip, compiled

KERNEL_SHARE = 0.5  # of a chip's FLOPs, which fused attention is counted at
# What a program needs that does not fit. The compiler calls it temporaries, and it has arguments and results in it.
NEEDED = re.compile(r"temporaries \(([\d.]+)([KMGT])\) exceed")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Estimate:
    """Of one call of a program on one chip: bytes, seconds and FLOPs.

    `peak` is the most memory while it runs, with what stays in memory beside it; `temporaries` have its results, but
    for those that take the place of arguments. `collectives` are their numbers and the bytes that are sent, by kind and
    axes of the mesh. `fits` is false where the compiler refused the program.
    """

    arguments: float
    beside: float
    temporaries: float
    computing: float = 0.0
    sending: float = 0.0
    flops: float = 0.0
    fits: bool = True
    compiled_in: float = 0.0
    collectives: dict[tuple[str, tuple[str, ...]], tuple[float, float]] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        return self.arguments + self.beside + self.temporaries

    @property
    def seconds(self) -> float:
        return self.computing + self.sending


def estimate_of(
    program: Jitted, mesh: Mesh, chip: Chip, *, beside: Any = (), open_loops: Sequence[int] = ()
) -> Estimate:
    """Compiles a program for the chips of a mesh.

    `beside` is a pytree of what is in memory and not among the program's arguments. `open_loops` are the trips of loops
    that data may end early; with any, a conditional counts as the mean of its branches: decoding has one for each
    quarter of the cache.
    """
    held, begin = bytes_on_device(program.arguments), time.perf_counter()
    traced = program.function.trace(*program.arguments)  # pyright: ignore[reportFunctionMemberAccess]
    options: Any = {"open_loops": open_loops, "mean_of_branches": bool(open_loops)}
    flops, chips = jaxpr_flops(traced.jaxpr, **options), mesh.devices.size
    try:
        executable = compiled(traced)
    except jax.errors.JaxRuntimeError as error:
        needed = NEEDED.search(str(error))
        if needed is None:
            raise
        temporaries = float(needed[1]) * UNITS[needed[2]] - held
        return Estimate(held, bytes_on_device(beside), temporaries, flops=flops.total / chips, fits=False)
    memory: Any = executable.memory_analysis()
    # Arguments that the program does not read are in memory all the same.
    arguments = max(held, memory.argument_size_in_bytes)
    cost = program_cost(executable.as_text() or "", **options)
    collectives: dict[Any, tuple[float, float]] = {}
    for collective, times in cost.collectives.items():
        what = collective.kind, collective.axes(mesh)
        number, sent = collectives.get(what, (0, 0))
        collectives[what] = number + times, sent + times * collective.sent
    kernels = flops.in_kernels / chips / (KERNEL_SHARE * chip.flops)
    return Estimate(
        arguments,
        bytes_on_device(beside),
        memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        computing=cost.cycles / chip.cycles + kernels,
        sending=sum(sent for _, sent in collectives.values()) / chip.sent,
        flops=flops.total / chips,
        compiled_in=time.perf_counter() - begin,
        collectives=collectives,
    )


def bytes_on_device(tree: Any) -> float:
    """What a pytree of abstract arrays takes on each device."""
    arrays = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.ShapeDtypeStruct) and x.sharding is not None]
    return float(sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in arrays))
