"""What a reward knows about a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """A prompt, its gold answer, a worked completion where the task has one, and whatever else its rewards need."""

    prompt: str
    answer: str
    demonstration: str | None = None
    prompt_opens_think: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)


Reward = Callable[[Example, str], float | None]
