"""Countdown: reach a target with given numbers, using each once, `3,7,25>68:` → (25*3)-7."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from fractions import Fraction

from r1jax.answers.extraction import extract_answer
from r1jax.answers.latex import plain
from r1jax.answers.quantities import number
from r1jax.config.tasks import CountdownTask
from r1jax.rewards.example import Example, Reward
from r1jax.rewards.format import TAGS, think_answer
from r1jax.tasks.split import Split, draw

MAX_LENGTH = 200  # characters of an expression; a longer one is not read
_EXPRESSION = re.compile(r"(?:[\d+\-*/(){} ]|\\frac)+", re.ASCII)
# A sign, a mixed number, or two numbers without an operation between them.
_OTHER = re.compile(r"(?:^|[({+*/-]) ?[+-]|\d ?(?:\\frac| \d)", re.ASCII)


@dataclass(frozen=True)
class Problem:
    """Numbers and a target, with one solution and its operations one after another: `25*3=75,75-7=68`."""

    numbers: tuple[int, ...]
    target: int
    solution: str
    steps: str


class Countdown:
    """Numbers from 1 to max_number, and as target the positive whole value of some expression that uses all of them."""

    symbols: tuple[str, ...] = (*TAGS, *"0123456789+-*/()=,>:")

    def __init__(self, settings: CountdownTask, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.rewards: dict[str, Reward] = {"accuracy": accuracy, "format": think_answer}

    def size(self, split: Split) -> None:
        """None: there is no end of problems."""

    def example(self, split: Split, index: int) -> Example:
        problem = draw(split, self.seed, index, self._sample, canonical)
        style = random.Random(f"{self.seed}/{split}/{index}/style")
        reasoning = problem.solution if style.random() < self.settings.direct_share else problem.steps
        return Example(
            question=f"{','.join(map(str, problem.numbers))}>{problem.target}:",
            answer=problem.solution,
            demonstration=f"<think>{reasoning}</think><answer>{problem.solution}</answer>",
            data={"numbers": problem.numbers, "target": problem.target},
        )

    def _sample(self, rng: random.Random) -> Problem:
        """Combines two numbers at a time by random operations until one is left; all are whole and positive."""
        while True:
            numbers = tuple(rng.randint(1, self.settings.max_number) for _ in range(self.settings.numbers))
            terms = [(Fraction(n), str(n)) for n in numbers]
            steps: list[str] = []
            while len(terms) > 1:
                (x, left), (y, right) = (terms.pop(rng.randrange(len(terms))) for _ in range(2))
                operator = rng.choice("+-*/")
                value = {"+": x + y, "-": x - y, "*": x * y, "/": x / y}[operator]
                if value < 1 or value.denominator != 1:
                    break
                steps.append(f"{x}{operator}{y}={value}")
                terms.append((value, f"({left}{operator}{right})"))
            else:
                value, solution = terms[0]
                return Problem(numbers, int(value), solution[1:-1], ",".join(steps))


def accuracy(example: Example, completion: str) -> float:
    """1.0 for an expression that uses each of data["numbers"] once and equals data["target"] exactly, else 0.0."""
    answer = extract_answer(completion, prompt_opens_think=example.prompt_opens_think, kind="formula")
    value, numbers = arithmetic(answer or "") or (None, [])
    return float(value == example.data["target"] and sorted(numbers) == sorted(example.data["numbers"]))


def arithmetic(text: str) -> tuple[Fraction, list[int]] | None:
    """The value of `(25*3)-7 = 68` and the numbers in it, in order; None for anything else.

    Allowed are whole numbers without a sign, the four operations, brackets, and one trailing `= …`, which is ignored.
    """
    text, _, result = plain(text[: MAX_LENGTH + 1]).translate(str.maketrans("[]", "()")).partition("=")
    text = text.strip(" .")
    if len(text) > MAX_LENGTH or "=" in result or not _EXPRESSION.fullmatch(text) or _OTHER.search(text):
        return None
    value = number(text)
    return None if value is None else (value, [int(digits) for digits in re.findall(r"\d+", text)])


def canonical(problem: Problem) -> str:
    """The text by which a problem is assigned to a split, the same for any order of its numbers."""
    return f"{sorted(problem.numbers)}>{problem.target}"
