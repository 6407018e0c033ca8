"""Rewards for a completion's length and for not repeating itself.

    overlong(example, completion, max_length=100, cache=20)  # -0.5 at 90 tokens (DAPO 2503.14476, eq. 13)
    cosine(example, completion, accuracy=math_answer, max_length=100)  # 0.75 if right at 50 tokens (2502.03373, C.1)
    repetition(example, "this this this this this", n=2)  # -0.75 (2502.03373, C.2)

Lengths are in tokens, stop token included, as the limit on a completion is; so they need a `Completion`, not a text.
"""

from __future__ import annotations

import math
import re

from r1jax.rewards.example import Completion, Example, Reward, RewardResult
from r1jax.rewards.language import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def overlong(example: Example, completion: str, *, max_length: int, cache: int) -> RewardResult:
    """DAPO's soft penalty for length: 0 up to max_length − cache tokens, then evenly down to −1 at max_length and over.

    max(−1, min(0, (max_length − cache − length) / cache)). Raises ValueError unless 0 < cache ≤ max_length.
    """
    if not 0 < cache <= max_length:
        raise ValueError(f"overlong got max_length {max_length} and cache {cache}; it needs 0 < cache <= max_length")
    return max(-1.0, min(0.0, (max_length - cache - _tokens(completion, "overlong")) / cache))


def cosine(
    example: Example,
    completion: str,
    *,
    accuracy: Reward,
    max_length: int,
    right_short: float = 1.0,
    right_long: float = 0.5,
    wrong_short: float = -1.0,
    wrong_long: float = -0.5,
) -> RewardResult:
    """The accuracy, scaled by length: short answers are worth most where right and cost most where wrong.

    long + (short − long) · (1 + cos(π · length / max_length)) / 2, with the pair of values for right or for wrong,
    `short` at no length and `long` at max_length and over. Right is an `accuracy` of at least 0.5; where that could not
    grade, this does not; its reason is passed on. The paper's extra penalty at max_length is left to `overlong`.
    """
    if max_length < 1:
        raise ValueError(f"cosine got max_length {max_length}; it needs the most tokens a completion can have")
    verdict = accuracy(example, completion)
    score, reason = verdict if isinstance(verdict, tuple) else (verdict, None)
    if score is None:
        return verdict
    short, long = (right_short, right_long) if score >= 0.5 else (wrong_short, wrong_long)
    progress = min(_tokens(completion, "cosine") / max_length, 1.0)
    scaled = long + (short - long) * (1 + math.cos(math.pi * progress)) / 2
    return scaled if reason is None else (scaled, reason)


def repetition(example: Example, completion: str, *, n: int, max_penalty: float = -1.0) -> RewardResult:
    """A penalty for runs of n words that come again: max_penalty · (1 − different runs / runs).

    It is 0 where no run repeats or the completion has fewer than n words, and nears max_penalty where one run is all
    there is. Words are what stands between white space, without regard to case; in scripts that put no spaces between
    words (Chinese, Japanese, Thai and the like) each character counts as one. Short runs repeat in every long text:
    the longer completions are, the larger n has to be. Raises ValueError unless n ≥ 1 and max_penalty ≤ 0.
    """
    if n < 1 or max_penalty > 0:
        raise ValueError(f"repetition got n={n} and max_penalty={max_penalty}; it needs n >= 1 and max_penalty <= 0")
    words = _WORD.findall(completion.lower())
    runs = list(zip(*(words[start:] for start in range(n)), strict=False))
    repeated = len(runs) - len(set(runs))
    return max_penalty * repeated / len(runs) if repeated else 0.0


def _tokens(completion: str, name: str) -> int:
    if not isinstance(completion, Completion):
        raise ValueError(f"{name} needs a completion's length in tokens, got a bare {type(completion).__name__}; "
                         f"make it a Completion(text, length=…, truncated=…)")  # fmt: skip
    return completion.length
