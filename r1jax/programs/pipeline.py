"""A config's stages in order, each resumed from its last checkpoint.

train(load_config("configs/quickstart.yaml"))
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

from r1jax.config.experiment import Config
from r1jax.programs import grpo, sft
from r1jax.programs.steps import evaluate_stage
from r1jax.run.run import Run, open_run

PROGRAMS = {"sft": sft.train, "grpo": grpo.train}


def train(
    config: Config,
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    on_log: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Runs every stage that is not finished; the same call again resumes from the last checkpoint.

    `functions` are those of `build_run`; `on_log` is called with each logged row.
    """
    run = open_run(config, functions=functions)
    run.log.on_log = on_log
    with contextlib.closing(run), run.devices():
        saved = _saved_steps(run)
        run.log.rewind(saved)
        devices = f"{run.mesh.devices.size} {run.mesh.devices.flat[0].platform} device(s)"
        run.print(f"{run.folder}: {run.parameters:,} parameters on {devices}")
        if saved:
            stage, step = [*saved.items()][-1]
            finished = (stage, step) == (run.stages[-1].settings.name, run.stages[-1].settings.steps)
            run.print("finished before" if finished else f"resumes after step {step} of stage {stage}")
        held: list[Any] = []  # the weights that the next stage begins with, if they are here; it donates them
        for stage in run.stages[max(len(saved) - 1, 0) :]:
            before = run.stages[stage.number - 1] if stage.number else None
            if before is None or run.source(stage) != before.settings.name:
                before, held = None, []
            settings = stage.settings
            evaluated = before and (before.batches, before.settings.evaluate) == (stage.batches, settings.evaluate)
            if settings.name not in saved and not evaluated:
                run.print(f"evaluating before {settings.name} (the first use of each program compiles it)")
                held = held or [run.stage_weights(stage)]
                evaluate_stage(run, stage, held[0], 0)
            # The program takes the weights out of the list, so that no other reference is left.
            weights = held.pop if held else functools.partial(run.stage_weights, stage)
            held = [PROGRAMS[settings.program](run, stage, weights)]
    return run


def _saved_steps(run: Run) -> dict[str, int]:
    """The last checkpoint of each stage that has one; stages run in order, so those are the first ones."""
    saved = {}
    for stage in run.stages:
        with run.checkpoints(stage.settings.name) as checkpoints:
            step = checkpoints.latest()
        if step is None:
            break
        saved[stage.settings.name] = step
    return saved
