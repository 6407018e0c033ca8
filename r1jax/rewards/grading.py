"""Every reward of every completion, side by side, so that one that is late or fails touches no other.

grades = grade(examples, texts, {"accuracy": math_answer, "format": think_answer})
grades.scores["accuracy"]  # one a text, NaN where it could not be graded
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

LONGEST = 300_000  # characters of a completion that rewards look at; 65,536 tokens of R1 are about 260,000
# As many as a reward has child processes, so that no score waits for a neighbour's; more would only share this process.
THREADS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True)
class Grades:
    """By reward: scores, float32, NaN for None; the reasons given with them, "" for none; seconds each took."""

    scores: dict[str, np.ndarray]
    reasons: dict[str, list[str]]
    seconds: dict[str, np.ndarray]

    def times(self) -> dict[str, float]:
        """Mean seconds a text, by reward."""
        return {f"time/rewards/{name}": float(values.mean()) for name, values in self.seconds.items()}


def grade(examples: Sequence[Example], texts: Sequence[str], rewards: Mapping[str, Reward]) -> Grades:
    """Row b answers example b // G. A reward that raises could not grade that text; it is warned about, once a call.

    A text of more than LONGEST characters is worth 0.0 everywhere, for the reason too_long.
    """
    group = len(texts) // len(examples)
    errors: dict[str, str] = {}

    def verdict(name: str, row: int) -> tuple[float, str, float]:
        example, start = examples[row // group], time.perf_counter()
        try:
            result = rewards[name](example, texts[row]) if len(texts[row]) <= LONGEST else (0.0, "too_long")
            score, reason = result if isinstance(result, tuple) else (result, "")
        except Exception as error:
            where = f" on {example.prompt!r:.200}" if example.prompt else ""
            errors.setdefault(name, f"reward {name} failed{where}: {error!r:.500}")
            score, reason = None, "error"
        return math.nan if score is None else score, reason, time.perf_counter() - start

    threads = ThreadPoolExecutor(THREADS)
    try:
        pending = {name: [threads.submit(verdict, name, row) for row in range(len(texts))] for name in rewards}
        columns = {name: list(zip(*(f.result() for f in futures), strict=True)) for name, futures in pending.items()}
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for what has not begun
    for message in errors.values():
        warnings.warn(message, stacklevel=2)
    return Grades(
        scores={name: np.array(scores, np.float32) for name, (scores, _, _) in columns.items()},
        reasons={name: list(reasons) for name, (_, reasons, _) in columns.items()},
        seconds={name: np.array(seconds) for name, (_, _, seconds) in columns.items()},
    )


def joined(parts: Sequence[tuple[np.ndarray, Grades]]) -> Grades:
    """The grades of several parts of a batch as one; each part says which rows it has."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    grades = [part for _, part in parts]
    words = {name: [word for part in grades for word in part.reasons[name]] for name in grades[0].reasons}
    return Grades(
        scores={name: np.concatenate([part.scores[name] for part in grades])[order] for name in grades[0].scores},
        reasons={name: [column[row] for row in order] for name, column in words.items()},
        seconds={name: np.concatenate([part.seconds[name] for part in grades])[order] for name in grades[0].seconds},
    )


def reason_shares(reasons: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """For each reason that a reward gave, the share of texts that it was given for."""
    return {
        f"rewards/{name}/{reason}": count / len(words)
        for name, words in reasons.items()
        for reason, count in sorted(Counter(filter(None, words)).items())
    }
