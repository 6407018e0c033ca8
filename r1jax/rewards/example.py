"""What a reward knows about a question and a completion, and what a reward is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """A question, its gold answer, a worked completion where the task has one, and whatever else its rewards need.

    Tasks make the question, a text or chat messages. `data.Batches` fills in what is known only there: `prompt`, the
    text that the model goes on from; `prompt_opens_think`, that it ends inside `<think>`, so that the completion must
    not open it again; and `part`, the number of the task in a mixture.
    """

    question: str | Sequence[dict[str, Any]]
    answer: str
    demonstration: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    prompt_opens_think: bool = False
    part: int = 0


class Completion(str):
    """A completion's text, with its length in tokens, stop token included, and whether it was cut before it stopped."""

    length: int
    truncated: bool

    def __new__(cls, text: str, *, length: int, truncated: bool) -> Completion:
        completion = super().__new__(cls, text)
        completion.length, completion.truncated = length, truncated
        return completion


# A score; None where the completion could not be graded; or one of these and a word for why, which is counted.
RewardResult = float | None | tuple[float | None, str]
Reward = Callable[[Example, str], RewardResult]
