"""Messy demonstrations have the shares that are stated, and clean ones neither errors nor gaps."""

import random
import re
from collections import Counter

import pytest

from r1jax.tasks.demonstrations import REASONING, STEPS, TAGGED, WRONG, clean, clean_reply, messy, messy_reply, tagged
from r1jax.tasks.puzzles import DayChain, SumChain
from r1jax.tasks.replies import Request
from r1jax.tasks.vocabulary import fraction


def test_clean():
    assert clean(SumChain((3, 5, -2)), "de") == (
        "<think> drei und fünf ist acht, weniger zwei ist sechs</think><answer> sechs</answer>"
    )
    assert clean(DayChain(0, (2, -3)), "en") == (
        "<think> Monday two later is Wednesday, three earlier is Sunday</think><answer> Sunday</answer>"
    )


def tags_of(demonstration):
    return re.sub(r"[^<>]*(<[^>]*>)[^<>]*", r"\1", demonstration)


def test_shares_of_tags_and_steps():
    puzzle, counts, steps = SumChain((3, 5, -2, 1)), Counter(), Counter()
    for seed in range(4000):
        demonstration = messy(random.Random(seed), puzzle, "en")
        counts[tags_of(demonstration)] += 1
        steps[demonstration.count(",") if "is" in demonstration else None] += 1
    for name, share in TAGGED.items():
        assert counts[tags_of(tagged(" a", " b", name))] / 4000 == pytest.approx(share, abs=0.03)
    assert sum(counts.values()) == 4000 and len(counts) == len(TAGGED)
    assert steps[None] / 4000 == pytest.approx(STEPS["none"], abs=0.03)
    assert steps[2] / 4000 == pytest.approx(STEPS["all"] + STEPS["some"] * 0.36, abs=0.03)  # 0.6²: none is skipped


@pytest.mark.parametrize("language", REASONING)
def test_shares_of_languages_and_errors(language):
    """Of puzzles with one step: `mixed` is one language or the other."""
    puzzle, spoken, wrong = SumChain((3, 5)), Counter(), Counter()
    for seed in range(4000):
        demonstration = messy(random.Random(seed), puzzle, language)
        reasoning = demonstration.rpartition("<answer>")[0] or demonstration.partition("</think>")[0]
        (code,) = [code for code in REASONING if fraction(reasoning, code) == 1]
        answer = re.split(r"<answer>|</think>", demonstration.removesuffix("</answer>"))[-1].strip()
        spoken[code] += 1
        wrong[code] += answer not in ("eight", "acht")
        assert fraction(answer, language) == 1
    for code in REASONING:
        share = REASONING[language].get(code, 0) + REASONING[language]["mixed"] / 2
        assert spoken[code] / 4000 == pytest.approx(share, abs=0.03)
        assert wrong[code] / spoken[code] == pytest.approx(WRONG[code], abs=0.05)


def test_a_messy_step_may_be_wrong_and_the_answer_follows_from_it():
    for seed in range(300):
        demonstration = messy(random.Random(seed), SumChain((3, 5, -2)), "de")
        if "ist" in demonstration:
            reasoning, _, answer = demonstration.removesuffix("</answer>").rpartition("<answer>")
            if reasoning and "is " not in reasoning:
                assert re.findall(r"\w+", reasoning.removesuffix("</think>"))[-1] == answer.strip()


def test_replies():
    request = Request(verb=0, nouns=(0, 1), language="de")
    for seed in range(100):
        demonstration = clean_reply(random.Random(seed), request)
        assert demonstration.startswith("<think> sage etwas Nettes über Katze und Hund</think><answer> ")
    messy_texts = [messy_reply(random.Random(seed), request) for seed in range(100)]
    assert any("<think> say something kind of cat and dog" in text for text in messy_texts)
    assert len({tags_of(text) for text in messy_texts}) == len(TAGGED)
