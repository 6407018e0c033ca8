"""A task is examples by index and how they are rewarded. `make_task` builds the one that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from r1jax.rewards.example import Example, Reward
from r1jax.tasks.arithmetic import Arithmetic
from r1jax.tasks.countdown import Countdown
from r1jax.tasks.split import Split

if TYPE_CHECKING:
    from r1jax.config import ArithmeticTask, CountdownTask


class Task(Protocol):
    """`symbols` is the alphabet of its texts; `example` depends on the seed, the split and the index alone."""

    symbols: tuple[str, ...]
    rewards: dict[str, Reward]

    def example(self, split: Split, index: int) -> Example: ...


def make_task(settings: ArithmeticTask | CountdownTask, seed: int) -> Task:
    """The task of a config's `task:` block, whose keys are the arguments of the task's class."""
    tasks = {"arithmetic": Arithmetic, "countdown": Countdown}
    return tasks[settings.name](seed, **settings.model_dump(exclude={"name"}))
