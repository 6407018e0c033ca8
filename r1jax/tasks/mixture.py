"""Several tasks as one, from which `data.Batches` samples in proportion to their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from r1jax.rewards.example import ByPart, Reward

if TYPE_CHECKING:
    from r1jax.tasks import Task


class Mixture:
    """`rewards` are those that every part has; an example is scored by the rewards of its own part."""

    def __init__(self, parts: Sequence[Task], weights: Sequence[float]) -> None:
        self.parts, self.weights = tuple(parts), tuple(weights)
        shared = [name for name in parts[0].rewards if all(name in part.rewards for part in parts)]
        self.rewards: dict[str, Reward] = {name: ByPart([part.rewards[name] for part in parts]) for name in shared}

    @property
    def symbols(self) -> tuple[str, ...]:
        """The union of the parts' alphabets."""
        return tuple(dict.fromkeys(symbol for part in self.parts for symbol in part.symbols))
