"""A run of the tiny config's rl stage alone: its settings, its rows without timings, and its checkpoints."""

import jax
import numpy as np
from tiny import TINY

from r1jax.config.load import load_config
from r1jax.programs.grpo import Trainer
from r1jax.run.metrics import read_metrics, without_timings
from r1jax.run.run import build_run


def rl_config(folder, changes, *overrides):
    """The stage with these changes, to be run in FOLDER/run."""
    text = TINY.format(folder=folder / "run")
    before, rl = text.index("  - name: cold_start"), text.index("  - name: rl")
    (folder / "tiny.yaml").write_text(text[:before] + text[rl:])
    settings = [f"stages.rl.{name}={value}" for name, value in changes.items()]
    return load_config(folder / "tiny.yaml", ["max_completion_length=12", *overrides, *settings])


def rows_of(folder):
    return [without_timings(row) for row in read_metrics(folder) if "loss" in row]


def states_of(config, folder):
    """Everything in each checkpoint that is kept, by its step."""
    run = build_run(config.model_copy(update={"run_dir": str(folder)}))
    run.close()
    (stage,) = run.stages
    like = Trainer(run, stage).abstract.items()
    with run.checkpoints(stage.settings.name) as checkpoints:
        return {step: jax.tree.map(np.asarray, dict(checkpoints.restore(step, like))) for step in checkpoints.steps()}
