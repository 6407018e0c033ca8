"""Reads optimised HLO: the compiler's estimate of cycles, and which collectives run how often, loops included.

    cost = program_cost(jax.jit(function).lower(*arguments).compile().as_text())
    cost.collectives[Collective("all-gather", 2 * 896 * 4864)]  # times that an array of so many bytes is gathered

Cycles are in the HLO for TPUs alone.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

KINDS = "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}
ARRAYS = re.compile(r"\b(" + "|".join(BYTES) + r")\[([\d,]*)\]")
COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$\n((?:.*\n)*?)\}.*$", re.MULTILINE)
LOOP = re.compile(r" while\(.*condition=%([\w.\-]+), body=%([\w.\-]+)")
BRANCHES = re.compile(r" conditional\(.*(?:branch_computations=\{|true_computation=)([^}]*?)[}\s]")
CALL = re.compile(r" (fusion|call|async-start)\(.*(?:calls|to_apply)=%([\w.\-]+)")


class Collective(NamedTuple):
    """Its kind, and the bytes of the whole array: what all-gather gives, what reduce-scatter and all-reduce sum."""

    kind: str
    bytes: int


@dataclass
class Cost:
    """What a device does: cycles, and how often each collective."""

    cycles: int = 0
    collectives: Counter[Collective] = field(default_factory=Counter)

    def add(self, other: Cost, times: int = 1) -> None:
        self.cycles += times * other.cycles
        for collective, number in other.collectives.items():
            self.collectives[collective] += times * number

    def bytes_sent(self) -> int:
        """By each device, where arrays go round a ring of many devices: an all-reduce passes twice."""
        return sum(n * c.bytes * (2 if c.kind == "all-reduce" else 1) for c, n in self.collectives.items())


def program_cost(text: str, unknown_trips: int = 1) -> Cost:
    """What a program costs; a loop whose trips the HLO does not say has `unknown_trips`, a conditional its dearest."""
    bodies = {match[2]: match[3].splitlines() for match in COMPUTATION.finditer(text)}
    entry = next(match[2] for match in COMPUTATION.finditer(text) if match[1])

    @functools.cache
    def of(name: str) -> Cost:
        cost, channels = Cost(), set()
        for line in bodies[name]:
            if loop := LOOP.search(line):
                cost.add(of(loop[2]), trips(line, bodies[loop[1]]) or unknown_trips)
            elif branches := BRANCHES.search(line):
                choices = [of(branch) for branch in re.findall(r"%([\w.\-]+)", line[branches.start(1) :])]
                cost.add(max(choices, key=lambda choice: (choice.cycles, choice.bytes_sent())))
            elif (called := CALL.search(line)) and called[1] == "call":
                cost.add(of(called[2]))
            else:
                inner = bodies[called[2]] if called else []
                cost.cycles += cycles(line) or sum(map(cycles, inner))
                scatters = called is not None and "scatter" in called[2]
                for found, channel in [starts(line), *(starts(part, scatters=scatters) for part in inner)]:
                    if found and channel not in channels:  # the parts of an asynchronous one share its channel
                        channels.add(channel)
                        cost.collectives[found] += 1
        return cost

    return of(entry)


def trips(line: str, condition: list[str]) -> int:
    """How often a loop runs: as the compiler says, or the number that its counter is compared with; 0 if unknown."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    return max((int(n) for n in re.findall(r"[su]32\[\]\S* constant\((\d+)\)", "\n".join(condition))), default=0)


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
    kind, size = match[2], max(sizes) if match[3] else sum(sizes)
    if kind == "reduce-scatter":  # the instruction's own size is that of a part
        size *= devices(line)
    channel = re.search(r"channel_id=(\d+)", line)
    return Collective("reduce-scatter" if scatters else kind, size), channel[1] if channel else line


def devices(line: str) -> int:
    """How many devices a collective is among: of named axes of a mesh, of a list of ids, or of rows × columns."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
    if ids := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return ids[1].count(",") + 1
    rows = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    return int(rows[1]) if rows else 1
