"""A task is examples by index and how they are rewarded. `make_task` builds the one that a config names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from r1jax.config.rewards import CodeReward, MathReward, RewardSettings
from r1jax.config.tasks import (
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
from r1jax.rewards.factory import COMPARED, make_reward
from r1jax.tasks.arithmetic import Arithmetic
from r1jax.tasks.countdown import Countdown
from r1jax.tasks.gym import Gym
from r1jax.tasks.mixture import Mixture
from r1jax.tasks.split import Split
from r1jax.tasks.table import Table, jsonl_table, parquet_table, tfds_table


class Task(Protocol):
    """`symbols` is the alphabet of its texts, empty where it has none; `size` is None where it is endless.

    `example` depends on the seed, the split and the index alone; the index is below the size.
    """

    symbols: tuple[str, ...]
    rewards: dict[str, Reward]

    def size(self, split: Split) -> int | None: ...

    def example(self, split: Split, index: int) -> Example: ...


def make_task(
    settings: TaskSettings,
    seed: int,
    *,
    rewards: Mapping[str, RewardSettings] | None = None,
    max_completion_length: int = 0,
) -> Task | Mixture:
    """The task of a config's `task:` block, with the rewards that its `rewards:` block adds or replaces.

    In a mixture each part gets them too, and its own besides. Raises ValueError for what cannot be made.
    """
    if not isinstance(settings, MixtureTask):
        return _rewarded(settings, seed, rewards or {}, max_completion_length)
    parts = [
        _rewarded(part.task, seed, {**(rewards or {}), **part.rewards}, max_completion_length)
        for part in settings.mixture
    ]
    mixture = Mixture(parts, [part.weight for part in settings.mixture])
    if lost := [name for part in settings.mixture for name in part.rewards if name not in mixture.rewards]:
        raise ValueError(f"task.mixture: reward {lost[0]!r} is of one part alone; give every part one of that name")
    return mixture


def _rewarded(
    settings: SingleTask, seed: int, rewards: Mapping[str, RewardSettings], max_completion_length: int
) -> Task:
    task = _single(settings, seed)
    # Accuracy first: another may be computed from it.
    for name in sorted(rewards, key=lambda name: name != "accuracy"):
        try:
            task.rewards[name] = make_reward(
                rewards[name],
                accuracy=task.rewards.get("accuracy"),
                columns=getattr(settings, "columns", ()),
                max_completion_length=max_completion_length,
            )
        except ValueError as error:
            raise ValueError(f"rewards.{name}: {error}") from None
    if isinstance(task, Table):
        if isinstance(rewards.get("accuracy", MathReward(name="math")), COMPARED):
            task.check_golds()
        for column in {reward.tests for reward in rewards.values() if isinstance(reward, CodeReward)}:
            task.check_tests(column)
    return task


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
