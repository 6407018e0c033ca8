"""A config's stages in order, each resumed from its last checkpoint.

train(load_config("configs/quickstart.yaml"))
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from r1jax.config.base import RunStopped, user_errors
from r1jax.config.experiment import Config
from r1jax.parallel.processes import wait_for_all
from r1jax.programs import distill, grpo, reject, reward_model, sft
from r1jax.programs.comparison import check_comparison, compare, forget_retrained
from r1jax.programs.steps import evaluate_stage
from r1jax.run.checks import check_examples, check_stages
from r1jax.run.run import Run, open_run
from r1jax.run.stages import StageRun
from r1jax.training.checkpoint import DamagedCheckpoint, put_aside

PROGRAMS = {
    "sft": sft.train,
    "grpo": grpo.train,
    "distill": distill.train,
    "reject": reject.train,
    "reward_model": reward_model.train,
}


def train(
    config: Config,
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    handle_signals: bool = False,
) -> Run:
    """Runs every stage that is not finished; the same call again resumes from the last checkpoint.

    `functions` are those of `build_run`; `on_log` is called with each logged row. With `handle_signals` Ctrl-C and
    SIGTERM save a checkpoint after the step in which they come, or its rollout, and raise Interrupted.
    """
    run = open_run(config, functions=functions)
    run.log.on_log = on_log
    signals = run.stop if handle_signals else contextlib.nullcontext()
    with contextlib.closing(run), run.devices(), signals:
        if config.table:
            with user_errors():  # before anything runs
                check_comparison(run, functions)
        devices = f"{run.mesh.devices.size} {run.mesh.devices.flat[0].platform} device(s)"
        run.print(f"{run.folder}: {run.parameters:,} parameters on {devices}; attention: {run.attention}")
        for line in dict.fromkeys(_sizes(run)):
            run.print(line)
        if damaged := _train_stages(run, functions):
            run.guard.forget()  # each stage makes its functions anew
            if another := _train_stages(run, functions):
                raise RunStopped(
                    f"{another}, and so was {damaged.folder} before it. Look whether its disk is sound; the same "
                    f"command then resumes from what was saved before both"
                )
    wait_for_all("the end of the run")  # for what the first process writes; JAX would give it five minutes
    return run


def _sizes(run: Run) -> Iterator[str]:
    """How many examples the stages have whose data have an end, and how often they are passed over."""
    for stage in run.stages:
        settings = stage.settings
        train, test = (None if stage.waits_for else stage.batches.size(split) for split in ("train", "test"))
        if train is not None and test is not None:
            problems = min(size for size in (settings.evaluate.problems, test) if size is not None)
            epochs = settings.steps * settings.prompts_per_step / train
            yield (
                f"{settings.name}: {train:,} examples to train on, for {epochs:.2g} epochs; {test:,} held out, of "
                f"which {problems:,} are evaluated"
            )


def _train_stages(run: Run, functions: Mapping[str, Callable[..., Any]] | None) -> DamagedCheckpoint | None:
    """Runs the stages from the last checkpoint on, and compares them if `table` says so.

    Returns the error where a checkpoint is damaged, and now put aside.
    """
    held: dict[str, Any] = {}  # the last weights, by the stage that made them, which the next stage may take
    try:
        saved = _saved_steps(run)
        with user_errors():  # where a row is none
            run.log.rewind(saved)
        if run.config.table:
            forget_retrained(run, saved)
        if saved:
            stage, step = [*saved.items()][-1]
            finished = (stage, step) == (run.stages[-1].settings.name, run.stages[-1].settings.steps)
            run.print("finished before" if finished else f"resumes after step {step} of stage {stage}")
        for stage in run.stages[max(len(saved) - 1, 0) :]:
            settings, source = stage.settings, run.config.source(stage.settings.name)
            if stage.waits_for:
                check_stages([stage], run.mesh)
                check_examples([stage])
                run.list_removed(stage)
            held = {name: weights for name, weights in held.items() if name == source}
            if settings.name not in saved and not already_evaluated(run, stage):
                run.print(f"evaluating before {settings.name} (the first use of each program compiles it)")
                held = held or {source: run.stage_weights(stage)}
                evaluate_stage(run, stage, held[source], 0)
                run.end_if_asked()
            # The program takes the weights out of the dict, so that no other reference is left.
            take = functools.partial(_take, held, source) if held else functools.partial(run.stage_weights, stage)
            weights = PROGRAMS[settings.program](run, stage, take)
            run.end_if_asked()
            maker = settings.name if settings.makes_policy else source
            held = {} if weights is None else {maker: weights}
            del weights  # the next stage may take the last reference
        held.clear()
        if run.config.table:
            compare(run, functions)
    except DamagedCheckpoint as error:
        if not error.folder.is_relative_to(run.folder):  # another run's
            raise
        run.log.close()
        if run.is_writer:
            aside = put_aside(error.folder)
            run.print(f"{error}; it was renamed to {aside.name}, and training resumes from what was saved before it")
        wait_for_all("damaged checkpoint")
        return error
    return None


def already_evaluated(run: Run, stage: StageRun) -> bool:
    """Whether the stage needs no evaluation before it: it trains no policy, or begins with one that had the same, or
    its settings say so."""
    evaluates = stage.settings.evaluate
    if not stage.settings.makes_policy or not evaluates.before or evaluates.problems == 0:
        return True
    trained = [other for other in run.stages[: stage.number] if other.settings.makes_policy]
    if not trained or trained[-1].settings.name != run.config.source(stage.settings.name):
        return False
    before = trained[-1]
    theirs = before.settings.evaluate.model_copy(update={"before": True})
    return (before.batches, theirs) == (stage.batches, evaluates)


def _take(held: dict[str, Any], name: str) -> Any:
    return held.pop(name)


def _saved_steps(run: Run) -> dict[str, int]:
    """The last step that each stage has saved, up to the last stage that has one: stages run in order, so those before
    it were finished, also where their checkpoints are gone."""
    steps = {stage.settings.name: run.finished_steps(stage) for stage in run.stages}
    begun = max((index + 1 for index, step in enumerate(steps.values()) if step is not None), default=0)
    saved = {}
    for index, stage in enumerate(run.stages[:begun], start=1):
        name = stage.settings.name
        if (step := steps[name]) is None:
            run.print(f"stage {name} has nothing saved any more; later stages have, so it is not run again")
        saved[name] = step if step is not None and index == begun else stage.settings.steps
    return saved
