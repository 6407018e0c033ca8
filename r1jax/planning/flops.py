"""Counts the FLOPs of a function as it is traced: those of its matrix products, loops included.

jaxpr_flops(jax.jit(function).trace(*arguments).jaxpr)  # of all devices together
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple


class Flops(NamedTuple):
    """FLOPs of matrix products, and how many of these are in fused kernels."""

    total: float = 0.0
    in_kernels: float = 0.0

    def plus(self, other: Flops, times: float = 1) -> Flops:
        return Flops(self.total + times * other.total, self.in_kernels + times * other.in_kernels)


def jaxpr_flops(jaxpr: Any, *, open_loops: Sequence[int] = (), mean_of_branches: bool = False) -> Flops:
    """Those of a jaxpr on all devices; for `open_loops` and `mean_of_branches` see `hlo.program_cost`."""
    return _count(jaxpr, iter(open_loops), mean_of_branches)


def _count(jaxpr: Any, open_loops: Iterator[int], mean: bool) -> Flops:
    count: Callable[[Any], Flops] = functools.partial(_count, open_loops=open_loops, mean=mean)
    total = Flops()
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name, given = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = given["dimension_numbers"]
            summed = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total = total.plus(Flops(2.0 * summed * math.prod(equation.outvars[0].aval.shape)))
        elif name == "scan":
            total = total.plus(count(given["jaxpr"]), given["length"])
        elif name == "while":
            trips = next(open_loops, 0)
            total = total.plus(count(given["body_jaxpr"]), trips)
        elif name == "cond":
            branches = [count(branch) for branch in given["branches"]]
            for branch in branches if mean else [max(branches)]:
                total = total.plus(branch, 1 / len(branches) if mean else 1)
        elif name == "pallas_call":
            inner = count(given["jaxpr"]).total * math.prod(given["grid_mapping"].grid)
            total = total.plus(Flops(inner, inner))
        elif name == "shard_map":
            parts = math.prod(given["mesh"].shape[axis] for axis in given["newly_manual_axes"])
            total = total.plus(count(given["jaxpr"]), parts)
        else:
            for inner in _inner(given.values()):
                total = total.plus(count(inner))
    return total


def _inner(values: Any) -> Iterator[Any]:
    """The jaxprs among the parameters of an equation that runs each of them once."""
    for value in values:
        if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
            yield value
        elif isinstance(value, list | tuple):
            yield from _inner(value)
