"""The end of a step: metrics are fetched one step late, and nothing that is not finite is saved."""

import contextlib
import dataclasses
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.programs.steps import Steps, check_finite, is_due
from r1jax.run.loading import find_checkpoint, load_weights
from r1jax.run.run import build_run, open_run
from r1jax.training.state import TrainState


def test_what_is_due():
    assert [step for step in range(1, 8) if is_due(step, 3, 7)] == [3, 6, 7]
    assert [step for step in range(1, 8) if is_due(step, 0, 7)] == [7]


@pytest.fixture
def steps(tiny_file):
    """The steps of a stage of four, of which the third is saved."""
    overrides = ["stages.cold_start.steps=4", "stages.cold_start.save_every=3", "evaluate.problems=8"]
    run = build_run(load_config(tiny_file, overrides))
    yield run, run.stages[0]
    run.close()


def fetched_at(run, stage, losses, seconds=0.0):
    """After which end of a step each step's metrics were fetched; a fetch takes so many seconds."""
    fetched, ended = {}, []
    with run.devices(), Steps(run, stage) as steps:
        state = TrainState(run.initial_weights(), jnp.int32(0), {}, batches_consumed=jnp.int32(0))
        for step in steps.remaining(state):

            def metrics(step=step):
                fetched[step] = len(ended) + 1
                time.sleep(seconds)
                return {"loss": losses[step - 1], "num_tokens": 8.0}

            steps.end(step, state, metrics)
            ended.append(step)
    return fetched


def test_metrics_are_fetched_one_step_late(steps):
    """At once after the first step, before a save, and after the last; the second step's with the third's."""
    run, stage = steps
    assert fetched_at(run, stage, [4.0, 3.0, 2.0, 1.0]) == {1: 1, 2: 3, 3: 3, 4: 4}
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows if "loss" in row] == [4.0, 3.0, 2.0, 1.0]
    assert all(row["step_time"] > 0 and row["tokens_per_second"] > 0 for row in rows if "loss" in row)


def test_waiting_for_the_update_before_is_timed_as_updating(steps):
    """A step whose update is only dispatched ends when its metrics are fetched, in the end of the next one."""
    run, stage = steps
    fetched_at(run, stage, [4.0, 3.0, 2.0, 1.0], seconds=0.2)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    (third,) = [row for row in rows if row["step"] == 3 and "loss" in row]
    assert third["time/update"] >= 0.2


def test_nothing_is_saved_after_a_loss_that_is_not_finite(steps):
    run, stage = steps
    with pytest.raises(FloatingPointError, match="stage cold_start, step 2: loss is nan; there is no checkpoint yet"):
        fetched_at(run, stage, [4.0, float("nan"), 2.0, 1.0])
    assert not list((run.folder / "checkpoints" / "cold_start").glob("[0-9]*"))


def test_the_last_checkpoint_is_named():
    class Saved:
        folder = Path("checkpoints/rl")

        def latest(self):
            return 5

    metrics = {"loss": 1.0, "grad_norm": float("nan"), "param_norm": 1.0}
    with pytest.raises(FloatingPointError, match=r"rl, step 7: grad_norm is nan; the last good checkpoint is .*rl/5"):
        check_finite(metrics, "rl", 7, Saved())


BEST = ["stages.cold_start.steps=4", "stages.cold_start.save_every=1", "stages.cold_start.keep=best"]
BEST += ["keep_checkpoints=1"]


@pytest.mark.parametrize("missing", [1, 2])
def test_a_checkpoint_without_an_accuracy_is_not_compared(missing, tiny_file):
    """As where a judge does not answer. At the first one there is nothing to lose yet, and the run stops."""
    run = open_run(load_config(tiny_file, BEST))

    def evaluate(run, stage, weights, step):
        return {"eval/accuracy": float("nan") if step == missing else 1 / step}

    said = pytest.warns(UserWarning, match="no held-out problem was graded")
    if missing == 1:
        said = pytest.raises(ConfigError, match="keep: best compares held-out accuracies, and this evaluation has none")
    with said, contextlib.closing(run), run.devices(), Steps(run, run.stages[0], evaluate=evaluate) as steps:
        state = TrainState(run.initial_weights(), jnp.int32(0), {}, batches_consumed=jnp.int32(0))
        for step in steps.remaining(state):
            steps.end(step, state, lambda: {"loss": 1.0, "num_tokens": 8.0})
        assert (steps.checkpoints.final(), steps.checkpoints.latest()) == (1, 4)


def test_a_stage_may_end_with_its_best_checkpoint(tiny_file):
    """Of four checkpoints, of which one is kept as the last and the second has the best accuracy."""
    run, accuracies, evaluated = open_run(load_config(tiny_file, BEST)), {1: 0.1, 2: 0.9, 3: 0.3, 4: 0.2}, []

    def evaluate(run, stage, weights, step):
        evaluated.append(step)
        return {"eval/accuracy": accuracies[step]}

    with contextlib.closing(run), run.devices(), Steps(run, run.stages[0], evaluate=evaluate) as steps:
        state = TrainState(run.initial_weights(), jnp.int32(0), {}, batches_consumed=jnp.int32(0))
        for step in steps.remaining(state):
            state = dataclasses.replace(state, params=jax.tree.map(lambda x, s=step: jnp.full_like(x, s), state.params))
            steps.end(step, state, lambda: {"loss": 1.0, "num_tokens": 8.0})
        kept = steps.result(state)
        loaded = load_weights(run.folder, "cold_start", run.model, run.mesh)
    assert evaluated == [1, 2, 3, 4]
    for weights in (kept, loaded):
        assert {float(x.ravel()[0]) for x in jax.tree.leaves(weights)} == {2.0}
    assert find_checkpoint(run.folder, ["cold_start"]) == ("cold_start", 2)
    assert find_checkpoint(run.folder, ["cold_start"], "cold_start-4") == ("cold_start", 4)
