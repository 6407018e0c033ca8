"""A task is examples by index and how they are rewarded. `make_task` builds the one that a config names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from r1jax.config import ArithmeticTask, CountdownTask
from r1jax.rewards.example import Example, Reward
from r1jax.tasks.arithmetic import Arithmetic
from r1jax.tasks.countdown import Countdown
from r1jax.tasks.split import Split


class Task(Protocol):
    """`symbols` is the alphabet of its texts; `example` depends on the seed, the split and the index alone."""

    symbols: Sequence[str]
    rewards: Mapping[str, Reward]

    def example(self, split: Split, index: int) -> Example: ...


def make_task(settings: ArithmeticTask | CountdownTask, seed: int) -> Task:
    """The task of a config's `task:` block."""
    if isinstance(settings, ArithmeticTask):
        return Arithmetic(settings, seed)
    return Countdown(settings, seed)
