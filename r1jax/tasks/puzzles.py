"""The reasoning problems of the bilingual world, in no language: chains of sums, and of days of the week.

    puzzle = SumChain((3, 5, -2))
    puzzle.question(WORDS["en"])  # " compute three and five less two?"
    puzzle.steps([WORDS["en"]] * 2, [0, 0])  # ([" three and five is eight", " less two is six"], 6)

A puzzle's level is the number of its steps. Numbers and days are their places in the lists of `vocabulary.WORDS`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from r1jax.tasks.vocabulary import WORDS, Words, text

MAX_TOTAL = len(WORDS["en"].numbers) - 1
MAX_TERM = 9
MAX_MOVE = 3
DAYS = 7


@dataclass(frozen=True)
class SumChain:
    """Sums and differences one after another; every total is between 0 and MAX_TOTAL."""

    terms: tuple[int, ...]

    @classmethod
    def sample(cls, rng: random.Random, level: int) -> SumChain:
        terms = [rng.randint(1, MAX_TERM)]
        while len(terms) <= level:
            possible = [n for n in range(-MAX_TERM, MAX_TERM + 1) if n and 0 <= sum(terms) + n <= MAX_TOTAL]
            terms.append(rng.choice(possible))
        return cls(tuple(terms))

    def canonical(self) -> str:
        """The text by which it is assigned to a split, the same for any order of the terms."""
        return f"sums {sorted(self.terms)}"

    def question(self, words: Words) -> str:
        operations = (_operation(term, words) for term in self.terms[1:])
        return text(words.compute, words.numbers[self.terms[0]], *operations) + "?"

    @property
    def level(self) -> int:
        return len(self.terms) - 1

    def spoken(self, place: int, words: Words) -> str:
        return words.numbers[place]

    def answer(self, words: Words) -> str:
        return self.spoken(sum(self.terms), words)

    def steps(self, words: Sequence[Words], slips: Sequence[int]) -> tuple[list[str], int]:
        """The steps, each in a language of its own, and the place of the answer; a slip is added to a step's total."""
        total, steps = self.terms[0], []
        for term, spoken, slip in zip(self.terms[1:], words, slips, strict=True):
            start = [] if steps else [spoken.numbers[total]]
            total = min(max(total + term + slip, 0), MAX_TOTAL)
            steps.append(text(*start, _operation(term, spoken), spoken.equals, spoken.numbers[total]))
        return steps, total


@dataclass(frozen=True)
class DayChain:
    """Which day of the week is some days later or earlier, several times?"""

    start: int
    moves: tuple[int, ...]

    @classmethod
    def sample(cls, rng: random.Random, level: int) -> DayChain:
        moves = [n for n in range(-MAX_MOVE, MAX_MOVE + 1) if n]
        return cls(rng.randrange(DAYS), tuple(rng.choices(moves, k=level)))

    @property
    def level(self) -> int:
        return len(self.moves)

    def canonical(self) -> str:
        """The text by which it is assigned to a split, the same for any order of the moves."""
        return f"days {self.start} {sorted(self.moves)}"

    def question(self, words: Words) -> str:
        return text(words.which_day, words.days[self.start], *(_move(n, words) for n in self.moves)) + "?"

    def spoken(self, place: int, words: Words) -> str:
        return words.days[place]

    def answer(self, words: Words) -> str:
        return self.spoken((self.start + sum(self.moves)) % DAYS, words)

    def steps(self, words: Sequence[Words], slips: Sequence[int]) -> tuple[list[str], int]:
        """The steps, each in a language of its own, and the place of the answer; a slip is added to a step's day."""
        day, steps = self.start, []
        for move, spoken, slip in zip(self.moves, words, slips, strict=True):
            start = [] if steps else [spoken.days[day]]
            day = (day + move + slip) % DAYS
            steps.append(text(*start, _move(move, spoken), spoken.equals, spoken.days[day]))
        return steps, day


Puzzle = SumChain | DayChain


def _operation(term: int, words: Words) -> str:
    return f"{words.plus if term > 0 else words.minus} {words.numbers[abs(term)]}"


def _move(days: int, words: Words) -> str:
    return f"{words.numbers[abs(days)]} {words.later if days > 0 else words.earlier}"
