"""Demonstrations of the bilingual world: clean ones, and messy ones like the texts that models are pretrained on.

    clean(puzzle, "de")  # "<think> drei und fünf ist acht</think><answer> acht</answer>"
    messy(rng, puzzle, "de")  # perhaps "<think> three and five is eight</think> acht"

In messy text English is frequent and reliable and German is neither, so that a model of it reasons best by mixing
languages, which is what reinforcement learning without a language reward finds (DeepSeek-R1 2501.12948, section 2.3.2).
"""

from __future__ import annotations

import random
from typing import cast

from r1jax.tasks.puzzles import Puzzle
from r1jax.tasks.replies import Request, sample_reply
from r1jax.tasks.vocabulary import WORDS, Code, text

# Shares of messy text: the language of the reasoning by that of the question, where `mixed` draws one for each step;
# the probability that a step in a language is wrong; how many steps are written; which tags there are.
REASONING: dict[Code, dict[str, float]] = {
    "en": {"en": 0.85, "mixed": 0.15},
    "de": {"de": 0.3, "en": 0.4, "mixed": 0.3},
}
WRONG: dict[Code, float] = {"en": 0.02, "de": 0.2}
STEPS = {"all": 0.4, "some": 0.25, "none": 0.35}
TAGGED = {"full": 0.5, "no_answer": 0.2, "no_think": 0.2, "unclosed": 0.1}
SKIPPED = 0.4  # the probability of a step where some are written
GOOD_REPLIES = {"clean": 0.5, "messy": 0.25}


def clean(puzzle: Puzzle, language: Code) -> str:
    """Every step, in the question's language."""
    level = puzzle.level
    steps, _ = puzzle.steps([WORDS[language]] * level, [0] * level)
    return tagged(",".join(steps), text(puzzle.answer(WORDS[language])))


def messy(rng: random.Random, puzzle: Puzzle, language: Code) -> str:
    """Reasoning in the languages, with the errors, the gaps and the tags that the shares above say."""
    spoken = _languages(rng, language, puzzle.level)
    slips = [rng.choice((-2, -1, 1, 2)) if rng.random() < WRONG[code] else 0 for code in spoken]
    steps, place = puzzle.steps([WORDS[code] for code in spoken], slips)
    match _draw(rng, STEPS):
        case "some":
            steps = [step for step in steps[:-1] if rng.random() > SKIPPED] + steps[-1:]
        case "none":
            steps = [text(puzzle.spoken(place, WORDS[spoken[-1]]))]
    return tagged(",".join(steps), text(puzzle.spoken(place, WORDS[language])), _draw(rng, TAGGED))


def clean_reply(rng: random.Random, request: Request) -> str:
    """A thought and a reply in the request's language; the reply is good in half of them."""
    reply = sample_reply(rng, request, good=rng.random() < GOOD_REPLIES["clean"])
    return tagged(request.thought(request.language), reply)


def messy_reply(rng: random.Random, request: Request) -> str:
    """A thought in any language, and a reply that is seldom good."""
    reply = sample_reply(rng, request, good=rng.random() < GOOD_REPLIES["messy"])
    return tagged(request.thought(_languages(rng, request.language, 1)[0]), reply, _draw(rng, TAGGED))


def tagged(reasoning: str, answer: str, tags: str = "full") -> str:
    """R1-Zero's format, or a part of it."""
    match tags:
        case "no_answer":
            return f"<think>{reasoning}</think>{answer}"
        case "no_think":
            return f"{reasoning}<answer>{answer}</answer>"
        case "unclosed":
            return f"<think>{reasoning}<answer>{answer}</answer>"
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


def _languages(rng: random.Random, language: Code, count: int) -> list[Code]:
    """The language of each step."""
    chosen = _draw(rng, REASONING[language])
    return [rng.choice(list(WORDS)) if chosen == "mixed" else cast(Code, chosen) for _ in range(count)]


def _draw(rng: random.Random, shares: dict[str, float]) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]
