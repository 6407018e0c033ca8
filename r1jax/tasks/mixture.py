"""Several tasks as one, from which `data.Batches` samples in proportion to their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from r1jax.rewards.example import ByPart, Reward

if TYPE_CHECKING:
    from r1jax.tasks import Task


class Mixture:
    """An example is scored by the rewards of its own part; `rewards` has those of all parts, by name.

    `names` are the parts' names, by which evaluation tells them apart; None for a part without one.
    """

    def __init__(self, parts: Sequence[Task], weights: Sequence[float], names: Sequence[str | None] = ()) -> None:
        self.parts, self.weights = tuple(parts), tuple(weights)
        self.names = tuple(names) or (None,) * len(parts)
        every = dict.fromkeys(name for part in parts for name in part.rewards)
        self.rewards: dict[str, Reward] = {name: ByPart([part.rewards.get(name) for part in parts]) for name in every}

    @property
    def symbols(self) -> tuple[str, ...]:
        """The union of the parts' alphabets."""
        return tuple(dict.fromkeys(symbol for part in self.parts for symbol in part.symbols))
