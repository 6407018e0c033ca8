r"""Exact numbers and quantities, as models and data sets write them.

    number(r"1\frac{1}{2}")  # Fraction(3, 2)
    quantity("2 km") == Quantity(Fraction(2), unit="km")

All numbers are fractions, never floats. Only the four operations, powers and factorials are computed, up to MAX_BITS.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from fractions import Fraction
from operator import add, mul, sub, truediv
from typing import NamedTuple

from r1jax.answers.latex import FUNCTIONS, plain

MAX_LENGTH = 200  # characters; a longer text is not read as a number
MAX_BITS = 40_000  # of a numerator or denominator; 2006! has 19,200
SAME_PLACES = 6  # decimals from which a rounded value is accepted for a number with infinitely many
# The arithmetic that a text begins with.
_PREFIX = re.compile(
    r"(?:[-+*/^!(){}\d., ]|\\frac|\\(?:overline|bar) ?\{ ?\d+ ?\}|(?<=\d)[eE][+-]?\d{1,4}(?![\w.]))*", re.ASCII
)
_GROUPED = re.compile(r"^[+-]?\d{1,3}(?: \d{3})+(?![\d,])|(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", re.ASCII)
_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*) ?\\(?:overline|bar) ?\{ ?(\d{1,50}) ?\}", re.ASCII)
_LITERAL = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_FRACTION = re.compile(r"\\frac ?\{([^{}]*)\} ?\{([^{}]*)\}")
_MIXED = re.compile(r"(?<![\d.)])(\d+)(?: ?\(\((\d+)\)/\((\d+)\)\)| (\d+)/(\d+)(?![\d./]))", re.ASCII)
_FACTORIAL = re.compile(r"([\d.]+|\([^()]*\)) ?!(?!=)", re.ASCII)
# Two numbers without an operation between them, two signs, and a tower of powers.
_UNCLEAR = re.compile(r"\\|[\d.)] +[\d.]|\.\d*\.|[+-] *[+-]|\^[({ ]*[-\d.]+[)} ]*\^", re.ASCII)
_OPERATIONS = {ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.Div: truediv, ast.Pow: pow}
_PERCENT = re.compile(r"^ ?(?:%|(?:percent(?:age)?|pct)\b\.?)(?: points?)?", re.IGNORECASE)
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALE = re.compile(rf" ?({'|'.join(_SCALES)})\b", re.IGNORECASE)
_LETTERS = "A-Za-z\u4e00-\u9fff"  # Chinese units too
_MEASURE = re.compile(rf"(?:(square|sq|cubic|cu)\.? )?([{_LETTERS}]+?)\.?(?:\^\{{?([23])\}}?)?")
CHANGES = (
    "squared|cubed|factorial|halves|thirds|quarters|fifths|sixths|sevenths|eighths|ninths|tenths|twelfths|hundredths"
    "|thousandths|below"
)
# Words after a number that are not its unit, since they change it or go on with the sentence.
NOT_UNITS = rf"(?i:half|pi|and|or|to|plus|minus|times|over|mod|am|pm|{CHANGES}|{FUNCTIONS})(?![A-Za-z])"
_TABLE = """
length: 0.001 mm millimeter millimetre, 0.01 cm centimeter centimetre 厘米, 1 m meter metre 米
length: 1000 km kilometer kilometre 千米, 0.0254 in inch inches, 0.3048 ft foot feet, 0.9144 yd yard, 1609.344 mi mile
mass: 0.001 mg milligram, 1 g gram 克, 1000 kg kilogram 千克, 453.59237 lb pound, 28.349523125 oz ounce
volume: 0.001 ml milliliter millilitre, 1 l L liter litre, 3.785411784 gal gallon, 0.946352946 quart
time: 1 s sec second, 60 min minute, 3600 h hr hour, 86400 day, 604800 week; months: 1 month, 12 yr year
length^1 per time: 0.44704 mph, 5/18 kph
money: 0.01 cent, 1 dollar; euro: 1 euro; yuan: 1 yuan 元; angle: 1 degree; radian: 1 radian
force: 1 N newton; energy: 1 J joule; power: 1 W watt; voltage: 1 V volt; current: 1 A ampere
kelvin: 1 K kelvin; celsius: 1 C celsius; fahrenheit: 1 F fahrenheit
"""
_KNOWN = {
    name: (dimension, Fraction(factor))
    for dimension, units in (entry.split(": ") for entry in re.split("; |\n", _TABLE.strip()))
    for factor, *names in (unit.split() for unit in units.split(", "))
    for name in names
    for name in {name, name + "s"[: len(name) - 1]}
}
KNOWN_UNITS = "|".join(sorted(_KNOWN, key=len, reverse=True))
_LETTER = "".join(name for name in _KNOWN if len(name) == 1)
# What may follow a number: up to five units and words, in which a single letter is a known unit.
_UNIT = re.compile(
    rf"(?! ?\*)(?:[ /*-]*(?:[{_LETTER}](?![A-Za-z])|(?!{NOT_UNITS})[A-Za-z]{{2,}}+|[\u4e00-\u9fff]++)"
    r"\.?(?: ?\^\{?-?[123]\}?)?){0,5}"
)


class Quantity(NamedTuple):
    """A number, its unit as written ("" for none), and how many decimals it was written with, if it was a decimal."""

    value: Fraction
    unit: str = ""
    places: int = 0


def number(text: str) -> Fraction | None:
    """The value of a `quantity`, without its unit, so that 28% is 28 and 5 km is 5; None for any other text."""
    return getattr(quantity(text), "value", None)


@functools.lru_cache(maxsize=128)
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
    written = _PREFIX.match(text)[0].rstrip(" -*/")  # pyright: ignore[reportOptionalSubscript]
    value, unit = _value(written), text[len(written) :]
    if value is None:
        return None
    while scale := _SCALE.match(unit):
        value, unit = value * _SCALES[scale[1].lower()], unit[scale.end() :]
    decimals = re.fullmatch(r"[+-]?[\d, ]*\.(\d+)", written, re.ASCII)
    words = _PERCENT.sub("", unit)
    touching = re.match("[A-Za-z]", words)  # as in 5cm, but 5x is a product
    if not _UNIT.fullmatch(words) or (touching and known_unit(words) is None):
        return None
    name = words.strip().replace(" ^", "^") if words == unit else "%"
    return Quantity(value, name, len(decimals[1]) if decimals else 0)


def same_quantity(answer: Quantity, gold: Quantity) -> bool:
    """Whether two quantities are exactly equal.

    A unit that is missing, or not in the table of this module, is ignored; two known units are compared, so that 5 cm
    is neither 5 kg nor 5 m, and 100 cm is 1 m. A percent sign that only one of the two has may mean a hundredth or a
    unit, so that 50% equals both 0.5 and 50. A number that is not written as a decimal, such as 1/3, may be rounded or
    truncated to SAME_PLACES decimals or more; nothing else is approximate.
    """
    if (answer.unit == "%") != (gold.unit == "%"):
        percent, other = (answer, gold) if answer.unit == "%" else (gold, answer)
        hundredth = Quantity(percent.value / 100, places=percent.places + 2 if percent.places else 0)
        return _close(percent, other) or _close(hundredth, other)
    measure, expected = known_unit(answer.unit), known_unit(gold.unit)
    if measure is None or expected is None or measure == expected:
        return _close(answer, gold)
    return measure[0] == expected[0] and answer.value * measure[1] == gold.value * expected[1]


def _close(a: Quantity, b: Quantity) -> bool:
    rounded, exact = (a, b) if a.places > b.places else (b, a)
    if rounded.places < SAME_PLACES or exact.places:
        return a.value == b.value
    return rounded.value * 10**rounded.places in {cut(exact.value * 10**rounded.places) for cut in (math.trunc, round)}


def known_unit(text: str) -> tuple[str, Fraction] | None:
    """The dimension and the size of a known unit, such as ("length^2", 1/10000) for cm^2 and square centimeters."""
    dimensions, size = [], Fraction(1)
    for part in re.split(r" ?/ ?| per ", text):
        measure = _MEASURE.fullmatch(part)
        name = measure[2] if measure else ""
        known = _KNOWN.get(name if len(name) == 1 else name.lower())
        if measure is None or known is None:
            return None
        power = {"s": 2, "c": 3}.get((measure[1] or "")[:1], 1) * int(measure[3] or 1)
        size *= known[1] ** (-power if dimensions else power)
        dimensions.append(f"{known[0]}^{power}")
    return " per ".join(dimensions), size


def _value(text: str) -> Fraction | None:
    """The value of plain arithmetic, which is written as Python with quoted numbers, parsed, and computed exactly."""
    text = _GROUPED.sub(lambda digits: re.sub("[ ,]", "", digits[0]), text)
    if _LITERAL.fullmatch(text):
        return Fraction(text)
    text = _REPEATING.sub(_repeating, text)
    for _ in range(text.count("\\frac")):  # from the inside
        text = _FRACTION.sub(r"((\1)/(\2))", text)
    text = _MIXED.sub(_mixed, text)
    if _UNCLEAR.search(text):
        return None
    text = text.replace("^", "**").replace("{", "(").replace("}", ")")
    text = re.sub(r"(?<=[\d.)]) ?(?=\()", "*", _FACTORIAL.sub(r"factorial(\1)", text))
    try:
        return _computed(ast.parse(_LITERAL.sub(r"'\g<0>'", text).strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, LookupError, RecursionError, MemoryError):
        return None


def _repeating(literal: re.Match[str]) -> str:
    once, places = literal[1] + literal[2], len(literal[2])
    return f"({int(once + literal[3]) - int(once or 0)}/{10 ** (places + len(literal[3])) - 10**places})"


def _mixed(literal: re.Match[str]) -> str:
    top, bottom = literal[2] or literal[4], literal[3] or literal[5]
    return f"({literal[1]}+({top})/({bottom}))" if int(top) < int(bottom) else literal[0] + "\\"  # neither 3/2 nor 1


def _computed(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=str(literal)):
            return Fraction(literal)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            return _computed(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
        case ast.BinOp():
            left, right = _computed(node.left), _computed(node.right)
            bits = max(abs(left.numerator), left.denominator).bit_length()
            if isinstance(node.op, ast.Pow) and (right.denominator > 1 or abs(right) * bits > MAX_BITS):
                raise ValueError
            result = _OPERATIONS[type(node.op)](left, right)
        case ast.Call(args=[argument]) if (value := _computed(argument)).denominator == 1 and 0 <= value <= 3000:
            result = Fraction(math.factorial(int(value)))
        case _:
            raise ValueError
    if max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
        raise ValueError
    return result
