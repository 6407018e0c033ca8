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

from r1jax.rewards.example import MAX_CHARACTERS, BatchReward, Example, Reward, RewardResult, reward_for, rewards_in

# As many threads as a reward has child processes, so that no call waits for another; more would share this process.
THREADS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True)
class Grades:
    """By reward and completion: scores in float32, reasons ("" for none), and seconds of the call.

    A score is NaN for None, and also where `applies` is False: there the completion's part of a mixture lacks the
    reward, which adds nothing to the completion's weighted sum and is counted in none of the reward's metrics.
    """

    scores: dict[str, np.ndarray]
    applies: dict[str, np.ndarray]
    reasons: dict[str, list[str]]
    seconds: dict[str, np.ndarray]

    def times(self) -> dict[str, float]:
        """The mean seconds of a call, as metrics by reward."""
        calls = {name: max(int(self.applies[name].sum()), 1) for name in self.seconds}
        return {f"time/rewards/{name}": float(values.sum() / calls[name]) for name, values in self.seconds.items()}


def grade(examples: Sequence[Example], texts: Sequence[str], rewards: Mapping[str, Reward]) -> Grades:
    """Scores all texts with all rewards; of G texts an example, text b belongs to example b // G.

    Threads call the rewards that score one text, while this thread calls each `BatchReward` once. Where a call raises,
    the scores that it was to give are None with the reason `error`, and one warning is given for each reward. A score
    that is not finite is None with the reason `not_finite`. A text of more than MAX_CHARACTERS characters scores 0.0
    with the reason `too_long`.
    """
    rows = range(len(texts))
    example_of = [example for example in examples for _ in range(len(texts) // len(examples))]
    scores = {name: np.full(len(texts), np.nan, np.float32) for name in rewards}
    applies = {name: np.ones(len(texts), bool) for name in rewards}
    reasons, seconds = (
        {name: [""] * len(texts) for name in rewards},
        {name: np.zeros(len(texts), np.float32) for name in rewards},
    )
    errors: dict[str, str] = {}

    def score(name: str, reward: Reward, rows: Sequence[int]) -> None:
        start = time.perf_counter()
        results: dict[int, tuple[float, str]] = dict.fromkeys(rows, (0.0, "too_long"))
        short = [row for row in rows if len(texts[row]) <= MAX_CHARACTERS]
        given = [example_of[row] for row in short], [texts[row] for row in short]
        try:
            found = reward.batch(*given) if isinstance(reward, BatchReward) else list(map(reward, *given))
            results.update(zip(short, map(_score_and_reason, found), strict=True))
        except Exception as error:
            if getattr(reward, "is_vital", False):
                raise
            where = f" on {given[0][0].prompt!r:.200}" if len(short) == 1 and given[0][0].prompt else ""
            errors.setdefault(name, f"reward {name} failed{where}: {error!r:.500}")
            results.update(dict.fromkeys(short, (math.nan, "error")))
        for row, (scores[name][row], reasons[name][row]) in results.items():
            seconds[name][row] = (time.perf_counter() - start) / len(rows)

    threads = ThreadPoolExecutor(THREADS)
    try:
        calls, batches = [], []
        for name, reward in rewards.items():
            own = [reward_for(reward, example) for example in example_of]
            for row, one in enumerate(own):
                if one is None:
                    applies[name][row] = False
                elif not isinstance(one, BatchReward):
                    calls.append(threads.submit(score, name, one, [row]))
            distinct = {id(one): one for one in rewards_in(reward) if isinstance(one, BatchReward)}.values()
            batches += [(name, one, [row for row in rows if own[row] is one]) for one in distinct]
        for batch in batches:
            score(*batch)
        for call in calls:
            call.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for calls that have not begun
    for message in errors.values():
        warnings.warn(message, stacklevel=2)
    return Grades(scores, applies, reasons, seconds)


def _score_and_reason(result: RewardResult) -> tuple[float, str]:
    """As arrays hold them: NaN for None."""
    score, reason = result if isinstance(result, tuple) else (result, "")
    if score is None:
        return math.nan, reason
    return (score, reason) if math.isfinite(score) else (math.nan, "not_finite")


def reason_shares(grades: Grades) -> dict[str, float]:
    """For each reason that a reward gave, the fraction of the completions that have the reward, as metrics."""
    return {
        f"rewards/{name}/{reason}": count / int(grades.applies[name].sum())
        for name, column in grades.reasons.items()
        for reason, count in sorted(Counter(filter(None, column)).items())
    }


def reward_shares(grades: Grades, rewards: Mapping[str, Reward]) -> dict[str, float]:
    """For each reward that a part of the mixture lacks, the fraction of completions that have it, as metrics."""
    partial = [name for name, reward in rewards.items() if None in rewards_in(reward)]
    return {f"rewards/{name}/share": float(grades.applies[name].mean()) for name in partial}
