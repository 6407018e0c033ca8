"""Reads optimised HLO: the compiler's estimate of cycles, and which collectives run how often, loops included.

    cost = program_cost(jax.jit(function).lower(*arguments).compile().as_text())
    cost.sizes()["all-gather", 2 * 896 * 4864]  # times that an array of so many bytes is gathered

Cycles are in the HLO for TPUs alone.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

KINDS = "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}
ARRAYS = re.compile(r"\b(" + "|".join(BYTES) + r")\[([\d,]*)\]")
# A computation is what follows its name, up to the next one's: lines within may begin with }, too.
COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$", re.MULTILINE)
LOOP = re.compile(r" while\(.*condition=%([\w.\-]+), body=%([\w.\-]+)")
BRANCHES = re.compile(r" conditional\(.*?(branch_computations=\{[^}]*\}|true_computation=\S+ false_computation=\S+)")
CALL = re.compile(r" (fusion|call|async-start)\(.*(?:calls|to_apply)=%([\w.\-]+)")
ASYNCHRONOUS = re.compile(r"\s*%async-collective-start")
OPERATION = re.compile(r"[\])}] ([a-z][\w\-]*)\(")
COUNTING = {"parameter", "get-tuple-element", "constant", "copy", "bitcast", "fusion", "call", "compare"}
CONSTANT = re.compile(r"[su]32\[\]\S* constant\((\d+)\)")


class Collective(NamedTuple):
    """Its kind, the bytes of the whole array, and the devices of one group, by their position in the mesh.

    The whole array is what all-gather gives, and what reduce-scatter and all-reduce sum.
    """

    kind: str
    bytes: int
    devices: tuple[int, ...]

    @property
    def sent(self) -> float:
        """Bytes that each device sends, where parts of the array go round a ring; an all-reduce passes twice."""
        if self.kind == "collective-permute":
            return self.bytes
        return self.bytes * (len(self.devices) - 1) / len(self.devices) * (2 if self.kind == "all-reduce" else 1)

    def axes(self, mesh: Mesh) -> tuple[str, ...]:
        """The axes of the mesh along which the devices of a group differ."""
        where = np.unravel_index(self.devices, mesh.devices.shape)
        return tuple(axis for axis, index in zip(mesh.axis_names, where, strict=True) if len(set(index)) > 1)


@dataclass
class Cost:
    """What a device does: cycles, and how often each collective."""

    cycles: float = 0
    collectives: Counter[Collective] = field(default_factory=Counter)

    def add(self, other: Cost, times: float = 1) -> None:
        self.cycles += times * other.cycles
        for collective, number in other.collectives.items():
            self.collectives[collective] += times * number  # pyright: ignore[reportArgumentType] (a mean need not be whole)

    def bytes_sent(self) -> float:
        """By each device."""
        return sum(number * collective.sent for collective, number in self.collectives.items())

    def sizes(self) -> Counter[tuple[str, int]]:
        """How often each collective, by kind and bytes, whichever devices it is among."""
        counts = Counter[tuple[str, int]]()
        for collective, number in self.collectives.items():
            counts[collective.kind, collective.bytes] += number
        return counts


def program_cost(text: str, *, open_loops: Sequence[int] = (), mean_of_branches: bool = False) -> Cost:
    """What a program costs.

    Loops that data may end early have no number of trips of their own: they have those of `open_loops`, in the order
    of the program, and those after them none. A conditional has its dearest branch, or the mean of all.
    """
    names = [*COMPUTATION.finditer(text)]
    ends = [*(name.start() for name in names[1:]), len(text)]
    bodies = {name[2]: text[name.end() : end].splitlines() for name, end in zip(names, ends, strict=True)}
    entry = next(name[2] for name in names if name[1])
    remaining = iter(open_loops)

    @functools.cache
    def of(name: str) -> Cost:
        cost, asynchronous = Cost(), set()
        for line in bodies[name]:
            if loop := LOOP.search(line):
                condition = bodies[loop[1]]
                called = [bodies[call[2]] for call in map(CALL.search, condition) if call]
                number = trips(line, [*condition, *itertools.chain(*called)])
                number = next(remaining, 0) if number is None else number  # before those of loops in it
                cost.add(of(loop[2]), number)
            elif branches := BRANCHES.search(line):
                choices = [of(branch) for branch in re.findall(r"%([\w.\-]+)", branches[1])]
                if mean_of_branches:
                    for choice in choices:
                        cost.add(choice, 1 / len(choices))
                else:
                    cost.add(max(choices, key=lambda choice: (choice.cycles, choice.bytes_sent())))
            elif (called := CALL.search(line)) and called[1] == "call":
                cost.add(of(called[2]))
            else:
                inner = bodies[called[2]] if called else []
                cost.cycles += cycles(line) or sum(map(cycles, inner))
                scatters = called is not None and "scatter" in called[2]
                for found, channel in [starts(line), *(starts(part, scatters=scatters) for part in inner)]:
                    if found is None or (found, channel) in asynchronous:
                        continue
                    cost.collectives[found] += 1
                    if ASYNCHRONOUS.match(line):  # its other parts share its channel
                        asynchronous.add((found, channel))
        return cost

    return of(entry)


def trips(line: str, condition: list[str]) -> int | None:
    """How often a loop runs: as the compiler says, or the number that its counter is compared with; None if open.

    The condition of one that data may end does more than to compare two numbers.
    """
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    text = "\n".join(condition)
    counts = text.count(" compare(") == 1 and {*OPERATION.findall(text)} <= COUNTING
    return max(map(int, CONSTANT.findall(text)), default=None) if counts else None


def cycles(line: str) -> int:
    """The estimate for one instruction, 0 where there is none."""
    match = re.search(r'"estimated_cycles":"(\d+)"', line)
    return int(match[1]) if match else 0


def starts(line: str, *, scatters: bool = False) -> tuple[Collective | None, str]:
    """The collective that an instruction starts, and its channel. With `scatters`, an all-reduce keeps one part."""
    match = re.match(rf"\s*(?:ROOT )?%\S+ = (.*?) ({'|'.join(KINDS)})(-start)?\(", line)
    if match is None:
        return None, ""
    arrays = [(kind, map(int, filter(None, size.split(",")))) for kind, size in ARRAYS.findall(match[1])]
    sizes = [BYTES[kind] * math.prod(size) for kind, size in arrays]
    kind, size, group = match[2], sum(sizes), devices(line)
    if kind == "collective-permute":
        size = max(sizes, default=0)
    elif match[3] and kind in ("all-gather", "reduce-scatter"):  # given with its operands, the parts or the whole
        size = size * len(group) // (len(group) + 1)
    elif kind == "reduce-scatter":  # the instruction's own size is that of a part
        size *= len(group)
    channel = re.search(r"channel_id=(\d+)", line)
    found = Collective("reduce-scatter" if scatters else kind, size, group)
    return found, channel[1] if channel else line


def devices(line: str) -> tuple[int, ...]:
    """The devices of a collective's first group: of named axes, of lists of ids, of an iota's rows, or of a pair."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        among = re.findall(r"'(\w+)'", mesh[2])
        ids = np.arange(math.prod(sizes.values())).reshape([*sizes.values()])
        return tuple(ids[tuple(slice(None) if axis in among else 0 for axis in sizes)].flatten().tolist())
    if ids := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return tuple(map(int, ids[1].split(",")))
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line):
        dims = [*map(int, iota[3].split(","))]
        order = [*map(int, iota[4].split(","))] if iota[4] else range(len(dims))
        groups = np.arange(math.prod(dims)).reshape(dims).transpose(order).reshape(int(iota[1]), int(iota[2]))
        return tuple(groups[0].tolist())
    if pairs := re.findall(r"\{(\d+),(\d+)\}", line.partition("source_target_pairs=")[2].partition("}}")[0] + "}"):
        return next(((int(a), int(b)) for a, b in pairs if a != b), (0,))
    return (0,)
