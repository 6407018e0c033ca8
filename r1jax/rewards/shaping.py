"""Rewards that depend on a completion's length or on its repetitions.

    overlong(example, completion, max_length=100, cache=20)  # -0.5 at 90 tokens (DAPO 2503.14476, eq. 13)
    cosine(example, completion, accuracy=math_answer, max_length=100)  # 0.75 if right at 50 tokens (2502.03373, C.1)
    repetition(example, "this this this this this", n=2)  # -0.75 (2502.03373, C.2)

Lengths are in tokens and include the stop token, as max_completion_length does, so they need a `Completion`, not a str.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from r1jax.rewards.example import BatchReward, Completion, Example, Reward, RewardResult
from r1jax.rewards.language import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def overlong(example: Example, completion: str, *, max_length: int, cache: int) -> RewardResult:
    """DAPO's soft overlong punishment: max(−1, min(0, (max_length − cache − length) / cache)).

    It is 0 up to max_length − cache tokens and falls linearly to −1 at max_length; 0 < cache ≤ max_length.
    """
    return max(-1.0, min(0.0, (max_length - cache - _tokens(completion, "overlong")) / cache))


def cosine(example: Example, completion: str, *, accuracy: Reward, max_length: int) -> RewardResult:
    """The accuracy, scaled by length: long + (short − long) · (1 + cos(π · length / max_length)) / 2.

    `short` and `long` are the values at length 0 and at max_length or more: of a right answer (an `accuracy` of at
    least 0.5) 1 and 0.5, of a wrong one −1 and −0.5. Where the accuracy could not score the completion, this does not
    either; a reason is passed on. The paper's extra penalty for completions that reach max_length is left to
    `overlong`.
    """
    result = accuracy(example, completion)
    score, reason = result if isinstance(result, tuple) else (result, None)
    if score is None:
        return result
    short, long = (1.0, 0.5) if score >= 0.5 else (-1.0, -0.5)
    progress = min(_tokens(completion, "cosine") / max_length, 1.0)
    scaled = long + (short - long) * (1 + math.cos(math.pi * progress)) / 2
    return scaled if reason is None else (scaled, reason)


@dataclass(frozen=True)
class BatchCosine(BatchReward):
    """`cosine` of an accuracy that scores many completions in one call."""

    accuracy: BatchReward
    max_length: int

    def batch(self, examples: Sequence[Example], completions: Sequence[str]) -> list[RewardResult]:
        results = self.accuracy.batch(examples, completions)
        return [
            cosine(example, completion, accuracy=lambda *_, result=result: result, max_length=self.max_length)
            for example, completion, result in zip(examples, completions, results, strict=True)
        ]


def repetition(example: Example, completion: str, *, n: int) -> RewardResult:
    """A penalty for repeated n-grams: −(1 − distinct n-grams / n-grams); 0 where there is no n-gram.

    Words are separated by white space and compared without regard to case; in scripts that put no spaces between words
    (Chinese, Japanese, Thai and the like) each character is a word. Short n-grams repeat in every long text, so the
    longer completions are, the larger n has to be.
    """
    words = _WORD.findall(completion.lower())
    ngrams = list(zip(*(words[start:] for start in range(n)), strict=False))
    repeated = len(ngrams) - len(set(ngrams))
    return -repeated / len(ngrams) if repeated else 0.0


def _tokens(completion: str, name: str) -> int:
    if not isinstance(completion, Completion):
        raise ValueError(
            f"{name} needs a completion's length in tokens, got a bare {type(completion).__name__}; make it a "
            f"Completion(text, length=…, truncated=…)"
        )
    return completion.length
