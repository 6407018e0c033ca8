"""What a reward knows about a question, and what a reward is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """A prompt, its gold answer, a worked completion where the task has one, and whatever else its rewards need.

    `prompt_opens_think` says that the prompt ends inside `<think>`, so that the completion must not open it again.
    """

    prompt: str
    answer: str
    demonstration: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    prompt_opens_think: bool = False


Reward = Callable[[Example, str], float | None]
