"""A task is examples by index and how they are rewarded. `make_task` builds the one that a config names."""

from __future__ import annotations

from typing import Protocol

from r1jax.config import (
    ArithmeticTask,
    CountdownTask,
    GymTask,
    JsonlTask,
    MixtureTask,
    ParquetTask,
    SingleTask,
    TaskSettings,
    TfdsTask,
)
from r1jax.rewards.example import Example, Reward
from r1jax.tasks.arithmetic import Arithmetic
from r1jax.tasks.countdown import Countdown
from r1jax.tasks.gym import Gym
from r1jax.tasks.mixture import Mixture
from r1jax.tasks.split import Split
from r1jax.tasks.table import jsonl_table, parquet_table, tfds_table


class Task(Protocol):
    """`symbols` is the alphabet of its texts, empty where it has none; `size` is None where it is endless.

    `example` depends on the seed, the split and the index alone; the index is below the size.
    """

    symbols: tuple[str, ...]
    rewards: dict[str, Reward]

    def size(self, split: Split) -> int | None: ...

    def example(self, split: Split, index: int) -> Example: ...


def make_task(settings: TaskSettings, seed: int) -> Task | Mixture:
    """The task of a config's `task:` block."""
    if isinstance(settings, MixtureTask):
        parts = [_single(part.task, seed) for part in settings.mixture]
        return Mixture(parts, [part.weight for part in settings.mixture])
    return _single(settings, seed)


def _single(settings: SingleTask, seed: int) -> Task:
    match settings:
        case ArithmeticTask():
            return Arithmetic(seed, **settings.model_dump(exclude={"name"}))
        case CountdownTask():
            return Countdown(seed, **settings.model_dump(exclude={"name"}))
        case JsonlTask():
            return jsonl_table(settings)
        case ParquetTask():
            return parquet_table(settings)
        case TfdsTask():
            return tfds_table(settings)
        case GymTask():
            return Gym(settings.gym, seed, size=settings.size, arguments=settings.arguments)
