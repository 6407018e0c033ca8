"""A config's stages in order, each from where it stopped.

train(load_config("configs/quickstart.yaml"))
"""

from __future__ import annotations

from typing import Any

import jax

from r1jax.config import Config
from r1jax.evaluate import evaluate
from r1jax.programs import grpo, sft
from r1jax.run import Run, open_run, role_key

PROGRAMS = {"sft": sft.train, "grpo": grpo.train}


def train(config: Config, *, strict_compiles: bool = False) -> Run:
    """Runs every stage that is not finished; the same call again goes on where this one stopped."""
    run = open_run(config, strict_compiles=strict_compiles)
    saved: dict[str, int] = {}
    for stage in config.stages:
        with run.checkpoints(stage.name) as checkpoints:
            step = checkpoints.latest()
        if step is not None:
            saved[stage.name] = step
    run.log.rewind(saved)

    with jax.set_mesh(run.mesh):
        # Where a stage's weights come from: 1. its own checkpoint, 2. the stage before it, 3. the seed.
        weights: Any = run.initial_weights
        if not saved:
            with run.watch("evaluate"):
                scores, _ = evaluate(run, weights(), config.evaluate, role_key(run.key, 0, 0, "evaluate"))
            run.log.log(config.stages[0].name, 0, scores | run.timers.collect())
        for number, stage in enumerate(config.stages):
            params = PROGRAMS[stage.program](run, number, stage, weights)
            weights = lambda params=params: params  # noqa: E731
    run.close()
    return run
