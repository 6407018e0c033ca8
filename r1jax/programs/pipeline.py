"""A config's stages in order, each from where it stopped.

train(load_config("configs/quickstart.yaml"))
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from r1jax.config.experiment import Config
from r1jax.evaluate import evaluate
from r1jax.programs import grpo, sft
from r1jax.run.run import Run, open_run, role_key

PROGRAMS = {"sft": sft.train, "grpo": grpo.train}


def train(config: Config, *, strict_compiles: bool = False) -> Run:
    """Runs every stage that is not finished; the same call again goes on where this one stopped."""
    run = open_run(config, strict_compiles=strict_compiles)
    with contextlib.closing(run), run.devices():
        saved = _saved_steps(run)
        run.log.rewind(saved)
        run.say(f"{run.folder}: {run.parameters:,} parameters on {run.mesh.devices.size} {run.platform} device(s)")
        # Where a stage's weights come from: 1. its own checkpoint, 2. the stage before it, 3. the seed.
        weights: Callable[[], Any] = run.initial_weights
        if saved:
            (stage, step), last = [*saved.items()][-1], config.stages[-1]
            finished = (stage, step) == (last.name, last.steps)
            run.say("finished before" if finished else f"goes on after step {step} of stage {stage}")
        else:
            run.say("evaluating before training (the first use of each program compiles it)")
            params = weights()
            with run.watch("evaluate"):
                scores, _ = evaluate(run, params, run.settings.evaluate, role_key(run.key, 0, 0, "evaluate"))
            run.log.log(config.stages[0].name, 0, scores | run.timers.collect())
            weights = functools.partial(_identity, params)  # a large model is read once
            del params
        for number in range(max(len(saved) - 1, 0), len(config.stages)):
            stage = config.stage(number)
            params = PROGRAMS[stage.program](run, number, stage, weights)
            weights = functools.partial(_identity, params)
            del params  # the next stage donates them
    return run


def _saved_steps(run: Run) -> dict[str, int]:
    """The last checkpoint of each stage that has one; stages run in order, so those are the first ones."""
    saved = {}
    for stage in run.config.stages:
        with run.checkpoints(stage.name) as checkpoints:
            step = checkpoints.latest()
        if step is None:
            break
        saved[stage.name] = step
    return saved


def _identity(params: Any) -> Any:
    return params
