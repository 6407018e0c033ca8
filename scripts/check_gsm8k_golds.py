r"""Checks that every gold answer of GSM8K scores 1, however it is written, and that near misses score 0.

    python scripts/check_gsm8k_golds.py gsm8k/train.jsonl gsm8k/test.jsonl

Each gold answer is written in all STYLES. Its near misses, in all styles too, are gold + 1, gold x 10 and -gold, unless
they equal it. Prints the number of scores for each file and style, and exits with status 1 where a score is wrong.
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
    """The number in all styles; one that is not whole only in those that do not need a whole number."""
    whole = value.denominator == 1
    n = str(value.numerator) if whole else f"{float(value)}"
    separated = f"{value.numerator:,}" if whole else n
    texts = {"n": n, "separated": separated, "latex": separated.replace(",", "{,}")}
    return {name: style.format(**texts) for name, style in STYLES.items() if whole or name != "decimal"}


def near_misses(value: Fraction) -> set[Fraction]:
    """Gold + 1, gold x 10 and -gold, unless they are the gold answer itself."""
    return {value + 1, value * 10, -value} - {value}


def check(golds: list[str]) -> tuple[Counter[str], list[tuple[str, str, str]]]:
    """The number of scores in each style; and of each wrong score the gold answer, the completion and the score."""
    count: Counter[str] = Counter()
    wrong = []
    for gold in golds:
        value, example = number(gold), Example("", gold)
        if value is None:
            wrong.append((gold, gold, "not a number"))
            continue
        for expected, candidates in ((1.0, {value}), (0.0, near_misses(value))):
            for candidate in candidates:
                for style, completion in completions(candidate).items():
                    count[style] += 1
                    result = math_answer(example, completion)
                    if result != expected:
                        wrong.append((gold, completion, repr(result)))
    return count, wrong


def main(files: list[str]) -> int:
    failed = 0
    for file in files:
        with open(file, encoding="utf-8") as lines:
            golds = [json.loads(line)["answer"].rpartition("####")[2].strip() for line in lines]
        start = time.perf_counter()
        count, wrong = check(golds)
        seconds = time.perf_counter() - start
        print(f"{file}: {len(golds)} golds, {count.total()} scores, {len(wrong)} wrong, {seconds:.1f} s")
        print("  " + ", ".join(f"{style} {number}" for style, number in count.items()))
        for gold, completion, result in wrong[:20]:
            print(f"  gold {gold!r}: {completion!r} scored {result}")
        failed += len(wrong)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
