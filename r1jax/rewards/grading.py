"""Scores a batch of completions with several rewards in parallel; a slow or failing call affects no other.

grades = grade(examples, texts, {"accuracy": math_answer, "format": think_answer})
grades.scores["accuracy"]  # one score a completion, NaN where it could not be scored
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from r1jax.rewards.example import Example, Reward

MAX_CHARACTERS = 300_000  # of a completion that rewards are called on; 65,536 tokens of R1 are about 260,000
# As many threads as a reward has child processes, so that no call waits for another; more would share this process.
THREADS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True)
class Grades:
    """By reward and completion: scores in float32 (NaN for None), reasons ("" for none), and seconds of the call."""

    scores: dict[str, np.ndarray]
    reasons: dict[str, list[str]]
    seconds: dict[str, np.ndarray]

    def times(self) -> dict[str, float]:
        """The mean seconds of a call, as metrics by reward."""
        return {f"time/rewards/{name}": float(values.mean()) for name, values in self.seconds.items()}


def grade(examples: Sequence[Example], texts: Sequence[str], rewards: Mapping[str, Reward]) -> Grades:
    """Scores all texts with all rewards; of G texts an example, text b belongs to example b // G.

    Where a reward raises, that completion's score is None with the reason `error`, and one warning is given for each
    reward. A text of more than MAX_CHARACTERS characters scores 0.0 with the reason `too_long`.
    """
    group = len(texts) // len(examples)
    errors: dict[str, str] = {}

    def score_one(name: str, row: int) -> tuple[float, str, float]:
        example, start = examples[row // group], time.perf_counter()
        try:
            result = rewards[name](example, texts[row]) if len(texts[row]) <= MAX_CHARACTERS else (0.0, "too_long")
            score, reason = result if isinstance(result, tuple) else (result, "")
        except Exception as error:
            where = f" on {example.prompt!r:.200}" if example.prompt else ""
            errors.setdefault(name, f"reward {name} failed{where}: {error!r:.500}")
            score, reason = None, "error"
        return math.nan if score is None else score, reason, time.perf_counter() - start

    threads = ThreadPoolExecutor(THREADS)
    try:
        pending = {name: [threads.submit(score_one, name, row) for row in range(len(texts))] for name in rewards}
        columns = {name: list(zip(*(f.result() for f in futures), strict=True)) for name, futures in pending.items()}
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for calls that have not begun
    for message in errors.values():
        warnings.warn(message, stacklevel=2)
    return Grades(
        scores={name: np.array(scores, np.float32) for name, (scores, _, _) in columns.items()},
        reasons={name: list(reasons) for name, (_, reasons, _) in columns.items()},
        seconds={name: np.array(seconds) for name, (_, _, seconds) in columns.items()},
    )


def reason_shares(reasons: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """For each reason that a reward gave, the fraction of completions for which it was given, as metrics."""
    return {
        f"rewards/{name}/{reason}": count / len(column)
        for name, column in reasons.items()
        for reason, count in sorted(Counter(filter(None, column)).items())
    }
