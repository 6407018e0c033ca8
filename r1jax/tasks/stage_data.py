"""What a `reject` stage kept, as a task: its completions are the demonstrations, and test problems are the source's.

    task = stage_data(Path("runs/r1/data/samples.jsonl"), source)

A row of the file has the question, the gold answer, the completion and its `part`, the number of the source's task in
a mixture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from r1jax.rewards.example import Example
from r1jax.tasks.mixture import Mixture
from r1jax.tasks.split import Split

if TYPE_CHECKING:
    from r1jax.tasks import Task


class StageData:
    """Demonstrations to train on; everything else is that of the `source`, whose completions they are."""

    def __init__(self, examples: list[Example], source: Task) -> None:
        self.examples, self.source, self.rewards = examples, source, source.rewards
        self.symbols = source.symbols

    def size(self, split: Split) -> int | None:
        return len(self.examples) if split == "train" else self.source.size(split)

    def example(self, split: Split, index: int) -> Example:
        return self.examples[index] if split == "train" else self.source.example(split, index)


def stage_data(file: Path, source: Task | Mixture) -> StageData | Mixture:
    """The task of a stage's data. Of a mixture it is one too, in which each part has the weight of its rows.

    Raises ValueError where there is no such file, or it has no rows.
    """
    if not file.is_file():
        raise ValueError(f"{file} is missing, the data of an earlier stage; delete the run folder to make it again")
    sources = source.parts if isinstance(source, Mixture) else (source,)
    examples: list[list[Example]] = [[] for _ in sources]
    for line in file.read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            example = Example(row["question"], row["answer"], row["completion"], row["data"])
            examples[row["part"]].append(example)
    parts = [StageData(rows, part) for rows, part in zip(examples, sources, strict=True) if rows]
    if not parts:
        raise ValueError(f"{file} has no rows")
    return parts[0] if len(parts) == 1 else Mixture(parts, [len(part.examples) for part in parts])
