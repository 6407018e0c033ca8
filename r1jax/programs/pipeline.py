"""A config's stages in order, each resumed from its last checkpoint.

train(load_config("configs/quickstart.yaml"))
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from r1jax.config.experiment import Config
from r1jax.programs import grpo, sft
from r1jax.programs.steps import evaluate_stage
from r1jax.run.run import Run, StageRun, open_run

PROGRAMS = {"sft": sft.train, "grpo": grpo.train}


def train(
    config: Config,
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    strict_compiles: bool = False,
) -> Run:
    """Runs every stage that is not finished; the same call again resumes from the last checkpoint.

    `functions` are Python functions by the names of the rewards that they are; `on_log` is called with each logged row.
    """
    run = open_run(config, functions=functions, strict_compiles=strict_compiles)
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
        previous: Any = None  # what the stage before ended with, if it ran just now
        for stage in run.stages[max(len(saved) - 1, 0) :]:
            weights, previous = _Weights(run, stage, previous), None
            if stage.settings.name not in saved and _has_new_start(run, stage):
                run.print(f"evaluating before {stage.settings.name} (the first use of each program compiles it)")
                evaluate_stage(run, stage, weights.read(), 0)
            previous = PROGRAMS[stage.settings.program](run, stage, weights)
    return run


class _Weights:
    """The weights that a stage begins with, read once. Calling it hands them over: the stage donates them."""

    def __init__(self, run: Run, stage: StageRun, previous: Any) -> None:
        before = run.stages[stage.number - 1].settings.name if stage.number else None
        self._run, self._stage = run, stage
        self._weights = previous if run.source(stage) == before else None

    def read(self) -> Any:
        if self._weights is None:
            self._weights = self._run.stage_weights(self._stage)
        return self._weights

    def __call__(self) -> Any:
        weights, self._weights = self.read(), None
        return weights


def _has_new_start(run: Run, stage: StageRun) -> bool:
    """Whether no evaluation before this stage was of the same weights with the same settings."""
    if stage.number == 0:
        return True
    before = run.stages[stage.number - 1]
    same_weights = run.source(stage) == before.settings.name
    return not (
        same_weights and stage.batches is before.batches and stage.settings.evaluate == before.settings.evaluate
    )


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
