"""Puzzles against solvers that read their questions: Python's arithmetic, and its calendar."""

import datetime
import random
import re

import pytest

from r1jax.tasks.puzzles import DayChain, SumChain
from r1jax.tasks.vocabulary import WORDS


def solve_sums(question, words):
    first, *rest = question.removesuffix("?").removeprefix(f" {words.compute}").split()
    total = words.numbers.index(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        total += {words.plus: 1, words.minus: -1}[sign] * words.numbers.index(number)
        assert 0 <= total <= 20
    return words.numbers[total]


def solve_days(question, words):
    start, *rest = question.removesuffix("?").removeprefix(f" {words.which_day}").split()
    day = datetime.date(2024, 1, 1 + words.days.index(start))  # 1 January 2024 was a Monday
    for number, move in zip(rest[::2], rest[1::2], strict=True):
        days = datetime.timedelta(days=words.numbers.index(number))
        day = {words.later: day + days, words.earlier: day - days}[move]
    return words.days[day.weekday()]


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize(("kind", "solve"), [(SumChain, solve_sums), (DayChain, solve_days)])
def test_answers_and_steps_are_right(kind, solve, language):
    words, rng = WORDS[language], random.Random(0)
    for level in range(1, 9):
        for _ in range(100):
            puzzle = kind.sample(rng, level)
            steps, place = puzzle.steps([words] * level, [0] * level)
            gold = solve(puzzle.question(words), words)
            assert puzzle.level == len(steps) == level
            assert puzzle.answer(words) == puzzle.spoken(place, words) == gold == steps[-1].split()[-1]


def test_steps_of_a_sum_are_true():
    words, rng = WORDS["de"], random.Random(1)
    for _ in range(200):
        puzzle = SumChain.sample(rng, 4)
        said = ",".join(puzzle.steps([words] * 4, [0] * 4)[0])
        place = {word: str(i) for i, word in enumerate(words.numbers)} | {"und": "+", "weniger": "-", "ist": "=="}
        first, *rest = (" ".join(place[word] for word in step.split()) for step in said.split(","))
        assert eval(first)
        for before, step in zip([first, *rest], rest, strict=False):
            assert eval(before.rpartition("==")[2] + step)


def test_steps_in_two_languages_and_with_slips():
    two = [WORDS["en"], WORDS["de"]]
    assert SumChain((3, 5, -2)).steps(two, [0, 1]) == ([" three and five is eight", " weniger zwei ist sieben"], 7)
    assert SumChain((3, -2, -1)).steps(two, [-2, 0])[1] == 0  # totals stay in their range
    mixed = DayChain(5, (2, -1)).steps(two, [0, 1])
    assert mixed == ([" Saturday two later is Monday", " eins früher ist Montag"], 0)


def test_one_problem_has_one_canonical_text():
    assert SumChain((3, 5, -2)).canonical() == SumChain((5, -2, 3)).canonical() != SumChain((3, 5, 2)).canonical()
    assert DayChain(0, (1, -2)).canonical() == DayChain(0, (-2, 1)).canonical() != DayChain(1, (1, -2)).canonical()


def test_no_question_without_words_in_the_language():
    for language, words in WORDS.items():
        for kind in (SumChain, DayChain):
            question = kind.sample(random.Random(2), 3).question(words)
            assert set(re.findall(r"[^\W\d_]+", question)) <= set(WORDS[language].all)
