"""The stages of a run side by side on the same held-out problems, as DeepSeek-R1's paper compares its stages.

compare(run)  # writes RUN_DIR/comparison.json, which `run.comparison` shows
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from r1jax.config.base import ConfigError
from r1jax.data.batches import Batches
from r1jax.parallel.mesh import row_shards
from r1jax.parallel.processes import wait_for_all
from r1jax.rl.evaluation import evaluate
from r1jax.run.checks import check_judges
from r1jax.run.comparison import comparison_file, read_comparison
from r1jax.run.loading import load_weights, reward_model
from r1jax.run.memory import sequences_at_once
from r1jax.run.metrics import write_atomically
from r1jax.run.run import Run, role_key
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.tasks import make_task


def comparison_batches(run: Run, stage: str, functions: Mapping[str, Callable[..., Any]] | None = None) -> Batches:
    """The problems of the top level's task, with the rewards that are defined there, in the form of prompt that a stage
    has by its name, or the top level for `base`.

    `functions` are those of `build_run`. Raises ConfigError where stages cannot be compared on it.
    """
    config = run.config
    task = make_task(
        config.task,
        config.seed,
        rewards={**config.reward_definitions, **(functions or {})},
        max_completion_length=config.max_completion_length,
        reward_model=functools.partial(reward_model, run.folder, run.mesh),
    )
    check_judges([task])
    if "accuracy" not in task.rewards:
        raise ConfigError("table: the top level's task has no reward named accuracy, which stages are compared by")
    batches = Batches(
        task,
        run.tokenizer,
        prompt=config.prompt if stage == "base" else config.stage(stage).prompt,
        seed=config.seed,
        max_prompt_length=config.max_prompt_length,
        max_completion_length=config.max_completion_length,
    )
    if config.evaluate.problems == 0:
        raise ConfigError("evaluate.problems: 0 evaluates nothing, and table compares stages by evaluations; give more")
    if config.evaluate.problems is None and batches.size("test") is None:
        raise ConfigError("evaluate.problems: null means all, and the problems of table have no end; give a number")
    return batches


def check_comparison(run: Run, functions: Mapping[str, Callable[..., Any]] | None = None) -> None:
    """Raises ConfigError where the stages of the config's `table` will not all answer the same problems."""
    config, asked = run.config, dict[str, list[Any]]()
    for stage in config.table.values():
        batches = comparison_batches(run, stage, functions)
        problems = min(n for n in (config.evaluate.problems, batches.size("test")) if n is not None)
        asked[stage] = [example.question for example in batches.prompts("test", 0, np.arange(problems)).examples]
    first, *others = asked
    if other := next((stage for stage in others if asked[stage] != asked[first]), None):
        raise ConfigError(
            f"max_prompt_length: {config.max_prompt_length} tokens are too few for some problems of table in the "
            f"prompts of {first} or of {other}, which would not answer the same ones; raise it at the top level"
        )


def forget_retrained(run: Run, saved: Mapping[str, int]) -> None:
    """Drops the scores of stages that will be trained again; `saved` has the last step that each stage has saved."""
    found = read_comparison(run.folder)
    kept = {name: entry for name, entry in found.items() if entry["stage"] in ("base", *saved)}
    wait_for_all("comparison")  # all have read it
    if kept != found:
        _write(run, kept)


def compare(run: Run, functions: Mapping[str, Callable[..., Any]] | None = None) -> None:
    """Evaluates the last weights of every stage in the config's `table` that has not been; each is saved at once."""
    found = read_comparison(run.folder)
    key = role_key(
        jax.random.fold_in(run.key, 1), 0, 0, "evaluate"
    )  # the same problems and the same randomness for all
    sequences = sequences_at_once(run.config, run.config, row_shards(run.mesh))
    for name, stage_name in run.config.table.items():
        made: dict[str, Any] = {"stage": stage_name, "step": 0}
        if stage_name != "base":
            made["step"] = run.config.stage(stage_name).steps
        if {k: found.get(name, {}).get(k) for k in made} == made:
            continue
        run.print(
            f"comparing {name} ({'the model before training' if stage_name == 'base' else f'stage {stage_name}'})"
        )
        batches = comparison_batches(run, stage_name, functions)
        model = _model(run, stage_name)
        scores, _, accuracy_P = evaluate(model, batches, run.config.evaluate, key, sequences=sequences)
        found[name] = made | {"scores": scores, "accuracies": [None if np.isnan(a) else float(a) for a in accuracy_P]}
        _write(run, found)
        run.end_if_asked()
    _write(run, {name: found[name] for name in run.config.table})  # in this order, and no others


def _model(run: Run, stage: str) -> LoadedModel:
    """The model before any training, where the stage is `base`, or with the last weights of a stage."""
    if stage == "base":
        return LoadedModel(run.model, run.tokenizer, run.mesh, run.initial_weights())
    found = run.stage(stage)
    return run.loaded(found, load_weights(run.folder, stage, found.model, run.mesh))


def _write(run: Run, found: dict[str, Any]) -> None:
    if run.is_writer:
        write_atomically(comparison_file(run.folder), (json.dumps(found) + "\n").encode())
