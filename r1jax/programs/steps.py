"""The steps of a stage, and what every program does at the end of one: log, show a sample, evaluate, save.

with Steps(run, stage) as steps:
    state = restore_or_init(..., steps.checkpoints, weights)
    for step in steps.remaining(state):
        state, metrics = update(state, batch)
        steps.end(step, state, metrics=lambda: fetch(metrics))
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from r1jax.config.base import ConfigError
from r1jax.config.stage import TrainingStage
from r1jax.parallel.mesh import row_shards
from r1jax.parallel.processes import any_process
from r1jax.rl.evaluation import evaluate
from r1jax.run.console import Progress
from r1jax.run.memory import sequences_at_once
from r1jax.run.run import Run, role_key
from r1jax.run.stages import StageRun
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.state import TrainState

FINITE = ("loss", "grad_norm", "param_norm", "value/loss", "value/grad_norm", "value/param_norm")


class Steps(contextlib.ExitStack):
    """The remaining steps of a stage.

    Metrics are fetched one step late, so that the devices never wait for the host; at once only after the first step,
    and before a step is evaluated or saved. `inspect` is called with a step and its metrics when they are fetched.
    `evaluate` logs the stage's held-out scores.
    """

    def __init__(
        self,
        run: Run,
        stage: StageRun,
        inspect: Callable[[int, Mapping[str, float]], None] = lambda *_: None,
        evaluate: Callable[[Run, StageRun, Any, int], dict[str, float]] | None = None,
    ) -> None:
        super().__init__()
        self.run, self.stage, self._inspect, self._evaluate = run, stage, inspect, evaluate or evaluate_stage
        self.checkpoints: Checkpoints = self.enter_context(run.checkpoints(stage.settings.name))
        self._log_pending: Callable[[], None] = lambda: None

    def remaining(self, state: TrainState) -> Iterator[int]:
        """The steps after those that `state` has finished."""
        finished, settings = int(state.step), self.stage.settings
        progress = Progress(settings.name, settings.steps, completed=finished, enabled=self.run.is_writer)
        self._progress = self.enter_context(progress)
        self._first, self._last, self._compiles = finished + 1, time.perf_counter(), self.run.guard.count
        self._saved = time.monotonic()
        yield from range(self._first, settings.steps + 1)

    def end(
        self,
        step: int,
        state: TrainState,
        metrics: Callable[[], Mapping[str, float]],
        rows: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        """Logs the step before, then does what is due after this one.

        `rows` makes the sampled completions to keep. A program that samples waits here for its updates, which sampling
        would wait for anyway, so that they are not timed as sampling.
        """
        run, settings = self.run, self.stage.settings
        assert isinstance(settings, TrainingStage)
        with run.timers("update"):  # the fetch waits for an update that was only dispatched
            self._log_pending()
        every = run.config.completions_every or settings.steps
        shown = rows is not None and (step == 1 or is_due(step, every, settings.steps))
        evaluated, saved = (is_due(step, every, settings.steps) for every in (settings.eval_every, settings.save_every))
        evaluated = settings.evaluate.problems != 0 and (evaluated or (saved and settings.keep == "best"))
        now, ready = step == self._first or shown or evaluated or saved, None
        if now or rows is not None:
            with run.timers("update"):
                jax.block_until_ready(state.params)
            ready = time.perf_counter()
        timings = run.timers.collect() | {"compiles": run.guard.count - self._compiles}
        self._log_pending = functools.partial(self._log, step, metrics, timings, ready)
        self._compiles = run.guard.count
        if now:
            self._log_pending()
        if shown and rows is not None:
            samples = rows()
            if run.config.completions_every:
                run.log.completions(settings.name, step, samples)
            for sample in samples[:1]:  # a process may own none
                self._progress.show_sample(sample["prompt"], sample["completion"], sample["rewards"])
        scores = self._evaluate(run, self.stage, state.params, step) if evaluated else {}
        self._progress.update(step, scores)
        due = settings.save_minutes is not None and time.monotonic() - self._saved > 60 * settings.save_minutes
        if any_process(run.is_asked_to_end or due) or saved:
            self._save(step, state, self._score(scores) if saved and evaluated and settings.keep == "best" else None)
            if step < settings.steps:
                run.end_if_asked()  # closing the checkpoints completes the save
        if now:
            self._last, self._compiles = time.perf_counter(), run.guard.count

    def end_if_asked(self, step: int, state: TrainState) -> None:
        """Where a signal has come while `step` samples: saves the state before it and raises Interrupted, since the
        notice of a pre-emption may be shorter than the rest of the step."""
        if any_process(self.run.is_asked_to_end):
            if step > 1 and self.checkpoints.latest() != step - 1:
                self._save(step - 1, state, None)
            self.run.end_if_asked()

    def _save(self, step: int, state: TrainState, score: float | None) -> None:
        self._log_pending()
        self.run.log.flush()  # a checkpoint makes the rows up to its step valid
        self.checkpoints.save(step, state.items(), score)
        self._saved = time.monotonic()
        self._last, self._compiles = time.perf_counter(), self.run.guard.count

    def _log(
        self, step: int, fetch: Callable[[], Mapping[str, float]], timings: Mapping[str, float], ready: float | None
    ) -> None:
        """Fetches and logs the metrics of a step, and stops the run if they are not finite.

        `ready` is when the devices were done with it, where that is known before its metrics are fetched.
        """
        self._log_pending = lambda: None
        metrics = {name: float(value) for name, value in fetch().items()}
        ready = ready or time.perf_counter()
        seconds, self._last = ready - self._last, ready
        check_finite(metrics, self.stage.settings.name, step, self.checkpoints)
        self._inspect(step, metrics)
        metrics |= {**timings, "step_time": seconds, "tokens_per_second": metrics["num_tokens"] / seconds}
        self.run.log.log(self.stage.settings.name, step, metrics)
        self._progress.update(step, metrics)

    def _score(self, scores: Mapping[str, float]) -> float | None:
        """What the best checkpoint has most of. Raises ConfigError where the first one that is compared has none."""
        name, accuracy = self.stage.settings.name, scores.get("eval/accuracy", math.nan)
        if math.isfinite(accuracy):
            return accuracy
        if self.checkpoints.latest() is None:
            raise ConfigError(
                f"stages.{name}: keep: best compares held-out accuracies, and this evaluation has none; use keep: last"
            )
        warnings.warn(f"stage {name}: no held-out problem was graded, so this checkpoint is not compared", stacklevel=2)
        return None

    def result(self, state: TrainState) -> Any:
        """The weights that the stage ends with, as its `keep` says."""
        last, final = self.checkpoints.latest(), self.checkpoints.final()
        if final is None or final == last:
            return state.params
        self.run.print(f"{self.stage.settings.name} ends with its best checkpoint, of step {final}")
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state.params)
        return self.checkpoints.restore(final, {"params": like})["params"]


def evaluate_stage(run: Run, stage: StageRun, weights: Any, step: int) -> dict[str, float]:
    """The stage's held-out scores of some weights, logged as a row of `step`."""
    key, settings = role_key(run.key, stage.number, step, "evaluate"), stage.settings
    with run.guard(f"{settings.name} evaluation"), run.timers("evaluate"):
        model, sequences = run.loaded(stage, weights), sequences_at_once(run.config, settings, row_shards(run.mesh))
        scores = evaluate(model, stage.batches, settings.evaluate, key, sequences=sequences).scores
    run.log.log(settings.name, step, scores | run.timers.collect())
    return scores


def is_due(step: int, every: int, total: int) -> bool:
    """Whether something done every `every` steps (0: only at the end) is due after `step` of `total` steps."""
    return step == total or (every > 0 and step % every == 0)


def check_finite(metrics: Mapping[str, float], stage: str, step: int, checkpoints: Checkpoints) -> None:
    """Stops the run, before anything more is saved, where loss, gradients or new weights are not finite."""
    bad = [name for name in FINITE if not math.isfinite(metrics.get(name, 0.0))]
    if not bad:
        return
    step_saved = checkpoints.latest()
    good = f"the last good checkpoint is {checkpoints.folder / str(step_saved)}"
    saved = "there is no checkpoint yet" if step_saved is None else good
    values = " and ".join(f"{name} is {metrics[name]}" for name in bad)
    raise FloatingPointError(f"stage {stage}, step {step}: {values}; {saved}")
