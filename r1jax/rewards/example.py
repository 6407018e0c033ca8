"""What a reward is given, an `Example` and a `Completion`, what it returns, a `RewardResult`, and its three forms.

`Reward` scores one completion, `BatchReward` many in one call, and `ByPart` each as its part of a mixture does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

MAX_CHARACTERS = 300_000  # of a completion that rewards are called on; 65,536 tokens of R1 are about 260,000


@dataclass(frozen=True)
class Example:
    """A question with its gold answer, a demonstration where the task has one, and further columns in `data`.

    Tasks fill in the question (text or chat messages), the answer ("" where there is none), the demonstration and
    `data`. `is_conversation` says that the demonstration is the last turn of the conversation that the question begins:
    the chat template writes it, and SFT learns the assistant's turns in the question too. `data.Batches` adds
    `prompt`, the text that the model continues; `prompt_opens_think`, which says that the prompt ends inside `<think>`,
    so that the completion must not open it again; and `part`, the index of the task in a mixture.
    """

    question: str | Sequence[dict[str, Any]]
    answer: str
    demonstration: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    is_conversation: bool = False
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


@runtime_checkable
class BatchReward(Protocol):
    """A reward that scores many completions in one call, as a model does. A subclass needs `batch` alone.

    `grade` calls one batch reward after the other, each once for all completions of a step, from the thread that called
    it: programs on devices have to run in the same order on every process. For the same reason it calls them where this
    process has no completion for them, with empty sequences. Where one that says `is_vital = True` raises, so does
    `grade`.
    """

    def batch(self, examples: Sequence[Example], completions: Sequence[str]) -> Sequence[RewardResult]:
        """A result for each completion; completion b answers `examples[b]`."""
        ...

    def __call__(self, example: Example, completion: str) -> RewardResult:
        return self.batch([example], [completion])[0]


@dataclass(frozen=True, eq=False)
class ByPart:
    """The reward that each part of a mixture has under one name; None where it does not apply to the part."""

    parts: Sequence[Reward | None]

    def __call__(self, example: Example, completion: str) -> RewardResult:
        reward = self.parts[example.part]
        if reward is None:
            raise ValueError(f"part {example.part} of the mixture has no reward of this name")
        return reward(example, completion)


def rewards_in(reward: Reward) -> Sequence[Reward | None]:
    """The rewards that a reward chooses from; itself where it is not one of a mixture."""
    return reward.parts if isinstance(reward, ByPart) else (reward,)


def reward_for(reward: Reward, example: Example) -> Reward | None:
    """The one of `rewards_in` that scores completions of an example."""
    return reward.parts[example.part] if isinstance(reward, ByPart) else reward
