r"""Checks that every gold of GSM8K verifies, however it is written, and that none of its near misses does.

    python scripts/check_gsm8k_golds.py gsm8k/train.jsonl gsm8k/test.jsonl

Each gold is written in STYLES and must score 1; gold + 1, gold x 10 and, where it is not 0, -gold must score 0 in each
style. x 10 of 0 is left out too. Prints a line per style and file, and ends with status 1 where a verdict is wrong.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from fractions import Fraction

from r1jax.answers.quantities import number
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.example import Example

STYLES = {
    "plain": "{n}",
    "boxed": r"<think>so</think>That makes \boxed{{{n}}}.",
    "answer tag": "<think>3 + 4</think><answer>{n}</answer>",
    "with units": r"<think>so</think>\boxed{{{n}\text{{ apples}}}}",
    "dollars": "<answer>${n}</answer>",
    "with separators": "<answer>{separated}</answer>",
    "LaTeX separators": r"It is $\boxed{{{latex}}}$",
    "hashes": "He pays 3 + 4.\n#### {n}",
    "in a sentence": "The answer is {n}.",
    "last number": "Of the 12 there are 5, so that he has {n} apples left.",
    "bold": "**Answer:** {n}",
    "decimal": "<answer>{n}.00</answer>",
    "assignment": "<answer>x = {n}</answer>",
}


def completions(value: Fraction) -> dict[str, str]:
    """A number in all styles; one that is no whole number without those that need one."""
    whole = value.denominator == 1
    n = str(value.numerator) if whole else f"{float(value)}"
    separated = f"{value.numerator:,}" if whole else n
    forms = {"n": n, "separated": separated, "latex": separated.replace(",", "{,}")}
    return {name: style.format(**forms) for name, style in STYLES.items() if whole or name != "decimal"}


def near_misses(value: Fraction) -> set[Fraction]:
    """Gold + 1, x 10 and negated, of which none is the gold."""
    return {value + 1, value * 10, -value} - {value}


def check(golds: list[str]) -> tuple[Counter[str], list[tuple[str, str, str]]]:
    """How many verdicts there were in each style, and the gold, completion and verdict of each wrong one."""
    count: Counter[str] = Counter()
    wrong = []
    for gold in golds:
        value, example = number(gold), Example("", gold)
        if value is None:
            wrong.append((gold, gold, "no number"))
            continue
        for expected, candidates in ((1.0, {value}), (0.0, near_misses(value))):
            for candidate in candidates:
                for style, completion in completions(candidate).items():
                    count[style] += 1
                    verdict = math_answer(example, completion)
                    if verdict != expected:
                        wrong.append((gold, completion, repr(verdict)))
    return count, wrong


def main(files: list[str]) -> int:
    failed = 0
    for file in files:
        with open(file, encoding="utf-8") as lines:
            golds = [json.loads(line)["answer"].rpartition("####")[2].strip() for line in lines]
        start = time.perf_counter()
        count, wrong = check(golds)
        seconds = time.perf_counter() - start
        print(f"{file}: {len(golds)} golds, {count.total()} verdicts, {len(wrong)} wrong, {seconds:.1f} s")
        print("  " + ", ".join(f"{style} {number}" for style, number in count.items()))
        for gold, completion, verdict in wrong[:20]:
            print(f"  gold {gold!r}: {completion!r} scored {verdict}")
        failed += len(wrong)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
