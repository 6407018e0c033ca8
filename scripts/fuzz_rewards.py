"""Grades hostile completions and checks that nothing is left behind: no child, no late score, no dead trainer.

    uv run scripts/fuzz_rewards.py 10000

Random bytes, deep nesting, huge numbers, unclosed tags, LaTeX and Python that mean harm, against golds of many types,
by the rewards math, format, language, choice, exact and repetition. Prints the rate and the slowest score of each.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

from r1jax.rewards import accuracy
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.choice import letter
from r1jax.rewards.example import Completion, Example
from r1jax.rewards.format import think_answer
from r1jax.rewards.grading import grade
from r1jax.rewards.language import check_language, consistency
from r1jax.rewards.shaping import repetition
from r1jax.rewards.text import exact

GOLDS = [
    "72",
    "-1/2",
    "\\frac{\\sqrt{3}}{2}",
    "\\{1,2,3\\}",
    "(1,2)",
    "[0,1)",
    "x<1",
    "x=5",
    "2x+1",
    "Paris",
    "1:00",
    "50\\%",
]
PIECES = [
    "<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "{", "(", ")", "[", "]", "####", "\n", " ", "$",
    "\\(", "\\)", "\\frac{", "\\sqrt{", "^{", "_{", "5^{5^{5^{5}}}", "9" * 500, "10**10**10", "1e999999", "\\pi",
    "\\infty", "\\text{", "\\begin{pmatrix}", "\\end{pmatrix}", "\\left(", "\\right)", "x", "=", "<", ",", ";", "+",
    "-", "!" * 20, "1/0", "72", "Paris", "__import__('os').system('touch FILE')", "open('FILE','w')", "```python\n",
    "```", "<|im_end|>", "\u202e", "\u0000", "先", "é", "½",
]  # fmt: skip


def completion(rng: random.Random, file: Path) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        text = rng.randbytes(rng.randrange(2000)).decode("latin-1")
    elif kind == 1:
        text = rng.choice(PIECES) * rng.choice((10, 1000, 20_000))
    elif kind == 2:
        text = "".join(rng.choice(PIECES) for _ in range(rng.randrange(200)))
    else:
        text = f"<think>r</think><answer>{''.join(rng.choice(PIECES) for _ in range(rng.randrange(12)))}</answer>"
    return text.replace("FILE", str(file))


def children() -> set[str]:
    return {p for p in Path("/proc/self/task").glob("*/children") for p in p.read_text().split()}


def main() -> None:
    count, file = int(sys.argv[1]), Path(tempfile.gettempdir(), "r1jax-fuzz-made-this")
    rng = random.Random(0)
    file.unlink(missing_ok=True)
    examples = [Example("q", rng.choice(GOLDS)) for _ in range(count)]
    texts = [Completion(completion(rng, file), length=10, truncated=False) for _ in range(count)]
    rewards = {
        "math": math_answer,
        "format": think_answer,
        "language": consistency,
        "choice": lambda example, text: letter(Example("q", "B"), text),
        "exact": exact,
        "repetition": lambda example, text: repetition(example, text, n=3),
    }
    check_language("en")  # loads the detector, as a config that names the reward does
    start = time.monotonic()
    grades = grade(examples, texts, rewards)
    print(f"{count} completions in {time.monotonic() - start:.0f} s")
    for name, seconds in grades.seconds.items():
        none = int((grades.scores[name] != grades.scores[name]).sum())
        reasons = sorted(set(filter(None, grades.reasons[name])))
        print(f"{name}: slowest {seconds.max():.2f} s, None {none}, mean {grades.scores[name].mean():.3f}, {reasons}")
    accuracy._workers().close()
    time.sleep(1)
    left = children()
    print(f"children left: {len(left)}; file made: {file.exists()}")
    sys.exit(1 if left or file.exists() else 0)


if __name__ == "__main__":
    main()
