"""Scores hostile and ordinary completions; exits with 1 where a score is slow or leaves a process or file behind.

    uv run scripts/fuzz_rewards.py 10000

The completions are random bytes, deep nesting, huge numbers, unclosed tags, malicious LaTeX and Python, and worked
solutions in English, truncated, repeated and garbled. They are scored against gold answers of many types by the rewards
math, format, language, choice, exact, repetition and regex. Prints the slowest call and the statistics of each reward.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

from r1jax.rewards import accuracy, text_match
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.choice import letter
from r1jax.rewards.example import Completion, Example
from r1jax.rewards.format import think_answer
from r1jax.rewards.grading import grade
from r1jax.rewards.language import check_language, consistency
from r1jax.rewards.shaping import repetition
from r1jax.rewards.text_match import exact, pattern

MAX_SECONDS = 5.0  # of a call
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
    "```", "<|im_end|>", "\u202e", "\u0000", "先", "é", "½", "αa", "e\u0301\u0316", "\u0301\u0316", "ﷺ",
    "so, ", "answer: . ", "\\alpha : ", "</s>", "<pad>", "!", ".", "1=", "\n\n",
]  # fmt: skip
SENTENCES = [
    "The minimum number of points the class needs to reach is 400.",
    "5. The minimum number of points the class needs to reach is 400",
    "Natalia sold 48/2 = 24 clips in May, so she sold 48 + 24 = 72 clips altogether in April and May.",
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.",
    "She pays $15 for 3 books, that is $5 a book, and 20% off the second half-dozen.",
    "So the train covers 120 km in 1.5 hours, which is 80 km/h or about 22.2 m/s.",
    "Wait, let me check that again: 1,234 - 567 = 667, not 677.",
    "First, we add the two numbers; then we divide by 2.",
    "- **Step 1:** find the cost of 12 apples at 0.75 dollars each",
    "* 3 x 4 = 12 square feet of carpet per room and 5 rooms",
    "## Step 2: Solve for $x$",
    "Let $x$ be the number of marbles, so $2x + 3 = 11$ and $x = 4$.",
    "\\[ \\frac{3}{4} \\times 200 = 150 \\text{ students} \\]",
    "| item | price | count |\n|---|---|---|\n| pen | $1.20 | 10 |",
    "2x + 1 = 5 => 2x = 4 => x = 2",
    "A) 10 cm B) 20 cm C) 30 cm D) 40 cm",
    "Option (B) is correct because the sum of the angles is 180 degrees.",
    "It is a long way from the town to the school in the valley and back to the old mill by the river",
    "1/2 cup of sugar, 2 1/2 cups of flour and 3 eggs per cake for each of the 4 cakes",
    "The meeting is at 1:30 pm on January 5, 2020 in room 12B.",
    "The answer is 72.",
    "The final answer is: 400 points per class of 25 students in the first term",
    "Therefore, the answer to the question is B.",
]
ENDINGS = [
    "\\boxed{72}", "\\boxed{\\text{72 clips}}", "#### 72", "<answer>72</answer>", "Answer: 72 clips", "**72**", "",
]  # fmt: skip


def prose(rng: random.Random) -> str:
    """A solution in ordinary sentences, as they are or garbled: words dropped or repeated, the text truncated."""
    sentences = rng.choices(SENTENCES, k=rng.choice((1, 3, 10, 100, 1000)))
    if rng.random() < 0.5:
        at = rng.randrange(len(sentences))
        words = [word for word in sentences[at].split(" ") for _ in range(rng.choice((0, 1, 1, 1, 2)))]
        if words and rng.random() < 0.5:
            first = rng.randrange(len(words))
            words[first : first + 3] = words[first : first + 3] * rng.choice((10, 1000, 10_000))
        sentences[at] = " ".join(words)
    text = rng.choice((" ", "\n", "\n\n")).join(sentences)
    if rng.random() < 0.3:
        text = text[: rng.randrange(len(text) + 1)] + rng.choice(("", *PIECES))
    ending = rng.choice(ENDINGS)
    return rng.choice((f"<think>{text}</think>{ending}", f"{text}\n{ending}", f"<think>r</think>{text} {ending}", text))


def make_completion(rng: random.Random, file: Path) -> str:
    kind = rng.randrange(8)
    if kind == 0:
        text = rng.randbytes(rng.randrange(2000)).decode("latin-1")
    elif kind == 1:
        text = rng.choice(PIECES) * rng.choice((10, 1000, 20_000))
    elif kind == 2:
        text = "".join(rng.choice(PIECES) for _ in range(rng.randrange(200)))
    elif kind == 3:
        text = f"<think>{rng.choice(PIECES) * rng.choice((1000, 20_000))}</think>{rng.choice(PIECES) * 1000}"
    elif kind > 4:
        text = prose(rng)
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
    texts = [Completion(make_completion(rng, file), length=10, truncated=False) for _ in range(count)]
    rewards = {
        "math": math_answer,
        "format": think_answer,
        "language": consistency,
        "choice": lambda example, completion: letter(Example("q", "B"), completion),
        "exact": exact,
        "repetition": lambda example, completion: repetition(example, completion, n=3),
        "regex": lambda example, completion: pattern(example, completion, pattern=r".*\d+(\.\d+)?"),
    }
    check_language("en")  # loads the detector, as a config that names the reward does
    start = time.monotonic()
    grades = grade(examples, texts, rewards)
    print(f"{count} completions in {time.monotonic() - start:.0f} s")
    for name, seconds in grades.seconds.items():
        none = int((grades.scores[name] != grades.scores[name]).sum())
        reasons = sorted(set(filter(None, grades.reasons[name])))
        print(f"{name}: slowest {seconds.max():.2f} s, None {none}, mean {grades.scores[name].mean():.3f}, {reasons}")
    accuracy._workers.cache_clear()
    text_match._pool.cache_clear()
    time.sleep(1)
    left = children()
    print(f"children left: {len(left)}; file made: {file.exists()}")
    slow = max(seconds.max() for seconds in grades.seconds.values()) > MAX_SECONDS
    sys.exit(1 if slow or left or file.exists() else 0)


if __name__ == "__main__":
    main()
