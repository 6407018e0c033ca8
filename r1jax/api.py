"""The Python API for notebooks and scripts, which `import r1jax` offers: load, load_config, prepare, train.

model = load("runs/quickstart")
model.generate("347+285=", samples=4, temperature=1.0)
run = train("configs/quickstart.yaml", rewards={"short": lambda example, completion: -len(completion)})
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1jax.config.base import ConfigError, user_errors
from r1jax.config.experiment import Config
from r1jax.config.load import load_config as read_config
from r1jax.config.load import parse_config, settings_tree
from r1jax.config.tasks import stages_read
from r1jax.generate import Generator
from r1jax.programs.pipeline import train as train_stages
from r1jax.run.changes import DATA
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, write_atomically
from r1jax.run.metrics_table import LivePlot, MetricsTable
from r1jax.run.run import Run, build_run
from r1jax.tasks.rows import Rows
from r1jax.tasks.table import row_settings, rows_table

__all__ = ["LivePlot", "TrainedRun", "load", "load_config", "prepare", "train"]

Rewards = Mapping[str, Callable[..., Any]]


class TrainedRun:
    """A run folder: `train` returns one, and TrainedRun("runs/quickstart") opens an older one."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def metrics(self) -> MetricsTable:
        """Its metrics so far, a row for each stage and step."""
        return MetricsTable(read_metrics(self.folder))

    @property
    def config(self) -> Config:
        """Its resolved settings."""
        return read_config(self.folder / "config.yaml")

    def model(self, checkpoint: str | None = None) -> Generator:
        """The model of its last checkpoint, or of the one named "STEP", "STAGE" or "STAGE-STEP"."""
        return load(self.folder, checkpoint=checkpoint)

    def completions(self) -> list[dict[str, Any]]:
        """The sampled completions that were saved, with their rewards, stage and step, in the order of training."""
        rows = []
        for stage in self.config.stages:
            for file in sorted((self.folder / "completions").glob(f"{stage.name}-??????.jsonl")):
                where = {"stage": stage.name, "step": int(file.stem.rpartition("-")[2])}
                rows += [where | json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
        return rows


def load(path: str | Path, *, checkpoint: str | None = None, overrides: Sequence[str] = ()) -> Generator:
    """The model of a run folder, a Hugging Face folder or a hub id, ready to generate, chat and give log-probs."""
    return Generator(load_model(str(path), overrides, checkpoint=checkpoint))


def load_config(config: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """The settings of a YAML file, or of a mapping with the same keys, with `key=value` overrides; checked."""
    if isinstance(config, Mapping):
        return parse_config(json.loads(json.dumps(config, default=str)), overrides)
    return read_config(config, overrides)


def train(
    config: str | Path | Mapping[str, Any] | Config,
    *,
    rewards: Rewards | None = None,
    data: Rows | None = None,
    overrides: Sequence[str] = (),
    on_log: Callable[[dict[str, Any]], None] | None = None,
) -> TrainedRun:
    """Trains a config's stages, or resumes them, as `r1jax train` does.

    `rewards` are Python functions by name, `(example, completion) → float` or in TRL's form; each has weight 1 in every
    GRPO stage whose `rewards` do not name it. `data` are dicts with a question and an answer in place of every stage's
    task: they are kept in the run folder, and one in sixteen is held out. `on_log` is called with each row.
    """
    settings = _settings(config, rewards, data, overrides)
    if data is not None:
        _keep(data, Path(settings.run_dir) / DATA)
    run = train_stages(settings, functions=rewards, on_log=on_log)
    if isinstance(on_log, LivePlot):
        on_log.draw()  # with the last rows
    return TrainedRun(run.folder)


def prepare(
    config: str | Path | Mapping[str, Any] | Config,
    *,
    rewards: Rewards | None = None,
    data: Rows | None = None,
    overrides: Sequence[str] = (),
) -> Run:
    """A run in memory, to take steps by hand: it has the config's model, data and devices, and writes nothing."""
    settings = _settings(config, rewards, data, overrides)
    return build_run(settings, functions=rewards, data=data)


def _settings(
    config: str | Path | Mapping[str, Any] | Config,
    rewards: Rewards | None,
    data: Rows | None,
    overrides: Sequence[str],
) -> Config:
    """The config: functions that a GRPO stage does not name have weight 1, and rows replace the tasks of all stages.

    A stage that reads the data of another keeps doing so.
    """
    if isinstance(config, Config):
        config = parse_config(settings_tree(config), overrides)
    else:  # one that rows bring the task for need not have any
        config = load_config(config, overrides if data is None else [f"task={{jsonl: {DATA}}}", *overrides])
    tree = settings_tree(config)
    if data is not None:
        tree["task"] = {"jsonl": str(Path(config.run_dir) / DATA), **row_settings(data)}
    for stage, own in zip(config.stages, tree["stages"], strict=True):
        if data is not None and not stages_read(stage.task):
            own.pop("task", None)
        if stage.program == "grpo":
            missing = {name: 1.0 for name in rewards or () if name not in stage.reward_weights}
            own["rewards"] = own.get("rewards", tree["rewards"]) | missing
    return parse_config(tree)


def _keep(data: Rows, file: Path) -> None:
    """Writes rows to a file of the run folder, which holds the same ones where the run has begun."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data)
    if file.is_file():
        if file.read_text(encoding="utf-8") != text:
            raise ConfigError(f"data: {file.parent} was started with other data; choose another run_dir")
        return
    with user_errors():
        rows_table(data)  # rows that cannot be used are refused before they are written
    own = file.with_name(f"{file.name}.{secrets.token_hex(8)}")  # every process of the run writes them
    write_atomically(own, text.encode())
    own.replace(file)
