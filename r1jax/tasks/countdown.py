"""Countdown: reach a target from given numbers, each used once: `3,7,25>68:` → 25*3-7."""

from __future__ import annotations

import random
from fractions import Fraction

from r1jax.config import CountdownTask
from r1jax.rewards.accuracy import countdown_expression
from r1jax.rewards.example import Example
from r1jax.rewards.format import TAGS, think_answer
from r1jax.tasks.split import Split, draw

Problem = tuple[tuple[int, ...], int, str, tuple[str, ...]]  # numbers, target, an expression, its partial results


class Countdown:
    """Numbers from 1 to max_number; the target is a positive whole number that some expression over all of them has."""

    symbols = (*TAGS, *"0123456789+-*/()=,>:")
    rewards = {"accuracy": countdown_expression, "format": think_answer}

    def __init__(self, settings: CountdownTask, seed: int) -> None:
        self.settings = settings
        self.seed = seed

    def example(self, split: Split, index: int) -> Example:
        numbers, target, expression, partial = draw(split, self.seed, index, self._generate, _canonical)
        style = random.Random(f"{self.seed}/{split}/{index}/style")
        reasoning = expression if style.random() < self.settings.direct_share else ",".join(partial)
        return Example(
            prompt=f"{','.join(map(str, numbers))}>{target}:",
            answer=expression,
            demonstration=f"<think>{reasoning}</think><answer>{expression}</answer>",
            data={"numbers": numbers, "target": target},
        )

    def _generate(self, rng: random.Random) -> Problem:
        """Joins the numbers two at a time by random operations until one is left; whole and positive throughout."""
        while True:
            numbers = tuple(rng.randint(1, self.settings.max_number) for _ in range(self.settings.numbers))
            terms = [(Fraction(n), str(n)) for n in numbers]
            partial: list[str] = []
            while len(terms) > 1:
                (x, left), (y, right) = (terms.pop(rng.randrange(len(terms))) for _ in range(2))
                operator = rng.choice("+-*/")
                value = {"+": x + y, "-": x - y, "*": x * y, "/": x / y}[operator]
                if value < 1 or value.denominator != 1:
                    break
                partial.append(f"{x}{operator}{y}={value}")
                terms.append((value, f"({left}{operator}{right})"))
            else:
                value, expression = terms[0]
                return numbers, int(value), expression[1:-1], tuple(partial)


def _canonical(problem: Problem) -> str:
    return f"{sorted(problem[0])}>{problem[1]}"
