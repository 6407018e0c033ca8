"""The characters of a task's texts, for tasks that are data: `alphabet(examples)`."""

from __future__ import annotations

from collections.abc import Iterable

from r1jax.rewards.example import Example
from r1jax.rewards.format import TAGS


def alphabet(examples: Iterable[Example]) -> tuple[str, ...]:
    """The tags of R1's format, then each character of questions, gold answers and demonstrations, in order."""
    characters: set[str] = set()
    for example in examples:
        texts = [example.answer, example.demonstration or ""]
        if isinstance(example.question, str):
            texts.append(example.question)
        else:
            texts += [str(message.get("content", "")) for message in example.question]
        characters.update(*texts)
    return (*TAGS, *sorted(characters))
