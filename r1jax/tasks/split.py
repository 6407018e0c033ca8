"""Generated problems, by index from a seed, of which train and test never share one.

The problem itself decides where it belongs: one in sixteen, by a hash of its canonical text, is for testing.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Literal, TypeVar

Split = Literal["train", "test"]
Problem = TypeVar("Problem")
TRIES = 1000


def split_of(canonical: str) -> Split:
    """Where a problem belongs, the same for every seed and on every machine."""
    return "test" if hashlib.blake2b(canonical.encode(), digest_size=8).digest()[0] % 16 == 0 else "train"


def draw(
    split: Split, seed: int, index: int, generate: Callable[[random.Random], Problem], canonical: Callable[[Problem], str]
) -> Problem:
    """The problem number `index` of a split: the first one that `generate` draws and that belongs there."""
    for attempt in range(TRIES):
        problem = generate(random.Random(f"{seed}/{split}/{index}/{attempt}"))
        if split_of(canonical(problem)) == split:
            return problem
    raise ValueError(f"no {split} problem in {TRIES} draws: the task has too few different problems; make it larger")
