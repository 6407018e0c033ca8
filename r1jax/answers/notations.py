"""Dates, clock times, ratios and numerals with a base: what is written in digits and is no number.

same("13:00", "1 pm")  # True
same("13", "1 pm")  # False
same("13", "1")  # None: the gold has none of these forms
"""

from __future__ import annotations

import re
from datetime import date

from r1jax.answers.quantities import number

_CLOCK = re.compile(r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))? ?(?:([ap])\.? ?m\.?)?", re.IGNORECASE | re.ASCII)
_BASED = re.compile(r"(\d\w*) ?_ ?\{? ?(\d+|[a-z]+) ?\}?", re.ASCII)
_BASES: str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_MONTHS: str = "jan feb mar apr may jun jul aug sep oct nov dec"
_YEAR_FIRST = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})", re.ASCII)
_MONTH_FIRST = re.compile(r"([A-Za-z]{3})[a-z]*\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})", re.ASCII)
_DAY_FIRST = re.compile(r"(\d{1,2})(?:st|nd|rd|th)? ([A-Za-z]{3})[a-z]*\.?,? (\d{4})", re.ASCII)
_CODE = re.compile(r"\d+(?:-\d+)+|\d+(?:/\d+){2,}", re.ASCII)  # a range, a score, a telephone number, a date


def same(answer: str, gold: str) -> bool | None:
    """Whether a plain text is the gold, by the notation of the gold; None where it has none of these.

    - date (2020-01-05, January 5, 2020, 5 January 2020): the same day. Clock time (1:00, 13:00, 1 pm): the same second.
      Where the gold has am or pm, so must the answer, or be on the 24-hour clock; where it has none, that is ignored.
    - ratio (1:2): proportional ratios; 1/2 is none.
    - numeral with a base (101_2): the same digits in the same base, or without one, which the question gives.
    - numbers joined by hyphens, or by more than one slash (a score, a range, a telephone number): the same text.
    """
    verdicts = (kind(answer, gold) for kind in (_date, _clock, _ratio, _based, _code))
    return next((verdict for verdict in verdicts if verdict is not None), None)


def _date(answer: str, gold: str) -> bool | None:
    expected = _day(gold)
    return None if expected is None else _day(answer) == expected


def _day(text: str) -> date | None:
    if parts := _YEAR_FIRST.fullmatch(text):
        year, month, day = parts.groups()
    elif parts := _MONTH_FIRST.fullmatch(text):
        month, day, year = parts.groups()
    elif parts := _DAY_FIRST.fullmatch(text):
        day, month, year = parts.groups()
    else:
        return None
    try:
        return date(int(year), int(month) if month.isdigit() else _MONTHS.split().index(month.lower()) + 1, int(day))
    except ValueError:
        return None


def _clock(answer: str, gold: str) -> bool | None:
    expected, said = _time(gold), _time(answer)
    if expected is None or said is None:
        return None if expected is None else False
    if expected[1] is None:
        return said[0] == expected[0] or (said[1] is not None and said[1] == expected[0])
    return expected[1] == (said[0] if said[1] is None and not 1 <= said[0] // 3600 <= 12 else said[1])


def _time(text: str) -> tuple[int, int | None] | None:
    """Seconds as written, and since midnight where it says am or pm."""
    parts = _CLOCK.fullmatch(text)
    if parts is None or not (parts[2] or parts[4]) or int(parts[1]) > 24:
        return None
    hour, rest = int(parts[1]), 60 * int(parts[2] or 0) + int(parts[3] or 0)
    half = None if parts[4] is None else 3600 * (hour % 12 + 12 * (parts[4] in "pP")) + rest
    return 3600 * hour + rest, half


def _ratio(answer: str, gold: str) -> bool | None:
    expected, said = gold.split(":"), answer.split(":")
    terms = [number(term) for term in expected]
    if len(terms) < 2 or any(term is None for term in terms):
        return None
    others = [number(term) for term in said]
    if len(others) != len(terms) or any(term is None for term in others):
        return False
    return all(a * terms[0] == b * others[0] for a, b in zip(others, terms, strict=True))  # pyright: ignore


def _based(answer: str, gold: str) -> bool | None:
    expected = _numeral(gold)
    if expected is None:
        return None
    said = _numeral(answer)
    return said == expected if said else _digits(answer) == expected[0]


def _numeral(text: str) -> tuple[str, int] | None:
    parts = _BASED.fullmatch(text)
    if parts is None:
        return None
    names = _BASES.split()
    base = int(parts[2]) if parts[2].isdigit() else names.index(parts[2]) if parts[2] in names else 0
    return (_digits(parts[1]), base) if 2 <= base <= 36 else None


def _digits(text: str) -> str:
    return text.replace(",", "").lstrip("0").upper()


def _code(answer: str, gold: str) -> bool | None:
    return False if _CODE.fullmatch(gold) else None  # the same text was found before
