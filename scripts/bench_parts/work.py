"""What one measurement does, as every process of scripts/bench.py reads it: model, sizes and real prompts.

work = read_work()  # in a process that was started with the work's file
write_result({"step_s": [...]})  # next to it
"""

from __future__ import annotations

import json
import random
import resource
import sys
from pathlib import Path
from typing import Any

PROBLEMS = (
    (
        "{name} has {a} apples and picks {b} more. {other} gives {name} another {c}. How many apples does {name} have?",
        "{name} has {a} + {b} = {ab} apples after picking, and {ab} + {c} = {abc} after {other}'s gift.",
    ),
    (
        "A shop sells {a} tickets on Monday, {b} on Tuesday and {c} on Wednesday. How many does it sell in all?",
        "On Monday and Tuesday it sells {a} + {b} = {ab} tickets. With Wednesday's these are {ab} + {c} = {abc}.",
    ),
    (
        "{name} reads {a} pages in the morning and {b} in the evening. The book has {c} more. How long is the book?",
        "{name} reads {a} + {b} = {ab} pages. With the {c} that are left, the book has {ab} + {c} = {abc}.",
    ),
)
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry")


def sums(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Questions of nearly the same length with their answers, so that padding is the same for every library."""
    draw = random.Random(seed)
    pairs = [(draw.randint(10, 99), draw.randint(10, 99)) for _ in range(count)]
    return [
        {"question": f"What is {a} + {b}? Think step by step, then give the answer.", "answer": str(a + b)}
        for a, b in pairs
    ]


def worked_problems(count: int, seed: int) -> list[str]:
    """Word problems with their solutions, as examples in a long prompt."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        a, b, c = (draw.randint(2, 99) for _ in range(3))
        name, other = draw.sample(NAMES, 2)
        facts = {"a": a, "b": b, "c": c, "ab": a + b, "abc": a + b + c, "name": name, "other": other}
        question, solution = (text.format(**facts) for text in draw.choice(PROBLEMS))
        texts.append(f"Question: {question}\nAnswer: {solution} The answer is {a + b + c}.")
    return texts


def read_work() -> dict[str, Any]:
    return json.loads(Path(sys.argv[1]).read_text())


def write_result(result: dict[str, Any]) -> None:
    """With the peak of this process's memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    Path(sys.argv[1]).with_name("result.json").write_text(json.dumps({"peak_bytes": peak} | result))
