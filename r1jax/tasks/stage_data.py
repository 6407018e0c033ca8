"""What a `reject` stage made, as a task: completions as demonstrations, or prompts by their pass rate.

    task = stage_data(Path("runs/r1/data/samples.jsonl"), source)
    task = stage_data(Path("runs/r1/data/samples.jsonl"), source, (0.2, 0.8))  # the prompts, of samples.prompts.jsonl

    task = awaited(source, 4096)  # until there is a file

Test problems are the source's. A row of a file has the question, the gold answer, perhaps the completion, and its
`part`, the number of the source's task in a mixture.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1jax.rewards.example import Example
from r1jax.tasks.mixture import Mixture
from r1jax.tasks.split import Split

if TYPE_CHECKING:
    from r1jax.tasks import Task


class StageData:
    """Examples to train on; everything else is that of the `source`, which they were sampled from."""

    def __init__(self, examples: list[Example], source: Task) -> None:
        self.examples, self.source, self.rewards = examples, source, source.rewards
        self.symbols = source.symbols

    def size(self, split: Split) -> int | None:
        return len(self.examples) if split == "train" else self.source.size(split)

    def example(self, split: Split, index: int) -> Example:
        return self.examples[index] if split == "train" else self.source.example(split, index)


class Awaited:
    """Stands for the data of a stage that has not made it: every training example of the `source`, at `most` some.

    Each has an empty demonstration. What its prompts, rewards and test problems do not fit will not fit the data.
    """

    def __init__(self, source: Task, most: int) -> None:
        self.source, self.most, self.rewards, self.symbols = source, most, source.rewards, source.symbols

    def size(self, split: Split) -> int | None:
        return self.source.size(split)

    def example(self, split: Split, index: int) -> Example:
        example = self.source.example(split, index)
        return dataclasses.replace(example, demonstration="", is_conversation=False) if split == "train" else example


def awaited(source: Task | Mixture, most: int) -> Awaited | Mixture:
    """What stands for the data of a stage that samples on `source`, `most` examples or fewer."""
    if not isinstance(source, Mixture):
        return Awaited(source, most)
    return Mixture([Awaited(part, most) for part in source.parts], source.weights, source.names)


def stage_data(file: Path, source: Task | Mixture, band: Sequence[float] | None = None) -> StageData | Mixture:
    """The task of a stage's data. Of a mixture it is one too, in which each part has the weight of its rows.

    With a `band` these are not the completions of `file` but the prompts beside it whose pass rate is in the band.
    Raises ValueError where there is no such file, or it has no rows.
    """
    if band is not None:
        file = file.with_suffix(".prompts.jsonl")
    if not file.is_file():
        raise ValueError(f"{file} is missing, the data of an earlier stage; delete the run folder to make it again")
    sources = source.parts if isinstance(source, Mixture) else (source,)
    examples: list[list[Example]] = [[] for _ in sources]
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    for row in rows if band is None else _of_pass_rate(rows, band, file):
        examples[row["part"]].append(Example(row["question"], row["answer"], row.get("completion"), row["data"]))
    if not any(examples):
        raise ValueError(f"{file} has no rows")
    if not isinstance(source, Mixture):
        return StageData(examples[0], source)
    kept = [
        (StageData(own, part), name) for own, part, name in zip(examples, sources, source.names, strict=True) if own
    ]
    if len(kept) < len(sources):
        left = [n or str(i) for i, (own, n) in enumerate(zip(examples, source.names, strict=True)) if not own]
        warnings.warn(f"{file} has no rows of part {', '.join(left)}, which is not evaluated either", stacklevel=2)
    if len(kept) == 1:
        return kept[0][0]
    return Mixture([part for part, _ in kept], [len(part.examples) for part, _ in kept], [name for _, name in kept])


def _of_pass_rate(rows: Iterable[dict[str, Any]], band: Sequence[float], file: Path) -> list[dict[str, Any]]:
    """Each prompt once, if its pass rate over all its samples is in the band, limits included."""
    low, high = band
    counts: dict[str, tuple[dict[str, Any], int, int]] = {}  # a row of each prompt, its right samples, and all of them
    for row in rows:
        if row["samples"]:
            key = json.dumps([row["part"], row["question"], row["answer"]])
            _, right, samples = counts.get(key, (row, 0, 0))
            counts[key] = row, right + round(row["pass_rate"] * row["samples"]), samples + row["samples"]
    below = sum(right / samples < low for _, right, samples in counts.values())
    above = sum(right / samples > high for _, right, samples in counts.values())
    report = (
        f"{len(counts) - below - above} of {len(counts)} prompts of {file} have a pass rate from {low:g} to {high:g}: "
        f"{below} are below, {above} above"
    )
    if below + above == len(counts):
        raise ValueError(f"task.pass_rate: {report}; give wider limits, or let the stage sample more prompts")
    if below + above:
        warnings.warn(report, stacklevel=2)
    return [row for row, right, samples in counts.values() if low <= right / samples <= high]
