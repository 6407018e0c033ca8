"""What a run refuses before anything is compiled or written: stages that do not fit its devices, task or lengths, and
a folder that was started with other settings."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from r1jax.config.base import ConfigError
from r1jax.config.experiment import Config, GrpoStage, SftStage
from r1jax.config.load import load_config
from r1jax.data.batches import Batches
from r1jax.parallel.mesh import row_shards
from r1jax.tasks import Mixture, Task

FREE = ("run_dir", "mesh.", "log.", "keep_checkpoints")  # settings that do not change what is computed


def check_stages(config: Config, task: Task | Mixture, batches: Batches, mesh: Mesh) -> None:
    """What the stages ask for must fit the mesh and the task."""
    if not config.stages:
        raise ConfigError("stages: got none; training needs at least one")
    shared = config.stage(0)
    if shared.evaluate.problems is None and batches.size("test") is None:
        raise ConfigError("evaluate.problems: null means all, and this task's problems have no end; give a number")
    prompt, context = batches.width["train"], mesh.shape["context"]
    width = prompt + shared.max_completion_length
    if width % context:
        raise ConfigError(
            f"mesh.context: {context} devices cannot split {prompt} prompt positions + max_completion_length "
            f"{shared.max_completion_length} = {width}; need a multiple"
        )
    shards, examples = row_shards(mesh), batches.size("train")
    for stage in map(config.stage, range(len(config.stages))):
        where, prompts = f"stages.{stage.name}", stage.prompts_per_step
        if examples is not None and prompts > examples:
            raise ConfigError(
                f"{where}.prompts_per_step: {prompts} prompts a step, and the task has {examples} to train on; give "
                f"fewer, or more data"
            )
        if prompts % shards:
            raise ConfigError(
                f"{where}.prompts_per_step: {prompts} prompts cannot be split over {shards} devices "
                f"(data × fsdp × expert); need a multiple of {shards}"
            )
        if stage.pack_length is not None and stage.pack_length < width:
            raise ConfigError(
                f"{where}.pack_length: rows of {stage.pack_length} tokens cannot hold the longest prompt and "
                f"completion, {prompt} + {shared.max_completion_length}; need at least {width}"
            )
        if stage.pack_length is not None and stage.pack_length % context:
            raise ConfigError(
                f"{where}.pack_length: {context} devices (mesh.context) cannot split rows of {stage.pack_length}; "
                f"need a multiple"
            )
        if stage.program == "grpo":
            _check_rollout(stage, task)
        _check_updates(stage, shards)
        warmup = stage.optimizer.warmup_updates
        if warmup >= stage.updates:
            warnings.warn(
                f"{where}.optimizer.warmup_updates: the learning rate rises for {warmup} updates, and the stage ends "
                f"after {stage.updates}; give fewer, or more steps",
                stacklevel=2,
            )


def _check_rollout(stage: GrpoStage, task: Task | Mixture) -> None:
    if stage.kl.coef == 0 and (stage.kl.sync_reference_every is not None or stage.kl.place == "reward"):
        warnings.warn(
            f"stages.{stage.name}.kl: coef is 0, so there is no KL, wherever it is placed, and no reference to sync",
            stacklevel=3,
        )
    unknown = sorted(set(stage.reward_weights) - set(task.rewards))
    if unknown:
        raise ConfigError(f"stages.{stage.name}.rewards: no reward {unknown[0]!r}; there are {', '.join(task.rewards)}")


def _check_updates(stage: SftStage | GrpoStage, shards: int) -> None:
    """The rows of an update must split over the devices and into micro-batches."""
    where, rows, microbatch = f"stages.{stage.name}", stage.prompts_per_step, stage.microbatch or 1
    if stage.program == "sft" and stage.pack_length is not None:  # as many rows as the examples fill
        if microbatch * shards > rows:
            raise ConfigError(
                f"{where}.microbatch: {microbatch} rows on each of {shards} devices are more than the {rows} examples "
                f"of a step; give fewer"
            )
        return
    if stage.program == "grpo":
        rows = rows * stage.group_size // stage.minibatches
    if rows % shards:
        raise ConfigError(
            f"{where}.minibatches: an update of {rows} sequences cannot be split over {shards} devices; need a "
            f"multiple of {shards}"
        )
    if rows % (microbatch * shards):
        raise ConfigError(
            f"{where}.microbatch: an update of {rows} sequences cannot be split into microbatches of {microbatch} on "
            f"each of {shards} devices; need {rows} to be a multiple of their product"
        )


def check_examples(config: Config, batches: Batches, at_most: int = 2048) -> None:
    """Looks at the first examples that the run will use, so that limits that are too low are seen at once."""
    index = 0
    batches.prompts("test", 0, np.arange(min(config.stage(0).evaluate.problems or at_most, at_most)))
    for stage in config.stages:
        rows = np.arange(min(stage.steps * stage.prompts_per_step, at_most))
        if stage.program == "sft":
            batches.demonstrations(index, rows)
        else:
            batches.prompts("train", index, rows)
        index += stage.most_prompts


def check_same_settings(folder: Path, config: Config) -> None:
    """A run goes on only with the settings it began with; where it runs and what it logs may change."""
    file = folder / "config.yaml"
    if not file.is_file():
        if folder.exists() and any(entry.suffix != ".tmp" for entry in folder.iterdir()):
            raise ConfigError(f"run_dir: {folder} is not empty and is no run folder; choose another with run_dir=...")
        return
    before, now = _flat(load_config(file).model_dump()), _flat(config.model_dump())
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key) and not key.startswith(FREE)]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"run_dir: {folder} was started with {key}={before.get(key)}, this config has {key}={now.get(key)}{more}; "
            f"choose another folder with run_dir=..., or delete that one to start again"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    items = tree.items() if isinstance(tree, dict) else None
    if isinstance(tree, list):  # stages go by their names
        items = [(entry.get("name", i) if isinstance(entry, dict) else i, entry) for i, entry in enumerate(tree)]
    if items is None:
        return {prefix: tree}
    return {k: v for name, item in items for k, v in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()}
