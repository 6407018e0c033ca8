"""The reasoning problems of the bilingual world, in no language: chains of sums, and orders of nouns.

    puzzle = SumChain((3, 5, -2))
    puzzle.question(WORDS["en"])  # " compute three and five less two?"
    puzzle.steps([WORDS["en"]] * 2)  # [" three and five is eight", " less two is six"], 6

A puzzle's level is the number of its steps. Numbers and nouns are their places in the lists of `vocabulary.WORDS`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from r1jax.tasks.vocabulary import WORDS, Words, text

MAX_TOTAL = len(WORDS["en"].numbers) - 1
MAX_TERM = 9
NOUNS = range(len(WORDS["en"].nouns))
MAX_LEVEL = 6  # a line of 7 nouns, and a second one of 4


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
class Order:
    """Which noun is the last of the line that begins with `start`? `rules` say which noun stands before which."""

    rules: tuple[tuple[int, int], ...]
    start: int

    @classmethod
    def sample(cls, rng: random.Random, level: int) -> Order:
        """A line of `level` rules, and another, half as long, so that the answer is not the only end of a line."""
        nouns = rng.sample(NOUNS, level + 1 + max(1, level // 2) + 1)
        lines = nouns[: level + 1], nouns[level + 1 :]
        rules = [pair for line in lines for pair in itertools.pairwise(line)]
        return cls(tuple(rng.sample(rules, len(rules))), nouns[0])

    @property
    def line(self) -> list[int]:
        following, line = dict(self.rules), [self.start]
        while line[-1] in following:
            line.append(following[line[-1]])
        return line

    def canonical(self) -> str:
        """The text by which it is assigned to a split, the same for any order of the rules."""
        return f"orders {sorted(self.rules)} {self.start}"

    def question(self, words: Words) -> str:
        rules = ",".join(text(words.nouns[a], words.before, words.nouns[b]) for a, b in self.rules)
        return rules + "." + text(words.who_is_last_after, words.nouns[self.start]) + "?"

    @property
    def level(self) -> int:
        return len(self.line) - 1

    def spoken(self, place: int, words: Words) -> str:
        return words.nouns[place]

    def answer(self, words: Words) -> str:
        return self.spoken(self.line[-1], words)

    def steps(self, words: Sequence[Words], slips: Sequence[int]) -> tuple[list[str], int]:
        """The steps, each in a language of its own, and the place of the answer; a slip names another noun."""
        place, steps = self.start, []
        for (a, b), spoken, slip in zip(itertools.pairwise(self.line), words, slips, strict=True):
            place = (b + slip) % len(NOUNS)
            steps.append(text(spoken.nouns[a], spoken.before, spoken.nouns[place]))
        return steps, place


Puzzle = SumChain | Order


def _operation(term: int, words: Words) -> str:
    return f"{words.plus if term > 0 else words.minus} {words.numbers[abs(term)]}"
