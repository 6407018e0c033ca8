"""What a reward function is given, an `Example` and a `Completion`, and what it returns, a `RewardResult`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """A question with its gold answer, a demonstration where the task has one, and further columns in `data`.

    Tasks fill in the question (text or chat messages), the answer, the demonstration and `data`. `data.Batches` adds
    `prompt`, the text that the model continues; `prompt_opens_think`, which says that the prompt ends inside `<think>`,
    so that the completion must not open it again; and `part`, the index of the task in a mixture.
    """

    question: str | Sequence[dict[str, Any]]
    answer: str
    demonstration: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    prompt_opens_think: bool = False
    part: int = 0


class Completion(str):
    """A completion's text that knows its length in tokens, stop token included, and whether it was truncated."""

    length: int
    truncated: bool

    def __new__(cls, text: str, *, length: int, truncated: bool) -> Completion:
        completion = super().__new__(cls, text)
        completion.length, completion.truncated = length, truncated
        return completion


# A score, or None where the completion could not be scored; or a tuple of one of these and a reason, a word that the
# metrics count.
RewardResult = float | None | tuple[float | None, str]
Reward = Callable[[Example, str], RewardResult]
