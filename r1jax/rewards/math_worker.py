"""Compares expressions with math-verify's LaTeX parser and sympy, in the worker processes of `rewards.accuracy`.

Only those processes import this module, so that loading the libraries does not count as time of a comparison. All text
has passed `equivalence.provable`. math-verify parses LaTeX with a grammar, not with `eval`; its parser for plain
expressions, which is built on `eval`, is never called. Its time-outs are switched off, since a slow worker is killed.
"""

from __future__ import annotations

import functools
import random
import re
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy.core.relational import Relational

from r1jax.answers.equivalence import KNOWN, same_answer
from r1jax.answers.quantities import SAME_PLACES

DIGITS = 30  # to which equal values agree
POINTS = 6  # random values of the variables at which two expressions are compared
ATTEMPTS = 40  # at finding such points, since logarithms and roots are not real everywhere
FLOAT_PLACES = 12  # decimals to which a float is trusted
_OF_WHOLE_NUMBERS = (sympy.Sum, sympy.Product, sympy.factorial, sympy.binomial)  # may be defined for these alone
_STRICT = (sympy.StrictLessThan, sympy.StrictGreaterThan)
_ORDERED = (*_STRICT, sympy.LessThan, sympy.GreaterThan)
_VARIABLES = re.compile(r"\\[A-Za-z]+|([A-Za-z]+)(?: ?_ ?(?:\{([^{}]*)\}|(\w)))?")
_LATEX = LatexExtractionConfig(
    normalization_config=NormalizationConfig(malformed_operators=True, nits=True, boxed="none")
)


def same(answer: str, gold: str) -> bool:
    """What the worker runs: `equivalence.same_answer` with `prove`."""
    return same_answer(answer, gold, prove)


def prove(answer: str, gold: str) -> bool:
    """Whether two expressions, equations, inequalities or sets are equal; False where one cannot be parsed.

    Expressions are equal where their values agree to DIGITS digits at random values of their variables
    (Schwartz-Zippel, without simplification). Points at which they are not real are skipped where POINTS real ones are
    found, so that ln(x^2) is 2 ln(x). Equations and inequalities are equal where the differences of their sides are
    proportional, and inequalities in one variable also where they describe the same set. Sets and matrices are compared
    by math-verify.
    """
    given, expected = both = [_parsed(answer), _parsed(gold)]
    if all(isinstance(found, sympy.Expr) for found in both):
        decimals = [len(found[1]) for text in (answer, gold) if (found := re.fullmatch(r"[+-]?\d*\.(\d+)", text))]
        rounded = [min(places, FLOAT_PLACES) for places in decimals[:1] if places >= SAME_PLACES]
        return _same_expression(given, expected, *(sympy.Rational(1, 10**places) for places in rounded))
    if all(isinstance(found, sympy.Eq) for found in both):
        return _proportional(*(sympy.fraction(sympy.together(found.lhs - found.rhs))[0] for found in both))
    ordered = [isinstance(found, _ORDERED) for found in both]
    if any(ordered) and None not in both and given.free_symbols == expected.free_symbols:
        scalable = all(ordered) and isinstance(given, _STRICT) == isinstance(expected, _STRICT)
        if scalable and _proportional(*(found.gts - found.lts for found in both), positive=True):
            return True
        return len(given.free_symbols) == 1 and given.as_set() == expected.as_set()
    for kinds in ((sympy.MatrixBase, sympy.MatrixExpr), (sympy.Set, sympy.Tuple, Relational, sympy.And)):
        if all(isinstance(found, kinds) for found in both):
            return bool(verify(expected, given, timeout_seconds=None, allow_set_relation_comp=True))
    return False


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """The parsed text, with exact decimals, and with i as the imaginary unit where it is not an index."""
    text = re.sub(r"\\log ?_ ?(?:e|\{ ?e ?\})", r"\\ln ", text)
    text = re.sub(r"\* ?(?=\\(?:sin|cos|tan|cot|sec|csc|ln|log))", " ", text)  # else sin a * cos b is sin(a cos b)
    if "\\int" not in text:
        text = _VARIABLES.sub(_product, text)
    found = parse(f"${text}$", [_LATEX], fallback_mode="no_fallback", parsing_timeout=None)  # pyright: ignore
    if not found or not hasattr(found[0], "free_symbols"):
        return None
    exact = {decimal: sympy.Rational(str(decimal)) for decimal in found[0].atoms(sympy.Float)}
    unit = {symbol: sympy.I for symbol in found[0].free_symbols if symbol.name == "i"}
    return found[0].subs(exact | unit) if exact or unit else found[0]


def _product(word: re.Match[str]) -> str:
    """A run of letters as the product of its variables, since the parser reads tr as a trace and V as v."""
    letters, index = word[1], word[2] or word[3] or ""
    if letters is None or letters in KNOWN:
        return word.group()
    *first, last = (f"{letter.lower()}_{{U}}" if letter.isupper() else letter for letter in letters)
    if index:
        last = f"{letters[-1].lower()}_{{{'U' * letters[-1].isupper()}{index}}}"
    return "*".join([*first, last])


def _same_expression(given: sympy.Expr, expected: sympy.Expr, rounding: Any = 0) -> bool:
    if bool(given.free_symbols) != bool(expected.free_symbols):
        return False
    points, real, others = _points(given, expected), [], []
    for point in points:
        a, b = _value(given, point), _value(expected, point)
        if a is not None and b is not None:
            tolerance = max(rounding, sympy.Float(10) ** -DIGITS * max(abs(a), abs(b)))
            (real if a.is_real and b.is_real else others).append(bool(abs(a - b) <= tolerance))
        if len(real) == POINTS or False in real:
            return all(real)
    found = real or others
    return len(found) >= min(POINTS, len(points)) and all(found)


def _proportional(given: Any, expected: Any, *, positive: bool = False) -> bool:
    """Whether the one is a constant multiple of the other."""
    for point in _points(given, expected):
        a, b = _value(given, point), _value(expected, point)
        if a and b and a.is_real and b.is_real:
            return (a * b > 0 or not positive) and _same_expression(given * b, expected * a)
    return False


def _points(given: Any, expected: Any) -> list[dict[Any, Any]]:
    """Random values of the variables, whole numbers where the expressions may be defined for these alone.

    At most one is negative, each in its turn: xy is not |x|y, but sqrt(xy) is sqrt(x) sqrt(y) unless both are negative.
    """
    symbols, rng = sorted(given.free_symbols | expected.free_symbols, key=str), random.Random(0)
    whole = given.has(*_OF_WHOLE_NUMBERS) or expected.has(*_OF_WHOLE_NUMBERS)
    attempts, (low, high, unit) = ATTEMPTS if symbols else 1, (2, 20, 1) if whole else (11, 300, 97)
    points = [{symbol: sympy.Rational(rng.randrange(low, high), unit) for symbol in symbols} for _ in range(attempts)]
    for turn, point in enumerate(points):
        for symbol in symbols[turn % (len(symbols) + 1) :][: not whole]:
            point[symbol] *= -1
    return points


def _value(expression: Any, point: dict[Any, Any]) -> Any:
    """The value of an expression at a point; None where it is not a finite number."""
    value = expression.subs(point).doit().evalf(DIGITS + 10)
    return value if (value.is_number and value.is_finite and value.is_comparable) or value.is_complex else None
