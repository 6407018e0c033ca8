"""Generated problems, by index from a seed, of which train and test never share one.

The problem itself decides where it belongs: one in sixteen, by a hash of its canonical text, is for testing.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Literal

Split = Literal["train", "test"]
ATTEMPTS = 1000


def split_of(problem: str) -> Split:
    """Where a problem, given by its canonical text, belongs: the same for every seed and on every machine."""
    return "test" if hashlib.blake2b(problem.encode(), digest_size=8).digest()[0] % 16 == 0 else "train"


def draw[Problem](
    split: Split,
    seed: int,
    index: int,
    sample: Callable[[random.Random], Problem],
    key: Callable[[Problem], str],
) -> Problem:
    """Problem number `index` of a split: the first that `sample` draws whose canonical text, `key`, belongs there.

    Raises ValueError where so few problems exist that none is found.
    """
    for attempt in range(ATTEMPTS):
        problem = sample(random.Random(f"{seed}/{split}/{index}/{attempt}"))
        if split_of(key(problem)) == split:
            return problem
    raise ValueError(
        f"none of {ATTEMPTS} problems drawn is for split {split}: the problem space is too small; "
        f"give the task more digits or larger numbers"
    )
