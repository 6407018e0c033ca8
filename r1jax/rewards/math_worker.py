"""Compares expressions with math-verify's LaTeX parser and sympy, in the worker processes of `rewards.accuracy`.

Only those processes import this module, so that loading the libraries does not count as time of a comparison. All text
has passed `equivalence.provable`. math-verify parses LaTeX with a grammar, not with `eval`; its parser for plain
expressions, which is built on `eval`, is never called. Its time-outs are switched off, since a slow worker is killed.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

from r1jax.answers.equivalence import same_answer
from r1jax.answers.quantities import SAME_PLACES

DIGITS = 30  # to which equal values agree
POINTS = 6  # random values of the variables at which two expressions are compared
ATTEMPTS = 40  # at finding such points, since logarithms and roots are not real everywhere
FLOAT_PLACES = 12  # decimals to which a float is trusted
_OF_WHOLE_NUMBERS = (sympy.Sum, sympy.Product, sympy.factorial, sympy.binomial)  # may be defined for these alone
_ORDERED = (sympy.StrictLessThan, sympy.StrictGreaterThan, sympy.LessThan, sympy.GreaterThan)
_COMPARABLE = (sympy.MatrixBase, sympy.MatrixExpr, sympy.Set, sympy.Tuple, sympy.Rel, sympy.And)  # by math-verify
_VARIABLES = re.compile(r"\\(?:begin|end) ?\{\w+\}|\\[A-Za-z]+|([A-Za-z]+)(?: ?_ ?(?:\{([^{}]*)\}|(\w)))?")
_DECIMAL = re.compile(rf"[+-]?\d*\.(\d{{{SAME_PLACES},}})")
_LATEX = LatexExtractionConfig(normalization_config=NormalizationConfig(malformed_operators=True, nits=True))


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
        decimal = _DECIMAL.fullmatch(answer) or _DECIMAL.fullmatch(gold)
        return _same_expression(given, expected, 10 ** -min(len(decimal[1]), FLOAT_PLACES) if decimal else 0)
    if all(isinstance(found, sympy.Eq) for found in both):
        return _proportional(*(sympy.fraction(sympy.together(found.lhs - found.rhs))[0] for found in both))
    ordered = [isinstance(found, _ORDERED) for found in both]
    if any(ordered) and None not in both and given.free_symbols == expected.free_symbols:
        scalable = all(ordered) and len(given.rel_op) == len(expected.rel_op)
        proportional = scalable and _proportional(*(found.gts - found.lts for found in both), positive=True)
        return proportional or (len(given.free_symbols) == 1 and given.as_set() == expected.as_set())
    comparable = all(isinstance(found, _COMPARABLE) for found in both)
    return comparable and bool(verify(expected, given, timeout_seconds=None, allow_set_relation_comp=True))


same = functools.partial(same_answer, prove=prove)  # what the worker runs


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
    if letters is None:
        return word.group()
    indices = ["U" * letter.isupper() for letter in letters]
    indices[-1] += index
    return "*".join(f"{letter.lower()}_{{{i}}}" if i else letter for letter, i in zip(letters, indices, strict=True))


def _same_expression(given: sympy.Expr, expected: sympy.Expr, rounding: float = 0) -> bool:
    equal: dict[bool, list[bool]] = {True: [], False: []}  # at the points where both are real, and at the others
    for a, b in _values(given, expected):
        tolerance = max(rounding, sympy.Float(10) ** -DIGITS * max(abs(a), abs(b)))
        equal[bool(a.is_real and b.is_real)].append(bool(abs(a - b) <= tolerance))
        if len(equal[True]) == POINTS or False in equal[True]:
            return all(equal[True])
    found = equal[True] or equal[False]
    return len(found) >= (POINTS if given.free_symbols | expected.free_symbols else 1) and all(found)


def _proportional(given: Any, expected: Any, *, positive: bool = False) -> bool:
    """Whether the one is a constant multiple of the other."""
    real = ((a, b) for a, b in _values(given, expected) if a and b and a.is_real and b.is_real)
    a, b = next(real, (0, 0))
    return (a * b > 0 if positive else a * b != 0) and _same_expression(given * b, expected * a)


def _values(given: Any, expected: Any) -> Iterator[tuple[Any, Any]]:
    """Both values, where they are finite, at random points, or at whole ones where only these may be meant.

    At most one variable is negative, each in its turn: xy is not |x|y, but sqrt(xy) is sqrt(x) sqrt(y) unless both are.
    """
    symbols, rng = sorted(given.free_symbols | expected.free_symbols, key=str), random.Random(0)
    whole = given.has(*_OF_WHOLE_NUMBERS) or expected.has(*_OF_WHOLE_NUMBERS)
    low, high, unit = (2, 20, 1) if whole else (11, 300, 97)
    for turn in range(ATTEMPTS if symbols else 1):
        point = {symbol: sympy.Rational(rng.randrange(low, high), unit) for symbol in symbols}
        for symbol in symbols[turn % (len(symbols) + 1) :][: not whole]:
            point[symbol] *= -1
        a, b = (side.subs(point).doit().evalf(DIGITS + 10) for side in (given, expected))
        if all((v.is_number and v.is_finite and v.is_comparable) or v.is_complex for v in (a, b)):
            yield a, b
