"""Compares what is written with digits but is not a number: dates, clock times, ratios, numerals with a base.

same_notation("13:00", "1 pm")  # True
same_notation("13", "1 pm")  # False
same_notation("13", "1")  # None, because the gold answer is written in none of these notations
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
_CODE = re.compile(r"\d+(?:-\d+)+|\d+(?:/\d+){2,}", re.ASCII)  # a range, a score, a phone number, a date


def same_notation(answer: str, gold: str) -> bool | None:
    """Whether a plain text equals the gold answer in the gold's notation; None where the gold has none of these.

    - A date (2020-01-05, January 5, 2020, 5 January 2020): the same day.
    - A clock time (1:00, 13:00, 1 pm): the same second. Where the gold has am or pm, the answer has it too or is on the
      24-hour clock; where the gold has neither, am and pm are ignored.
    - A ratio (1:2): a proportional ratio, but not a fraction such as 1/2.
    - A numeral with a base (101_2): the same digits in the same base, or without a base, which the question may give.
    - Numbers joined by hyphens or by several slashes (a score, a range, a phone number): the same text.
    """
    results = (compare(answer, gold) for compare in (_dates, _clock_times, _ratios, _numerals, _codes))
    return next((result for result in results if result is not None), None)


def _dates(answer: str, gold: str) -> bool | None:
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


def _clock_times(answer: str, gold: str) -> bool | None:
    expected, given = _time(gold), _time(answer)
    if expected is None or given is None:
        return None if expected is None else False
    if expected[1] is None:
        return given[0] == expected[0] or (given[1] is not None and given[1] == expected[0])
    return expected[1] == (given[0] if given[1] is None and not 1 <= given[0] // 3600 <= 12 else given[1])


def _time(text: str) -> tuple[int, int | None] | None:
    """The seconds of a clock time as it is written; and since midnight, where it has am or pm."""
    parts = _CLOCK.fullmatch(text)
    if parts is None or not (parts[2] or parts[4]) or int(parts[1]) > 24:
        return None
    hour, rest = int(parts[1]), 60 * int(parts[2] or 0) + int(parts[3] or 0)
    since_midnight = None if parts[4] is None else 3600 * (hour % 12 + 12 * (parts[4] in "pP")) + rest
    return 3600 * hour + rest, since_midnight


def _ratios(answer: str, gold: str) -> bool | None:
    expected, given = gold.split(":"), answer.split(":")
    terms = [number(term) for term in expected]
    if len(terms) < 2 or any(term is None for term in terms):
        return None
    others = [number(term) for term in given]
    if len(others) != len(terms) or any(term is None for term in others):
        return False
    return all(a * terms[0] == b * others[0] for a, b in zip(others, terms, strict=True))  # pyright: ignore


def _numerals(answer: str, gold: str) -> bool | None:
    expected = _numeral(gold)
    if expected is None:
        return None
    given = _numeral(answer)
    return given == expected if given else _digits(answer) == expected[0]


def _numeral(text: str) -> tuple[str, int] | None:
    parts = _BASED.fullmatch(text)
    if parts is None:
        return None
    names = _BASES.split()
    base = int(parts[2]) if parts[2].isdigit() else names.index(parts[2]) if parts[2] in names else 0
    return (_digits(parts[1]), base) if 2 <= base <= 36 else None


def _digits(text: str) -> str:
    return text.replace(",", "").lstrip("0").upper()


def _codes(answer: str, gold: str) -> bool | None:
    return False if _CODE.fullmatch(gold) else None  # the caller has compared the two texts before
