"""A task whose examples are all there from the start: `ListedTask({"train": [...], "test": [...]}, rewards)`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from r1jax.rewards.example import Example, Reward
from r1jax.rewards.format import TAGS
from r1jax.tasks.split import Split


@dataclass(eq=False)
class ListedTask:
    """Examples by split, and the rewards for their completions."""

    examples: dict[Split, list[Example]]
    rewards: dict[str, Reward]

    @property
    def symbols(self) -> tuple[str, ...]:
        """The tags of R1's format, then each character of questions, golds, demonstrations and responses, in order."""
        characters: set[str] = set()
        for example in itertools.chain(*self.examples.values()):
            messages = [{"content": example.question}] if isinstance(example.question, str) else example.question
            contents = (str(message.get("content", "")) for message in messages)
            responses = (str(example.data.get(name, "")) for name in ("chosen", "rejected", "response"))
            characters.update(example.answer, example.demonstration or "", *contents, *responses)
        return (*TAGS, *sorted(characters))

    def size(self, split: Split) -> int:
        return len(self.examples[split])

    def example(self, split: Split, index: int) -> Example:
        return self.examples[split][index]
