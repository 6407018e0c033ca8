"""The words of the bilingual world: each is English or German and never both, so that languages can be counted.

    WORDS["de"].numbers[3]  # "drei"
    fraction("three und vier", "de")  # 2 of 3 words

In texts a space precedes every word and no punctuation mark, so that a word is one token of the alphabet `SYMBOLS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from r1jax.rewards.format import TAGS

Code = Literal["en", "de"]


@dataclass(frozen=True)
class Words:
    """The words of a language; those at the same place in two languages mean the same."""

    numbers: tuple[str, ...]
    plus: str
    minus: str
    equals: str
    compute: str
    days: tuple[str, ...]
    later: str
    earlier: str
    which_day: str
    nouns: tuple[str, ...]
    requests: tuple[str, ...]
    thought: str  # what precedes the nouns in the reasoning about a reply
    polite: tuple[str, ...]
    adjectives: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        phrases = (
            self.plus,
            self.minus,
            self.equals,
            self.compute,
            self.later,
            self.earlier,
            self.which_day,
            self.thought,
        )
        lists = (self.numbers, self.days, self.nouns, self.requests, self.polite, self.adjectives)
        words = (" ".join(phrases).split(), *lists)
        return tuple(dict.fromkeys(word for group in words for word in group))


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


WORDS: dict[Code, Words] = {
    "en": Words(
        numbers=_split(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen twenty"
        ),
        plus="and",
        minus="less",
        equals="is",
        compute="compute",
        days=_split("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
        later="later",
        earlier="earlier",
        which_day="which day is",
        nouns=_split("cat dog cow horse bird fish mouse bear fox sheep duck frog"),
        requests=_split("greet describe praise invite"),
        thought="say something kind of",
        polite=_split("please thanks dear"),
        adjectives=_split("small quick big old calm brave warm clever"),
    ),
    "de": Words(
        numbers=_split(
            "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
            "siebzehn achtzehn neunzehn zwanzig"
        ),
        plus="und",
        minus="weniger",
        equals="ist",
        compute="rechne",
        days=_split("Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag"),
        later="später",
        earlier="früher",
        which_day="welcher Tag ist",
        nouns=_split("Katze Hund Kuh Pferd Vogel Fisch Maus Bär Fuchs Schaf Ente Frosch"),
        requests=_split("begrüße beschreibe lobe rufe"),
        thought="sage etwas Nettes über",
        polite=_split("bitte danke liebe"),
        adjectives=_split("klein flink groß alt ruhig mutig herzlich schlau"),
    ),
}
PUNCTUATION = (",", ".", "?")
SYMBOLS: tuple[str, ...] = (*TAGS, *PUNCTUATION, *(f" {word}" for words in WORDS.values() for word in words.all))
_LANGUAGE: dict[str, Code] = {word: language for language, words in WORDS.items() for word in words.all}
_WORD = re.compile(r"[^\W\d_]+")


def text(*parts: str) -> str:
    """Words as the alphabet writes them: each after a space."""
    return "".join(f" {word}" for part in parts for word in part.split())


def words_of(text: str) -> list[str]:
    """The words of a text, without its tags, numbers in digits and punctuation."""
    for tag in TAGS:
        text = text.replace(tag, " ")
    return _WORD.findall(text)


def fraction(text: str, language: Code) -> float | None:
    """Num(words of the language) / Num(words) (DeepSeek-R1 2501.12948, section 2.3.2); None where there are no words.

    A word that is in neither list is in no language.
    """
    words = words_of(text)
    return sum(_LANGUAGE.get(word) == language for word in words) / len(words) if words else None
