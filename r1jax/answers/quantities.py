r"""Exact numbers and quantities, as models and data sets write them.

    number(r"1\frac{1}{2}")  # Fraction(3, 2)
    quantity("2 km") == Quantity(Fraction(2), unit="km")

All numbers are fractions, never floats. Only the four operations, powers and factorials are computed, up to MAX_BITS.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from r1jax.answers.latex import FUNCTIONS, plain

MAX_LENGTH = 200  # characters; a longer text is not read as a number
MAX_DEPTH = 30  # of nested brackets
MAX_BITS = 40_000  # of a numerator or denominator; 2006! has 19,200
SAME_PLACES = 6  # decimals from which a rounded value is accepted for a number with infinitely many
LITERAL = re.compile(r"[+-]?\d[\d,]*(?:\.\d*)?(?:/\d+)?", re.ASCII)  # a number, and no arithmetic
_LITERAL = re.compile(r" ?((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,4})(?![\w.]))?", re.ASCII)
_REPEATED = re.compile(r" ?\\(?:overline|bar) ?\{ ?(\d{1,50}) ?\}", re.ASCII)
_MIXED = re.compile(r" +(\d+)/(\d+)(?![\d./])", re.ASCII)
_EXPONENT = re.compile(r" *(-?\d+)", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[\d,]*\.(\d+)", re.ASCII)
_SPACED = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?![\d,])", re.ASCII)
_PERCENT = re.compile(r" ?(?:%|(?:percent(?:age)?|pct)\b\.?)(?: points?)?", re.IGNORECASE)
_LETTERS = "A-Za-z\u4e00-\u9fff"  # Chinese units too
_UNIT = re.compile(rf"(?:[ /*-]*[{_LETTERS}]++\.?(?: ?\^\{{?-?[123]\}}?)?){{0,5}}", re.ASCII)
_ONE_LETTER_UNITS = set("mgshlLJNWVAKCF")
_SCALES: dict[str, int] = dict(
    zip(
        ("dozen", "hundred", "thousand", "million", "billion", "trillion"),
        (12, 100, 10**3, 10**6, 10**9, 10**12),
        strict=True,
    )
)
_SCALE = re.compile(rf" ?({'|'.join(_SCALES)})\b", re.IGNORECASE)
# Words after a number that are not its unit, since they change it or go on with the sentence.
_NOT_UNITS: str = "half pi sqrt and or to plus minus times over mod am pm"
NOT_UNITS = {*_NOT_UNITS.split(), *FUNCTIONS.split()}
_KNOWN = {
    name: (dimension, Fraction(factor))
    for dimension, factor, names in (
        ("length", "0.001", "mm millimeter millimetre"),
        ("length", "0.01", "cm centimeter centimetre 厘米"),
        ("length", "1", "m meter metre 米"),
        ("length", "1000", "km kilometer kilometre 千米"),
        ("length", "0.0254", "in inch inches"),
        ("length", "0.3048", "ft foot feet"),
        ("length", "0.9144", "yd yard"),
        ("length", "1609.344", "mi mile"),
        ("mass", "0.001", "mg milligram"),
        ("mass", "1", "g gram 克"),
        ("mass", "1000", "kg kilogram 千克"),
        ("volume", "0.001", "ml milliliter millilitre"),
        ("volume", "1", "l liter litre"),
        ("time", "1", "s sec second"),
        ("time", "60", "min minute"),
        ("time", "3600", "h hr hour"),
        ("time", "86400", "day"),
        ("time", "604800", "week"),
        ("months", "1", "month"),
        ("months", "12", "yr year"),
        ("angle", "1", "degree"),
        ("force", "1", "N newton"),
        ("energy", "1", "J joule"),
        ("power", "1", "W watt"),
        ("yuan", "1", "yuan 元"),
        ("money", "0.01", "cent"),
        ("money", "1", "dollar"),
    )
    for name in names.split()
}
_ROUND = str.maketrans("[]", "()")
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}


@dataclass(frozen=True)
class Quantity:
    """A number, its unit as written ("" for none), and how many decimals it was written with, if it was a decimal."""

    value: Fraction
    unit: str = ""
    places: int = 0


def number(text: str) -> Fraction | None:
    r"""The value of a number as models and data sets write one; None for any other text.

    A unit or percent sign is dropped, so that 28% is 28 and 5 km is 5.
    """
    found = quantity(text)
    return None if found is None else found.value


def quantity(text: str) -> Quantity | None:
    r"""The number in a text and its unit; None for any other text.

    It reads decimals with separators (`1,000`, `1{,}000`, `1 000`), `\frac{a}{b}`, mixed numbers (`1\frac{1}{2}` and
    `1 1/2` are 3/2, not products), `0.\overline{3}`, `1.5e3` and `2 million`; sums, products, whole powers and
    factorials of these; and all of them with any markup that `latex.plain` removes. A division by zero and a number of
    more than MAX_BITS give None.
    """
    if len(text) > MAX_LENGTH:
        return None
    text = plain(text).removesuffix(".")
    if spaced := _SPACED.match(text):
        text = spaced.group().replace(" ", "") + text[spaced.end() :]
    reader = _Reader(text)
    value = reader.value()
    if value is None:
        return None
    while scale := _SCALE.match(text, reader.at):
        value, reader.at = value * _SCALES[scale[1].lower()], scale.end()
    decimal = _DECIMAL.fullmatch(text[: reader.at].strip())
    unit = text[reader.at :]
    if percent := _PERCENT.match(unit):
        kind, unit = "%", unit[percent.end() :]
    else:
        kind = unit.strip().replace(" ^", "^")
    return Quantity(value, kind, len(decimal[1]) if decimal else 0) if _is_unit(unit) else None


def same_quantity(answer: Quantity, gold: Quantity) -> bool:
    """Whether two quantities are exactly equal.

    A unit that is missing, or not in the table of this module, is ignored; two known units are compared, so that 5 cm
    is neither 5 kg nor 5 m, and 100 cm is 1 m. A percent sign that only one of the two has may mean a hundredth or a
    unit, so that 50% equals both 0.5 and 50. A number with infinitely many decimals, such as 1/3, may be rounded or
    truncated to SAME_PLACES decimals or more; nothing else is approximate.
    """
    if (answer.unit == "%") != (gold.unit == "%"):
        percent, other = (answer, gold) if answer.unit == "%" else (gold, answer)
        hundredth = Quantity(percent.value / 100, places=percent.places + 2 if percent.places else 0)
        return any(_close(p, Quantity(other.value, places=other.places)) for p in (percent, hundredth))
    measure, expected = known_unit(answer.unit), known_unit(gold.unit)
    if measure is None or expected is None or measure == expected:
        return _close(answer, gold)
    return measure[0] == expected[0] and answer.value * measure[1] == gold.value * expected[1]


def _close(a: Quantity, b: Quantity) -> bool:
    if a.value == b.value:
        return True
    for rounded, other in ((a, b), (b, a)):
        if rounded.places >= SAME_PLACES and not other.places and not _terminates(other.value):
            scaled = other.value * 10**rounded.places
            return rounded.value * 10**rounded.places in (math.trunc(scaled), round(scaled))
    return False


def _terminates(value: Fraction) -> bool:
    """Whether the number has finitely many decimals, as 3/8 has and 1/3 has not."""
    rest = value.denominator
    rest //= rest & -rest  # removes all factors of 2
    while rest % 5 == 0:
        rest //= 5
    return rest == 1


def known_unit(unit: str) -> tuple[str, Fraction] | None:
    """The dimension and the size of a known unit, such as ("length^2", 1/10000) for cm^2 and square centimeters."""
    sizes = [_single_measure(part) for part in re.split(r" ?/ ?| per ", unit)]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or len(known) > 2:
        return None
    if len(known) == 1:
        return known[0]
    (above, size), (below, divisor) = known
    return f"{above} per {below}", size / divisor


def _single_measure(unit: str) -> tuple[str, Fraction] | None:
    match = re.fullmatch(rf"(?:(square|sq|cubic|cu)\.? )?([{_LETTERS}]+?)\.?(?:\^\{{?([23])\}}?)?", unit)
    if match is None:
        return None
    word = match[2] if len(match[2]) < 2 else match[2].lower()
    known = _KNOWN.get(word) or (_KNOWN.get(word.removesuffix("s")) if len(word) > 2 else None)
    if known is None:
        return None
    power = _POWERS.get(match[1], 1) * int(match[3] or 1)
    return f"{known[0]}^{power}", known[1] ** power


def _is_unit(text: str) -> bool:
    """Whether the text after a number is its unit, in words or letters; without a space only a known unit is one."""
    if not _UNIT.fullmatch(text):
        return False
    if text[:1].isascii() and text[:1].isalpha():
        return text in _ONE_LETTER_UNITS or known_unit(text) is not None
    words = re.findall(rf"[{_LETTERS}]+", text)
    return all(w in _ONE_LETTER_UNITS if len(w) == 1 and w.isascii() else w.lower() not in NOT_UNITS for w in words)


def arithmetic(text: str) -> tuple[Fraction, list[int]] | None:
    """The value of `(25*3)-7 = 68` and the whole numbers in it, in order; None for anything else.

    Allowed are whole numbers without a sign, the four operations, brackets, and one trailing `= …`, which is ignored.
    """
    if len(text) > MAX_LENGTH:
        return None
    text, _, result = plain(text).translate(_ROUND).removesuffix(".").partition("=")
    reader = _Reader(text.strip())
    value = reader.value()
    if value is None or reader.others or reader.at < len(reader.text) or "=" in result:
        return None
    if not all(literal.isdecimal() for literal in reader.literals):
        return None
    return value, [int(literal) for literal in reader.literals]


class _Unreadable(Exception):
    """The text is not arithmetic, or its number is too large."""


class _Reader:
    """A recursive-descent parser of plain text; `at` is the position up to which it has read.

    `literals` are the numbers in it, and `others` is whether it has anything but the four operations.
    """

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0
        self.literals: list[str] = []
        self.others = False

    def value(self) -> Fraction | None:
        try:
            return self.sum()
        except (_Unreadable, ZeroDivisionError):
            return None

    def sum(self) -> Fraction:
        signed = self._take("-") or self._take("+")
        value = self._product() if signed != "-" else -self._product()
        self.others |= bool(signed)
        while sign := self._take("+") or self._take("-"):
            term = self._product()
            value = _bounded(value + term if sign == "+" else value - term)
        return value

    def _product(self) -> Fraction:
        value = self._power()
        while True:
            if sign := self._take("*") or self._take("/"):
                factor = -self._power() if self._take("-") else self._power()
                value = _bounded(value * factor if sign == "*" else value / factor)
            elif self._looking_at("(") or self._looking_at("\\frac"):
                value = _bounded(value * self._power())
            else:
                return value

    def _power(self) -> Fraction:
        value = self._atom()
        if not self._looking_at("!=") and self._take("!"):
            value, self.others = _factorial(value), True
        if self._take("^"):
            braced = self._looking_at("{") or self._looking_at("(")
            value = _raised(value, self._atom() if braced else Fraction(self._match(_EXPONENT)[1]))
            self.others = True
        return value

    def _atom(self) -> Fraction:
        if self._take("\\frac"):
            return _bounded(self._group("{", "}") / self._group("{", "}"))
        for opened, closed in ("()", "{}"):
            if self._looking_at(opened):
                return self._group(opened, closed)
        literal = self._match(_LITERAL)
        self.literals.append(literal[0].strip())
        value = Fraction(literal[1].replace(",", ""))
        if "." in literal[1] and (repeated := _REPEATED.match(self.text, self.at)):
            self.at = repeated.end()
            places = len(literal[1]) - literal[1].index(".") - 1
            return value + Fraction(int(repeated[1]), 10**places * (10 ** len(repeated[1]) - 1))
        if literal[2]:
            return _bounded(value * Fraction(10) ** int(literal[2]))
        return value if "." in literal[1] else value + self._fraction_of_mixed()

    def _fraction_of_mixed(self) -> Fraction:
        if self._looking_at("\\frac"):
            part = self._atom()
        elif mixed := _MIXED.match(self.text, self.at):
            self.at = mixed.end()
            part = Fraction(int(mixed[1]), int(mixed[2]))
        else:
            return Fraction(0)
        if not 0 <= part < 1:
            raise _Unreadable
        self.others = True
        return part

    def _group(self, opened: str, closed: str) -> Fraction:
        self.depth += 1
        if self.depth > MAX_DEPTH or not self._take(opened):
            raise _Unreadable
        value = self.sum()
        if not self._take(closed):
            raise _Unreadable
        self.depth -= 1
        return value

    def _looking_at(self, token: str) -> bool:
        return self.text.startswith(token, self.at) or self.text.startswith(" " + token, self.at)

    def _take(self, token: str) -> str:
        if not self._looking_at(token):
            return ""
        self.at = self.text.index(token, self.at) + len(token)
        return token

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise _Unreadable
        self.at = found.end()
        return found


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _Unreadable
    return value


def _factorial(value: Fraction) -> Fraction:
    if value.denominator > 1 or not 0 <= value <= 3000:
        raise _Unreadable
    return Fraction(math.factorial(int(value)))


def _raised(value: Fraction, exponent: Fraction) -> Fraction:
    bits = max(abs(value.numerator), value.denominator).bit_length()
    if exponent.denominator > 1 or abs(exponent) * bits > MAX_BITS:
        raise _Unreadable
    return value ** int(exponent)
