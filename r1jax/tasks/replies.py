"""The general requests of the bilingual world, replies to them, and the rule that says how good a reply is.

    request = Request("greet", ("cat", "dog"), "en")
    request.question()  # " greet cat and dog."
    rule(request, " dear small cat and dog")  # 1.0

Nothing but preference pairs tells a model of the rule: a good reply names what the request is about and nothing else,
has a polite word, and is MODERATE words long.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from r1jax.tasks.vocabulary import WORDS, Code, text, words_of

MODERATE = range(5, 10)  # words of a good reply
WORDS_OF_REPLY = range(2, 13)
Lengths = Literal["balanced", "confounded"]


@dataclass(frozen=True)
class Request:
    """A request by places in the word lists: the verb and one to three nouns."""

    verb: int
    nouns: tuple[int, ...]
    language: Code

    @classmethod
    def sample(cls, rng: random.Random, language: Code) -> Request:
        words = WORDS[language]
        nouns = tuple(rng.sample(range(len(words.nouns)), rng.choice((1, 2, 3))))
        return cls(rng.randrange(len(words.requests)), nouns, language)

    def canonical(self) -> str:
        """The text by which it is assigned to a split, the same for any order of the nouns."""
        return f"general {self.verb} {sorted(self.nouns)}"

    def question(self) -> str:
        return text(WORDS[self.language].requests[self.verb], self.named()) + "."

    def thought(self, language: Code) -> str:
        """The reasoning before a reply."""
        return text(WORDS[language].thought, self.named(language))

    def named(self, language: Code | None = None) -> str:
        words = WORDS[language or self.language]
        return f" {words.plus} ".join(words.nouns[noun] for noun in self.nouns)


def rule(request: Request, reply: str) -> float:
    """The mean of three: the overlap of the nouns named and asked for, a polite word, and a moderate length."""
    words, said = WORDS[request.language], words_of(reply)
    asked = {words.nouns[noun] for noun in request.nouns}
    named = {word for word in said if any(word in other.nouns for other in WORDS.values())}
    polite = any(word in words.polite for word in said)
    return (len(asked & named) / len(asked | named) + polite + (len(said) in MODERATE)) / 3


def sample_reply(rng: random.Random, request: Request, *, good: bool) -> str:
    """A reply with full marks, or one that is now and then off the topic, impolite, too short or too long."""
    words, topic, polite = WORDS[request.language], request, True
    length = rng.choice(MODERATE)
    if not good:
        length, polite = rng.choice(WORDS_OF_REPLY), rng.random() < 0.5
        if rng.random() < 0.5:
            topic = Request.sample(rng, request.language)
    greeted = [rng.choice(words.polite)] * polite
    named = topic.named().split()
    described = rng.sample(words.adjectives, len(words.adjectives)) * 2
    return text(*greeted, *described[: max(length - len(greeted) - len(named), 0)], *named)


def sample_replies(rng: random.Random, request: Request, lengths: Lengths) -> tuple[str, str]:
    """A reply and a worse one.

    Balanced: the better one is as often the longer one as the shorter one (DeepSeek-R1 2501.12948, section 3.1).
    Confounded: it is always the longer one, so that a model of these pairs may take length for quality.
    """
    longer = lengths == "confounded" or rng.random() < 0.5
    while True:
        replies = [sample_reply(rng, request, good=rng.random() < 0.5) for _ in range(2)]
        better, worse = sorted(replies, key=lambda reply: rule(request, reply), reverse=True)
        difference = len(words_of(better)) - len(words_of(worse))
        if rule(request, better) > rule(request, worse) and (difference > 0 if longer else difference < 0):
            return better, worse
