"""Scores saved completions with a config's rewards, without a model, and shows where the rewards disagree.

    scored = score_file(Path("runs/quickstart/completions/rl-000010.jsonl"), load_config("configs/quickstart.yaml"))
    show(scored, Console())

A line of the file is a JSON object with the key `completion` and, where rewards need them, `answer`, `prompt`,
`question`, `length` (in tokens), `truncated`, `prompt_opens_think`, `part` and `data`. Any other key is added to
`data`, so that a line may also have the columns of a data set. Runs write such files.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from r1jax.config.base import ConfigError, user_errors
from r1jax.config.experiment import Config
from r1jax.rewards.example import Completion, Example, RewardResult
from r1jax.rewards.grading import Grades, grade
from r1jax.run.console import excerpt
from r1jax.tasks import make_task

if TYPE_CHECKING:
    from rich.console import Console

FIELDS = ("question", "answer", "prompt", "prompt_opens_think", "part")
NOT_DATA = {*FIELDS, "completion", "length", "truncated", "data", "rewards", "reasons", "advantage", "in_loss"}
SHOWN = 2  # completions, of the best and of the worst
SHOWN_CHARACTERS = 400  # of a completion


@dataclass(frozen=True)
class Scored:
    """`total` is the weighted sum of the rewards that apply, NaN where one with a weight is None.

    `lines` count from 1.
    """

    examples: Sequence[Example]
    texts: Sequence[str]
    lines: list[int]
    weights: Mapping[str, float]
    grades: Grades
    total: np.ndarray


def config_of(file: Path) -> Path | None:
    """The config of the run that a file RUN/completions/FILE belongs to; None for any other file."""
    config = file.resolve().parent.parent / "config.yaml"
    return config if file.resolve().parent.name == "completions" and config.is_file() else None


def score_file(file: Path, config: Config) -> Scored:
    """Scores the completions in a file with every reward of a stage, weighted as that stage weighs them.

    The stage is the one that the file is named after, as runs do, else the last GRPO stage; where the config has none,
    the weights are 1. Raises ConfigError for a line that cannot be read.
    """
    stages = [stage for stage in config.stages if stage.program == "grpo"]
    stages = [stage for stage in stages if stage.name == file.stem.rpartition("-")[0]] or stages
    settings = stages[-1] if stages else config.stages[0] if config.stages else config
    with user_errors():
        task = make_task(
            settings.task,
            config.seed,
            rewards=settings.reward_definitions,
            max_completion_length=settings.max_completion_length,
            reward_model=lambda _: _not_loaded,
        )
    lines = {number: line for number, line in enumerate(_lines(file), 1) if line.strip()}
    if not lines:
        raise ConfigError(f"{file}: no completions; a line is a JSON object with the key completion")
    examples, texts = zip(*(_read(f"{file}:{number}", line) for number, line in lines.items()), strict=True)
    weights = stages[-1].reward_weights if stages else dict.fromkeys(task.rewards, 1.0)
    if unknown := sorted(set(weights) - set(task.rewards)):
        raise ConfigError(
            f"stages.{stages[-1].name}.rewards: no reward {unknown[0]!r}; there are {', '.join(task.rewards)}"
        )
    grades = grade(examples, texts, task.rewards)
    terms = {name: np.where(grades.applies[name], grades.scores[name], 0.0) for name in weights}
    total = np.sum([weight * terms[name] for name, weight in weights.items() if weight], axis=0)
    return Scored(examples, texts, [*lines], weights, grades, total)


def _not_loaded(example: Example, completion: str) -> RewardResult:
    """In the place of a trained reward model: completions are scored here without a device."""
    return None, "model_not_loaded"


def _lines(file: Path) -> list[str]:
    if file.is_dir():
        raise ConfigError(f"{file} is a folder; give one of the files in it")
    try:
        return file.read_text(encoding="utf-8").split("\n")  # a completion may contain other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None


def _read(where: str, line: str) -> tuple[Example, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("completion"), str):
        raise ConfigError(f"{where}: no text under the key completion; got {line:.80}")
    data = {name: value for name, value in row.items() if name not in NOT_DATA}
    data |= row["data"] if isinstance(row.get("data"), dict) else {"data": row["data"]} if "data" in row else {}
    given = {name: row[name] for name in FIELDS if row.get(name) is not None}
    given["answer"] = str(given.get("answer", ""))
    given.setdefault("question", given.get("prompt", ""))
    text = row["completion"]
    if row.get("length") is not None:
        if type(row["length"]) is not int:
            raise ConfigError(f"{where}: length is a number of tokens, got {row['length']!r:.80}")
        text = Completion(text, length=row["length"], truncated=bool(row.get("truncated", False)))
    return Example(**given, data=data), text


def disagreements(scores: Mapping[str, np.ndarray]) -> list[tuple[str, str, np.ndarray]]:
    """Pairs of rewards with the rows where the first is at least one half and the second is not; most rows first."""
    pairs = []
    for high, low in itertools.permutations(scores, 2):
        rows = np.flatnonzero((scores[high] >= 0.5) & (scores[low] < 0.5))
        if len(rows):
            pairs.append((high, low, rows))
    return sorted(pairs, key=lambda pair: -len(pair[2]))


def show(scored: Scored, console: Console) -> None:
    """Prints a table of the rewards, the best and worst completions, and a table of disagreements."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    grades = scored.grades
    table = Table(
        "reward",
        "weight",
        "scored",
        "none",
        "mean",
        "std",
        "ms each",
        "reasons",
        title=f"{len(scored.texts)} completions",
    )
    for name, scores in grades.scores.items():
        known = scores[~np.isnan(scores)]
        reasons = Counter(filter(None, grades.reasons[name])).most_common()
        table.add_row(
            name,
            f"{scored.weights[name]:g}" if name in scored.weights else "-",
            str(len(known)),
            str(int(grades.applies[name].sum()) - len(known)),
            *([f"{known.mean():.3f}", f"{known.std():.3f}"] if len(known) else "--"),
            f"{1000 * grades.times()[f'time/rewards/{name}']:.1f}",
            ", ".join(f"{reason} {count}" for reason, count in reasons) or "-",
        )
    console.print(table)
    order = [int(row) for row in np.argsort(-scored.total, kind="stable") if not np.isnan(scored.total[row])]
    for title, rows in (("best", order[:SHOWN]), ("worst", order[: -SHOWN - 1 : -1])):
        for row in rows:
            summary = [
                f"{name} {scores[row]:g}" + (f" ({reason})" if (reason := grades.reasons[name][row]) else "")
                for name, scores in grades.scores.items()
                if grades.applies[name][row]
            ]
            text = Text(f"{excerpt(scored.texts[row], SHOWN_CHARACTERS)}\n\ngold: {scored.examples[row].answer}")
            heading = f"{title}, line {scored.lines[row]}: {', '.join(summary)}"
            console.print(Panel(text, title=heading, title_align="left"))
    if pairs := disagreements(grades.scores):
        table = Table("high", "low", "completions", "lines", title="rewards that disagree")
        for high, low, rows in pairs:
            first = ", ".join(str(scored.lines[row]) for row in rows[:5])
            table.add_row(high, low, str(len(rows)), first + (", …" if len(rows) > 5 else ""))
        console.print(table)
