"""Puzzles against solvers that read their questions: Python's arithmetic, and a search over the rules."""

import random
import re

import pytest

from r1jax.tasks.puzzles import MAX_LEVEL, Order, SumChain
from r1jax.tasks.vocabulary import WORDS


def solve_sums(question, words):
    first, *rest = question.removesuffix("?").removeprefix(f" {words.compute}").split()
    total = words.numbers.index(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        total += {words.plus: 1, words.minus: -1}[sign] * words.numbers.index(number)
        assert 0 <= total <= 20
    return words.numbers[total]


def solve_order(question, words):
    statements, asked = question.split(".")
    rules = {tuple(rule.split(f" {words.before} ")) for rule in (part.strip() for part in statements.split(","))}
    reached = {asked.removesuffix("?").split()[-1]}
    while more := {b for a, b in rules if a in reached} - reached:
        reached |= more
    (last,) = [noun for noun in reached if all(a != noun for a, _ in rules)]
    return last


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize(("kind", "solve"), [(SumChain, solve_sums), (Order, solve_order)])
def test_answers_and_steps_are_right(kind, solve, language):
    words, rng = WORDS[language], random.Random(0)
    for level in range(1, MAX_LEVEL + 1):
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


def test_there_is_a_second_line_that_does_not_meet_the_first():
    for seed in range(100):
        order = Order.sample(random.Random(seed), 4)
        nouns = [noun for rule in order.rules for noun in rule]
        ends = [noun for noun in set(nouns) if nouns.count(noun) == 1]
        assert len(ends) == 4 and len(order.rules) == 6


def test_steps_in_two_languages_and_with_slips():
    two = [WORDS["en"], WORDS["de"]]
    assert SumChain((3, 5, -2)).steps(two, [0, 1]) == ([" three and five is eight", " weniger zwei ist sieben"], 7)
    assert SumChain((3, -2, -1)).steps(two, [-2, 0])[1] == 0  # totals stay in their range
    assert Order(((1, 2), (0, 1), (3, 4)), 0).steps(two, [0, 1]) == ([" cat before dog", " Hund vor Pferd"], 3)


def test_one_problem_has_one_canonical_text():
    assert SumChain((3, 5, -2)).canonical() == SumChain((5, -2, 3)).canonical() != SumChain((3, 5, 2)).canonical()
    assert Order(((1, 2), (0, 1)), 0).canonical() == Order(((0, 1), (1, 2)), 0).canonical()
    assert Order(((1, 2), (0, 1)), 0).canonical() != Order(((1, 2), (0, 1)), 1).canonical()


def test_no_question_without_words_in_the_language():
    for language, words in WORDS.items():
        for kind in (SumChain, Order):
            question = kind.sample(random.Random(2), 3).question(words)
            assert set(re.findall(r"[^\W\d_]+", question)) <= set(WORDS[language].all)
