"""Assigns problems to the training or the test split, so that the two never share one.

A hash of the problem's canonical text decides: one problem in sixteen is held out for testing.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Literal

Split = Literal["train", "test"]
ATTEMPTS = 1000


def split_of(problem: str) -> Split:
    """The split of a problem, given by its canonical text. It is the same for every seed and on every machine."""
    return "test" if hashlib.blake2b(problem.encode(), digest_size=8).digest()[0] % 16 == 0 else "train"


def draw[Problem](
    split: Split, seed: int, index: int, sample: Callable[[random.Random], Problem], key: Callable[[Problem], str]
) -> Problem:
    """Problem `index` of a split: the first from `sample` whose canonical text, which `key` gives, is in that split.

    Raises ValueError where so few problems exist that none is found.
    """
    for attempt in range(ATTEMPTS):
        problem = sample(random.Random(f"{seed}/{split}/{index}/{attempt}"))
        if split_of(key(problem)) == split:
            return problem
    raise ValueError(
        f"none of {ATTEMPTS} sampled problems is in the split {split}: the task has too few problems; give it more "
        f"digits or larger numbers"
    )
