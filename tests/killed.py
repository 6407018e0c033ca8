"""Trains a config that is killed at some rows of its log and resumed after each, as a process would be."""

from r1jax.programs.pipeline import train
from r1jax.run.metrics import RunLog


class Killed(Exception):
    """Stands for a process that ends at once."""


def train_killed(config, *kills):
    """Trains until each (stage, step) has its row of a step, and then to the end; every kill has to happen."""
    for kill in kills:
        train_until(config, *kill)
    train(config)


def train_until(config, stage, step):
    """Trains until the stage's row of a step is logged, where it is killed."""
    log = RunLog.log

    def log_and_die(self, at, number, row):
        log(self, at, number, row)
        if (at, number) == (stage, step) and row.keys() & {"loss", "pass_rate"}:
            raise Killed

    RunLog.log = log_and_die
    try:
        train(config)
    except Killed:
        return
    finally:
        RunLog.log = log
    raise AssertionError(f"the run ended without a row of stage {stage}, step {step}")
