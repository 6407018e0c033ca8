"""Addition and subtraction of whole numbers, `347+285=` → 632, with demonstrations in two styles."""

from __future__ import annotations

import random
import re

from r1jax.answers.extraction import extract_answer
from r1jax.answers.latex import plain
from r1jax.answers.quantities import number
from r1jax.config.tasks import ArithmeticTask
from r1jax.rewards.example import Example, Reward
from r1jax.rewards.format import TAGS, think_answer
from r1jax.tasks.split import Split, draw


class Arithmetic:
    """Problems a∘b with operands of min_digits to max_digits digits. a-b has a ≥ b, so that no answer is negative.

    a+b and b+a count as one problem, so that they are always in the same split.
    """

    symbols: tuple[str, ...] = (*TAGS, *"0123456789+-=,")

    def __init__(self, settings: ArithmeticTask, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.rewards: dict[str, Reward] = {"accuracy": accuracy, "format": think_answer}

    def size(self, split: Split) -> None:
        """None: there is no end of problems."""

    def example(self, split: Split, index: int) -> Example:
        a, operator, b = draw(split, self.seed, index, self._sample, canonical)
        answer = result(a, operator, b)
        style = random.Random(f"{self.seed}/{split}/{index}/style")
        reasoning = answer if style.random() < self.settings.direct_share else steps(a, operator, b)
        return Example(
            question=f"{a}{operator}{b}=",
            answer=str(answer),
            demonstration=f"<think>{reasoning}</think><answer>{answer}</answer>",
        )

    def _sample(self, rng: random.Random) -> tuple[int, str, int]:
        a, b = (self._operand(rng) for _ in range(2))
        operator = rng.choice(self.settings.operators)
        return (max(a, b), operator, min(a, b)) if operator == "-" else (a, operator, b)

    def _operand(self, rng: random.Random) -> int:
        digits = rng.randint(self.settings.min_digits, self.settings.max_digits)
        return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def accuracy(example: Example, completion: str) -> float:
    """1.0 for the gold number, else 0.0, also for arithmetic that has its value, as the question itself has."""
    answer = plain(extract_answer(completion, prompt_opens_think=example.prompt_opens_think) or "")
    written_out = re.fullmatch(r"[+-]?\d[\d,]*(?:\.\d*)?", answer, re.ASCII)
    return float(written_out is not None and number(answer) == number(example.answer))


def canonical(problem: tuple[int, str, int]) -> str:
    """The text by which a problem is assigned to a split, the same for a+b and b+a."""
    a, operator, b = problem
    return f"{min(a, b)}+{max(a, b)}" if operator == "+" else f"{a}-{b}"


def result(a: int, operator: str, b: int) -> int:
    return a + b if operator == "+" else a - b


def steps(a: int, operator: str, b: int) -> str:
    """Column by column from the right, with carries as separate steps: `7+5=12,4+8=12,12+1=13,3+2=5,5+1=6`.

    In subtraction, where a ≥ b, a column may borrow ten: 432-285 is `12-5=7,13-8=5,5-1=4,4-2=2,2-1=1`.
    """
    columns, carry = [], 0
    a_digits, b_digits = str(a)[::-1], str(b)[::-1]
    for i in range(max(len(a_digits), len(b_digits))):
        x, y = (int(digits[i]) if i < len(digits) else 0 for digits in (a_digits, b_digits))
        if operator == "-" and x - y - carry < 0:
            x += 10
        value = result(x, operator, y)
        columns.append(f"{x}{operator}{y}={value}")
        if carry:
            columns.append(f"{value}{operator}{carry}={result(value, operator, carry)}")
            value = result(value, operator, carry)
        carry = value // 10 if operator == "+" else x // 10
    return ",".join(columns)
