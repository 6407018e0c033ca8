"""Measures how many answers a second the math reward scores: python scripts/bench_rewards.py [seconds]

Easy answers are numbers, sets, intervals, choices and text, which are compared in this process; hard ones are
expressions, which a worker compares. Half of each are wrong. One thread a core calls the reward, as in a run.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.example import Example

CHUNK = 32  # answers that a thread scores at a time


def easy(rng: random.Random) -> tuple[str, str]:
    """A gold answer and an answer that need no worker."""
    n, m = rng.randrange(2, 10**5), rng.randrange(2, 99)
    wrong = rng.randrange(2)
    return rng.choice(
        [
            (str(n), f"{n + wrong:,}"),
            (str(n), rf"x = {n + wrong} \text{{ apples}}"),
            (rf"\frac{{{n}}}{{{m}}}", f"{n + wrong}/{m}"),
            (rf"\{{{n},{m}\}}", rf"\{{{m}, {n + wrong}\}}"),
            (f"[{m},{m + n})", f"[{m}, {m + n}{']' if wrong else ')'}"),
            (rng.choice("ABC"), rf"\text{{({rng.choice('ABC')})}}"),
            ("blue", rng.choice(["Blue.", "green"])),
        ]
    )


def hard(rng: random.Random) -> tuple[str, str]:
    """A gold answer and an answer that a worker compares; no two pairs are the same."""
    a, b, wrong = rng.randrange(2, 10**4), rng.randrange(2, 10**4), rng.randrange(2)
    return rng.choice(
        [
            (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b + wrong}}}"),
            (rf"\frac{{{a}\pi}}{{{b}}}", rf"\pi \cdot \frac{{{a + wrong}}}{{{b}}}"),
            (f"(x+{a})(x+{b})", f"x^2+{a + b}x+{a * b + wrong}"),
        ]
    )


def rate(make: Callable[[random.Random], tuple[str, str]], seconds: float) -> float:
    """Answers a second, with one thread a core."""
    threads = os.cpu_count() or 1

    def score_chunk(seed: int) -> int:
        rng = random.Random(seed)
        for _ in range(CHUNK):
            gold, answer = make(rng)
            math_answer(Example("", gold), rf"<think>because</think>So it is \boxed{{{answer}}}.")
        return CHUNK

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(score_chunk, range(threads)))  # starts the workers
        begin, done = time.perf_counter(), 0
        seeds: Iterator[int] = itertools.count(threads)
        while time.perf_counter() - begin < seconds:
            done += sum(pool.map(score_chunk, itertools.islice(seeds, threads)))
        return done / (time.perf_counter() - begin)


def main(seconds: float) -> None:
    for name, make in (("easy", easy), ("hard", hard)):
        print(f"math, {name} answers: {rate(make, seconds):.0f} a second on {os.cpu_count()} cores")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
