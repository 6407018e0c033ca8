"""What may change in the settings of a run that has begun: where and how it runs, what it evaluates, saves and logs,
the steps of its last stage, and stages that saved nothing.

changes = find_changes(Path("runs/r1"), config)
changes.refused  # {"stages.rl.steps": (300, 400)}
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1jax.config.base import ConfigError
from r1jax.config.experiment import Config, StageSettings
from r1jax.config.load import load_config
from r1jax.config.shared import Shared
from r1jax.config.stage import TrainingStage
from r1jax.run.comparison import comparison_file
from r1jax.run.lock import LOCK
from r1jax.run.stages import data_file, finished_parts, needs_completions

DATA = "data.jsonl"  # rows that were given to the Python API
# Settings that do not change what is computed: how keys begin, and how those in stages and blocks end. That data in
# another place are the same data is seen by their fingerprint.
FREE = (
    *("run_dir", "mesh.", "dollars_per_chip_hour", "wandb_project", "completions_every", "recompilation"),
    *("keep_", "table"),
)
FREE_ENDS = (
    *(".microbatch", ".eval_every", ".save_every", ".save_minutes", ".remat", ".decode_batch"),
    *(".url", ".parallel", ".retries", ".api_key_env"),  # of judges
)
PLACES = r"\.(jsonl|parquet|test)(\.\d+)?$"  # of data


@dataclass(frozen=True)
class Changes:
    """By key what a run was started with and what a config has, where they differ.

    `refused` are those of the stages that have `begun`, by name, since they saved something, and of what these depend
    on. All others are `accepted`: with them the run ends as if it had been started with them. `free` are those that
    change nothing that is computed.
    """

    refused: dict[str, tuple[Any, Any]]
    accepted: dict[str, tuple[Any, Any]]
    begun: tuple[str, ...] = ()
    free: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def is_of(self, stage: str | None, block: str) -> bool:
        """Whether a block of settings of a stage is among those that are accepted."""
        return any(f"{key}.".startswith(f"stages.{stage}.{block}.") for key in self.accepted)

    def lines(self) -> Iterator[str]:
        """A line for each stage whose settings have changed, and one for those of the run."""
        stages = defaultdict[str, dict[str, tuple[Any, Any]]](dict)
        for key, values in (self.accepted | self.free).items():
            if key.startswith("stages."):
                _, stage, setting = key.split(".", 2)
                stages[stage][setting] = values
        if run := [f"{key} {a} -> {b}" for key, (a, b) in self.free.items() if key.startswith(FREE[1:])]:
            yield f"settings of the run changed: {', '.join(run)}"
        for stage, settings in stages.items():
            before, now = settings.get("name", (stage, stage))
            if before is None or now is None:
                yield f"stage {stage}, which has saved nothing yet, was {'added' if before is None else 'removed'}"
                continue
            changed = ", ".join(f"{setting} {before} -> {now}" for setting, (before, now) in settings.items())
            new = "" if stage in self.begun else ", which has saved nothing yet,"
            yield f"settings of stage {stage}{new} changed: {changed}"
        before, now = self.accepted.get("stages", ((), ()))
        if sorted(before) == sorted(now) and before:
            yield f"the order of the stages changed: {', '.join(before)} -> {', '.join(now)}"


def check_same_settings(folder: Path, config: Config) -> Changes:
    """What has changed since a run began. Raises ConfigError where something has that may not."""
    if not (folder / "config.yaml").is_file():
        if folder.exists() and any(
            entry.suffix != ".tmp" and entry.name not in (DATA, LOCK) for entry in folder.iterdir()
        ):
            raise ConfigError(f"run_dir: {folder} is not empty and is no run folder; choose another with run_dir=...")
        return Changes({}, {})
    changes = find_changes(folder, config)
    if changes.refused:
        key, (before, now) = next(iter(changes.refused.items()))
        more = f" (and {len(changes.refused) - 1} more)" if len(changes.refused) > 1 else ""
        why = ""
        if key.endswith(".steps"):
            why = (
                ", and steps may change only in the last stage that has begun, where its learning rate is constant "
                "and, with keep: best, its steps were a multiple of save_every"
            )
            done = max((int(entry.name) for entry in _checkpoints(folder, key.split(".")[1])), default=0)
            if key == f"stages.{changes.begun[-1]}.steps" and now < done:
                why = f", and {done} steps are done and saved"
        raise ConfigError(
            f"run_dir: {folder} was started with {key}={before}, this config has {key}={now}{more}{why}; "
            f"choose another folder with run_dir=..., or delete that one to start again"
        )
    return changes


def find_changes(folder: Path, config: Config) -> Changes:
    """The changes between the settings in a run folder and a config."""
    before = load_config(folder / "config.yaml")
    saved, compared = _saved(folder, before), comparison_file(folder).is_file()
    refused = _differences(*(_fixed(each, saved, compared=compared) for each in (before, config)))
    trees = [_named(each) | _flat(each.model_dump()) for each in (before, config)]
    every = _differences(*trees)
    free = {key: values for key, values in _differences(*trees, keep_free=True).items() if key not in every}
    begun = tuple(stage.name for stage in before.stages[:saved])
    if begun and f"stages.{begun[-1]}.steps" in refused and _can_continue(folder, before.stage(begun[-1]), config):
        del refused[f"stages.{begun[-1]}.steps"]
    accepted = {key: values for key, values in every.items() if key not in refused}
    return Changes(refused, accepted, begun, free)


def _can_continue(folder: Path, before: StageSettings, config: Config) -> bool:
    """Whether the last stage that has begun may have another number of steps: nothing that it did depends on it.

    With `keep: best` the last step is compared because it is the last, unless it is saved anyway.
    """
    stage = next((stage for stage in config.stages if stage.name == before.name), None)
    if not isinstance(stage, TrainingStage) or stage.optimizer.schedule != "constant":
        return False
    saved = [int(entry.name) for entry in _checkpoints(folder, stage.name)]
    if stage.keep == "best" and before.steps in saved and before.steps % (stage.save_every or math.inf):
        return False
    return stage.steps >= max(saved, default=0)


def _saved(folder: Path, config: Config) -> int:
    """How many stages have begun: those up to the last one that has saved a checkpoint or data."""
    begun = (index + 1 for index, stage in enumerate(config.stages) if _has_saved(folder, stage.name))
    return max(begun, default=0)


def _has_saved(folder: Path, stage: str) -> bool:
    return bool(_checkpoints(folder, stage) or finished_parts(data_file(folder, stage)))


def _checkpoints(folder: Path, stage: str) -> list[Path]:
    return [entry for entry in (folder / "checkpoints" / stage).glob("*") if entry.name.isdigit()]


def _fixed(config: Config, saved: int, *, compared: bool) -> dict[str, Any]:
    """What the first `saved` stages depend on, and where stages have been compared, what their comparison does."""
    tree = config.model_dump()
    kept = tree["stages"][:saved]
    for stage in kept:
        if stage.get("keep") != "best":  # nothing depends on what its evaluation finds
            del stage["evaluate"]
    if "test" in config.decontaminate:  # then the test problems of every stage are kept out of all data
        kept += [{key: stage[key] for key in ("name", "task")} for stage in tree["stages"][saved:]]
    top = {key: value for key, value in tree.items() if compared or key not in Shared.model_fields}
    return {
        **_named(config, saved),
        **_flat(top | {"stages": kept}),
        **{
            f"stages.{stage.name}.task shared with sft": needs_completions(stage, config)
            for stage in config.stages[:saved]
        },
    }


def _named(config: Config, most: int | None = None) -> dict[str, Any]:
    """The order of the first `most` stages, by their names."""
    return {"stages": [stage.name for stage in config.stages[:most]]}


def _differences(before: dict[str, Any], now: dict[str, Any], *, keep_free: bool = False) -> dict[str, tuple[Any, Any]]:
    changed = {key: (before.get(key), now.get(key)) for key in before | now if before.get(key) != now.get(key)}
    return {key: values for key, values in changed.items() if keep_free or not _is_free(key, before)}


def _is_free(key: str, before: dict[str, Any]) -> bool:
    stage, _, setting = key.rpartition(".")
    if setting == "save_every" and before.get(f"{stage}.keep") == "best":  # which chooses among these checkpoints
        return False
    return key.startswith(FREE) or key.endswith(FREE_ENDS) or bool(re.search(PLACES, key)) or ".teacher_mesh" in key


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    items = tree.items() if isinstance(tree, dict) else None
    if isinstance(tree, list):  # stages go by their names; of other lists, such as a mixture, the order matters
        items = [(entry["name"] if prefix == "stages" else i, entry) for i, entry in enumerate(tree)]
    if items is None:
        return {prefix: tree}
    return {k: v for name, item in items for k, v in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()}
