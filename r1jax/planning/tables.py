"""A plan as tables: memory and time of each program, collectives, and the bill.

show(plan(config, "v5p:2x2x1"), Console())
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Column, Table

from r1jax.planning.estimate import Estimate
from r1jax.planning.plan import Plan, StagePlan
from r1jax.planning.slices import Chip


def show(plan: Plan, console: Console) -> None:
    """Prints a plan as tables, and whether it fits."""
    console.print(f"{plan.parameters:,} parameters on {plan.topology}: {plan.mesh.devices.size} chips, {plan.axes}")
    if plan.reason:
        console.print(plan.reason, soft_wrap=True)
    for stage in plan.stages:
        console.print(_memory_table(stage))
        console.print(_time_table(stage))
        if stage.mfu is not None:
            console.print(f"updates of {stage.name}: {stage.mfu:.0%} of the chips' FLOPs (MFU)")
    if any(estimate.collectives for stage in plan.stages for _, estimate in stage.calls.values()):
        console.print(_collectives_table(plan))
    if plan.fits:
        console.print(_cost_table(plan))
        peak, stage, call = max((e.peak, s.name, n) for s in plan.stages for n, (_, e) in s.calls.items())
        console.print(f"it fits: {_gib(peak)} of {_gib(plan.chip.memory)} GiB a chip at most, in {stage}: {call}")
    for line in (line for stage in plan.stages for line in _advice(plan, stage)):
        console.print(line, soft_wrap=True)


def show_sweep(plans: list[Plan], refused: list[str], console: Console) -> None:
    """Prints plans as a table, a line for each."""
    table = Table("mesh", "hours", "dollars", "peak GiB", "of", "in", title="layouts, the fastest that fit first")
    for plan in plans:
        peak, where = max((e.peak, f"{s.name}: {n}") for s in plan.stages for n, (_, e) in s.calls.items())
        dollars = plan.hours * plan.mesh.devices.size * plan.dollars
        cost = [f"{plan.hours:,.2f}", f"{dollars:,.0f}" if math.isfinite(dollars) else ""]
        cells = cost if plan.fits else ["does not fit", ""]
        table.add_row(plan.axes, *cells, _gib(peak), _gib(plan.chip.memory), where)
    console.print(table)
    for line in refused:
        console.print(line, soft_wrap=True)


def _memory_table(stage: StagePlan) -> Table:
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in stage.state.items())
    table = Table(
        Column("program", no_wrap=True),
        *("arguments", "beside", "temporaries", "of which cache", "peak"),
        title=f"{stage.name}: GiB a chip, which has {_gib(stage.chip.memory)}",
        caption=f"kept from step to step: {parts}",
    )
    for name, (_, estimate) in stage.calls.items():
        cache = _gib(stage.cache) if name == "rollout" else ""
        peak = _gib(estimate.peak) + ("" if estimate.peak <= stage.chip.memory and estimate.fits else " too much")
        parts = estimate.arguments, estimate.beside, estimate.temporaries
        table.add_row(name, *map(_gib, parts), cache, peak)
    return table


def _time_table(stage: StagePlan) -> Table:
    known, seconds = all(estimate.fits for _, estimate in stage.calls.values()), stage.step_seconds
    table = Table(
        Column("program", no_wrap=True),
        *("calls", "TFLOPs", "computing", "sending", "seconds"),
        Column("bound by", no_wrap=True),
        "compiled in",
        title=f"{stage.name}: a step",
        caption=f"{_number(seconds)} s a step, {stage.tokens / seconds:,.0f} tokens/s" if known else None,
    )
    for name, (times, e) in stage.calls.items():
        times_taken = [*map(_number, (e.computing, e.sending, e.seconds))] if e.fits else [""] * 3
        calls = f"{stage.evaluations:,} in all" if name == "evaluate" else str(times)
        table.add_row(
            name, calls, _number(e.flops / 1e12), *times_taken, _bound(e, stage.chip), f"{e.compiled_in:.0f} s"
        )
    return table


def _bound(estimate: Estimate, chip: Chip) -> str:
    """What most of a program's time is: sending, products at the chip's FLOPs, or else reads and writes of memory."""
    if not estimate.fits:
        return ""
    if estimate.sending > estimate.computing:
        return "sending"
    return "products" if estimate.flops / chip.flops > estimate.computing / 2 else "memory"


def _collectives_table(plan: Plan) -> Table:
    table = Table(
        "stage", "program", "collective", "axes", "times", "GB sent", title="collectives of a call, by a chip"
    )
    for stage in plan.stages:
        for name, (_, estimate) in stage.calls.items():
            for (kind, axes), (times, sent) in sorted(estimate.collectives.items(), key=lambda item: -item[1][1]):
                if sent > 1e-3 * estimate.sending * stage.chip.sent:
                    table.add_row(stage.name, name, kind, " ".join(axes), f"{times:,.0f}", _number(sent / 1e9))
    return table


def bill(hours: Mapping[str, float], chips: int, dollars: float) -> list[tuple[str, float, float, float]]:
    """By stage, and in all: hours of the slice, hours of a chip, and dollars, as R1 gives its own."""
    every = {**hours, "all": sum(hours.values())}
    return [(name, one, one * chips, one * chips * dollars) for name, one in every.items()]


def _cost_table(plan: Plan) -> Table:
    caption = "every completion as long as it may be; start-up, grading and checkpoints are not counted"
    if any("evaluate" in stage.calls and not stage.evaluations for stage in plan.stages):
        caption += ", nor evaluations of all problems (evaluate.problems: null)"
    known = math.isfinite(plan.dollars)
    price = f"dollars, {plan.dollars:g} a chip-hour" if known else "dollars (no price is set)"
    table = Table("stage", "hours", "chip-hours", price, title="the whole run", caption=caption)
    for name, hours, chip_hours, dollars in bill(
        {stage.name: stage.hours for stage in plan.stages}, plan.mesh.devices.size, plan.dollars
    ):
        table.add_row(name, f"{hours:,.2f}", f"{chip_hours:,.1f}", f"{dollars:,.0f}" if known else "")
    return table


def _advice(plan: Plan, stage: StagePlan) -> Iterator[str]:
    """For each program that does not fit, its largest terms, and the settings that would make them smaller."""
    for name, (_, e) in stage.calls.items():
        if e.fits and e.peak <= plan.chip.memory:
            continue
        cache = stage.cache if name == "rollout" else 0.0
        samples = name in ("rollout", "evaluate", "cast")  # with weights that fsdp does not split
        places = {"teacher": "teacher_mesh", "load teacher": "teacher_mesh"}
        arguments = places.get(name, "mesh.tensor" if samples else "mesh.fsdp")
        shape = {"rollout": "decode_batch", "evaluate": "evaluate.decode_batch, evaluate.samples"}
        terms = {"arguments": e.arguments, "memory beside them": e.beside}
        terms |= {"the cache of sampling": cache, "temporaries": max(e.temporaries - cache, 0.0)}
        largest = sorted(terms.items(), key=lambda term: -term[1])[:3]
        settings = {
            "arguments": arguments,
            "memory beside them": "mesh.fsdp",
            "the cache of sampling": "decode_batch, prompts_per_step, max_prompt_length, max_completion_length",
            "temporaries": shape.get(name) or (arguments if samples or name in places else "microbatch, model.remat"),
        }
        named = ", ".join(f"{what} {_gib(size)} ({settings[what]})" for what, size in largest if size > 0)
        yield (
            f"does not fit: {stage.name}: {name} needs {_gib(e.peak)} of {_gib(plan.chip.memory)} GiB a chip. The "
            f"largest terms, with the settings that change them: {named}"
        )


def _number(x: float) -> str:
    """All figures of a large number and three of a small one, with no exponent, which a narrow table would cut off."""
    if 0 < x < 1e-3:
        return "<0.001"
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f}"
