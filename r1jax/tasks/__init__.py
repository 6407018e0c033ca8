"""A task gives examples by index, and the rewards for completions. `make_task` makes the one that a config names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from r1jax.config import tasks as config
from r1jax.config.rewards import CodeReward, MathReward, ModelReward, RewardSettings
from r1jax.rewards.accuracy import no_gold
from r1jax.rewards.example import Example, Reward
from r1jax.rewards.factory import COMPARES_WITH_GOLD, make_reward, needs_gold
from r1jax.tasks.arithmetic import Arithmetic
from r1jax.tasks.bilingual import Bilingual
from r1jax.tasks.countdown import Countdown
from r1jax.tasks.gym import Gym
from r1jax.tasks.mixture import Mixture
from r1jax.tasks.rows import Rows
from r1jax.tasks.split import Split
from r1jax.tasks.table import Table, read_table, rows_table

RewardSource = RewardSettings | Callable[..., Any]  # settings of a config, or a Python callable
TaskSource = config.TaskSettings | Rows  # settings of a config, or rows as dicts: see `rows_table`


class Task(Protocol):
    """`symbols` is the alphabet of its texts; `size` is None where it is unlimited.

    `example` depends only on the seed, the split and the index, which is below the size.
    """

    rewards: dict[str, Reward]

    @property
    def symbols(self) -> tuple[str, ...]: ...

    def size(self, split: Split) -> int | None: ...

    def example(self, split: Split, index: int) -> Example: ...


def make_task(
    source: TaskSource,
    seed: int,
    *,
    rewards: Mapping[str, RewardSource] | None = None,
    max_completion_length: int = 0,
    stage_data: Callable[[config.StageTask], Task | Mixture] | None = None,
    reward_model: Callable[[ModelReward], Reward] | None = None,
) -> Task | Mixture:
    """The task of a config's `task:` block, or of rows in Python, with `rewards` added to its own or replacing them.

    Every part of a mixture gets the rewards, and its own besides, less those that are null there. `stage_data` gives
    the data of an earlier stage, which has its rewards already, and `reward_model` the reward that an earlier stage
    trained. Raises ValueError for a task or reward that cannot be made.
    """

    def made(source: TaskSource, more: Mapping[str, RewardSource | None]) -> Task | Mixture:
        if isinstance(source, config.StageTask):
            if stage_data is None:
                raise ValueError(f"task.stage: only the run that has the stage {source.stage} can read its data")
            return stage_data(source)
        own = {**(rewards or {}), **more}
        for name, reward in own.items():
            if isinstance(reward, ModelReward) and reward_model is not None:
                own[name] = reward_model(reward)
        return _with_rewards(_single(source, seed), own, max_completion_length)

    if not isinstance(source, config.MixtureTask):
        return made(source, {})
    parts: list[Task] = []
    weights: list[float] = []
    names: list[str | None] = []
    for part in source.mixture:
        task = made(part.task, part.rewards)
        inner = task if isinstance(task, Mixture) else Mixture([task], [1.0], [None])
        parts += inner.parts
        weights += [part.weight * weight / sum(inner.weights) for weight in inner.weights]
        names += [part.name or name for name in inner.names]
    return Mixture(parts, weights, names)


def _with_rewards(task: Task, rewards: Mapping[str, RewardSource | None], max_completion_length: int) -> Task:
    has_golds = not isinstance(task, Table) or task.has_golds
    # Accuracy comes first, since another reward may be computed from it.
    for name, source in sorted(rewards.items(), key=lambda item: item[0] != "accuracy"):
        if source is None:
            task.rewards.pop(name, None)
            continue
        if not has_golds and needs_gold(source):
            task.rewards[name] = no_gold
            continue
        try:
            task.rewards[name] = make_reward(
                source,
                accuracy=task.rewards.get("accuracy"),
                columns=task.columns if isinstance(task, Table) else (),
                max_completion_length=max_completion_length,
            )
        except ValueError as error:
            raise ValueError(f"rewards.{name}: {error}") from None
    if isinstance(task, Table):
        if has_golds and isinstance(rewards.get("accuracy", MathReward(name="math")), COMPARES_WITH_GOLD):
            task.check_golds()
        if any(isinstance(reward, CodeReward) for reward in rewards.values()):
            task.check_tests()
    return task


def _single(source: TaskSource, seed: int) -> Task:
    match source:
        case config.ArithmeticTask():
            return Arithmetic(source, seed)
        case config.CountdownTask():
            return Countdown(source, seed)
        case config.BilingualTask():
            return Bilingual(source, seed)
        case config.GymTask():
            return Gym(source, seed)
        case config.JsonlTask() | config.ParquetTask() | config.TfdsTask():
            return read_table(source)
        case config.StageTask() | config.MixtureTask():
            raise TypeError(f"{type(source).__name__} is no single task")
    return rows_table(source)
