r"""Random pairs of a gold answer and an answer in algebra, as people write it, and whether the two are equal.

    for pair in pairs(100, seed=0):
        math_answer(Example("", pair.gold), completion(pair))  # 1.0 where pair.equal, else 0.0

Both answers are sympy expressions or equations, written in LaTeX or plain text with implicit products, terms in any
order and braces only where they are needed. The oracle is the numeric value of the sympy expressions, to 40 digits at
random rational points; no text is parsed. A form that a reader could take in two ways, such as `\sin xy` or `1/2x`, is
never written.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import mpmath
import sympy
from algebra_writer import LogTo, Writer
from sympy import Add, Eq, I, Mul, Pow, Rational, Symbol, cos, exp, log, pi, sin, sqrt, tan

LETTERS = ("xyz", "xyt", "abc", "nk", "rh", "uvw", "x", "n", "ab", "xa", "tv", "rst")
UNITS = "mgshlLJNWVAKCF"  # letters that may also be units
WRAPPERS = (
    r"\boxed{{{}}}",
    "<think>Let me work it out.</think><answer>{}</answer>",
    "The final answer is ${}$.",
    "**Answer:** ${}$",
    "#### {}",
)
MAX_CHARACTERS = 90  # of an answer
DIGITS = 40
_UNDEFINED = (I, sympy.zoo, sympy.nan, sympy.oo)
_REALS, _POSITIVE = 8, 4  # points at which two expressions are compared, and those with positive coordinates alone
# Two variables that look like a logarithm, e that looks like a power of ten, and a sum after a sine of 2x.
_UNCLEAR = re.compile(r"lg|\de ?[+-] ?\d|\\(?:sin|cos|tan) \d\w ?[+-]")


class Pair(NamedTuple):
    """A gold answer, an answer, whether they are equal, the family of expressions, and the form of the completion."""

    gold: str
    answer: str
    equal: bool
    family: str
    latex: bool
    wrapper: str


def pairs(count: int, seed: int) -> Iterator[Pair]:
    """Half of the pairs are equal; in a quarter of them the answer is plain text, as is half of their gold answers."""
    rng = random.Random(seed)
    for number in range(count):
        equal, latex = number % 2 == 0, number // 2 % 4 != 0
        family = FAMILIES[number // 8 % len(FAMILIES)]
        while (pair := _pair(rng, family, equal, latex)) is None:
            pass
        yield pair


def completion(pair: Pair) -> str:
    """A completion whose final answer is the answer of a pair."""
    return pair.wrapper.format(pair.answer)


def _pair(rng: random.Random, family: Callable[..., list[Any]], equal: bool, latex: bool) -> Pair | None:
    units = rng.random() < 0.25
    letters = rng.sample(UNITS, rng.choice((2, 3, 4))) if units else list(rng.choice(LETTERS))
    symbols = [Symbol(letter) for letter in rng.sample(letters, len(letters))]
    forms = family(rng, symbols)
    gold, given = rng.choice(forms), rng.choice(forms)
    if not equal:
        given = near_miss(rng, given, symbols)
    if given is None or same_value(rng, gold, given) is not equal:
        return None
    if not gold.free_symbols and not gold.has(pi, sympy.Function, exp) and not gold.atoms(Pow):
        return None  # a bare number
    if (units and len(gold.free_symbols) < 2) or bool(gold.free_symbols) != bool(given.free_symbols):
        return None
    if _is_measure(gold) or _is_measure(given):
        return None
    texts = Writer(rng, latex or rng.random() < 0.5).write(gold), Writer(rng, latex).write(given)
    if texts[0].replace(" ", "") == texts[1].replace(" ", "") and rng.random() < 0.9:
        return None
    if any(len(t) > MAX_CHARACTERS or _UNCLEAR.search(t) for t in texts):
        return None
    return Pair(*texts, equal, family.__name__, latex, rng.choice((WRAPPERS[0], *WRAPPERS)))


def _is_measure(expression: Any) -> bool:
    """Whether an expression could also be a number with its unit, such as 5h or 2mg."""
    letters = expression.free_symbols
    units = {letter.name for letter in letters} <= set(UNITS)
    alone = expression.is_Mul and set(expression.args) == letters | {expression.as_coeff_Mul()[0]}
    return units and alone and (len(letters) == 1 or (len(letters) == 2 and Symbol("m") in letters))


# The oracle


def same_value(rng: random.Random, a: Any, b: Any) -> bool | None:
    """Whether two expressions have the same values, or two equations the same solutions; None where it is not clear."""
    if isinstance(a, Eq) != isinstance(b, Eq):
        return False
    equations = isinstance(a, Eq)
    if equations:
        a, b = a.lhs - a.rhs, b.lhs - b.rhs
    a, b = (e.replace(LogTo, lambda x, base: log(x) / log(base)) for e in (a, b))
    if a.has(*_UNDEFINED) or b.has(*_UNDEFINED):
        return None
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    functions = [sympy.lambdify(symbols, e, "mpmath") for e in (a, b)]
    ratios: list[Any] = []
    with mpmath.workdps(DIGITS):
        for number in range(10 * _REALS):
            signs = (1,) if number < 2 * _POSITIVE else (1, -1)
            point = [mpmath.mpf(rng.choice(signs) * rng.randrange(11, 400)) / 97 for _ in symbols]
            try:
                x, y = (function(*point) for function in functions)
            except (ZeroDivisionError, ValueError, TypeError, OverflowError):
                continue
            if mpmath.im(x) or mpmath.im(y) or not mpmath.isfinite(x) or not mpmath.isfinite(y):
                continue
            x, y = mpmath.re(x), mpmath.re(y)
            if equations or abs(y) > 1e-9:
                ratios.append(x / y if y else mpmath.inf)
            if len(ratios) == _REALS:
                break
    if len(ratios) < 3:
        return None
    expected = ratios[0] if equations else mpmath.mpf(1)
    errors = [abs(ratio / expected - 1) if expected and mpmath.isfinite(expected) else 1 for ratio in ratios]
    if max(errors) < 1e-25:
        return True
    return False if max(errors) > 1e-4 else None


# Near misses


def near_miss(rng: random.Random, expression: Any, symbols: list[Any]) -> Any:
    """The expression with one sign, exponent, coefficient, variable, term, factor or function changed."""
    if isinstance(expression, Eq):
        sides = list(expression.args)
        side = rng.randrange(2)
        sides[side] = near_miss(rng, sides[side], symbols)
        return None if sides[side] is None else Eq(*sides, evaluate=False)
    path = rng.choice(list(_paths(expression)))
    changed = _changed(rng, expression, path, symbols)
    return (
        None
        if changed == 0 or changed.has(*_UNDEFINED) or any(n.q > 12 or abs(n.p) > 2000 for n in changed.atoms(Rational))
        else changed
    )


def _paths(node: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    yield path
    for index, child in enumerate(node.args):
        yield from _paths(child, (*path, index))


def _changed(rng: random.Random, node: Any, path: tuple[int, ...], symbols: list[Any]) -> Any:
    if path:
        args = list(node.args)
        args[path[0]] = _changed(rng, args[path[0]], path[1:], symbols)
        return _rebuilt(node, args)
    if node.is_Rational:
        return rng.choice((-node, node + 1, node - 1, 2 * node))
    if node.is_Symbol:
        other = Symbol(node.name.swapcase()) if rng.random() < 0.1 else rng.choice(symbols)
        return rng.choice((other, other, 2 * node, node**2, -node))
    if isinstance(node, Add | Mul):
        index = rng.randrange(len(node.args))
        rest = [arg for i, arg in enumerate(node.args) if i != index]
        dropped = node.func(*rest) if len(rest) == 1 else _rebuilt(node, rest)
        negated = _rebuilt(node, [*rest, -node.args[index]]) if isinstance(node, Add) else -node
        return rng.choice((dropped, negated))
    swapped = {sin: cos, cos: sin, tan: sin, log: exp}
    return swapped[node.func](*node.args) if node.func in swapped else -node


def _rebuilt(node: Any, args: list[Any]) -> Any:
    """The node with other arguments; a number times a sum stays a product."""
    keep = isinstance(node, Mul) and any(a.is_Add for a in args) and not {0, 1, -1} & set(args)
    return node.func(*args, evaluate=False) if keep else node.func(*args)


# Families of expressions: each gives several forms of one expression.


def _number(rng: random.Random, low: int = 1, high: int = 9, signed: bool = True) -> Any:
    return sympy.Integer(rng.randint(low, high) * (rng.choice((1, 1, -1)) if signed else 1))


def _rational(rng: random.Random) -> Any:
    return Rational(rng.randint(1, 7), rng.choice((1, 1, 1, 2, 3, 4, 5))) * rng.choice((1, 1, -1))


def _times(*factors: Any) -> Any:
    """The product as it stands, where sympy would multiply out or combine powers."""
    return Mul(*(factor for factor in factors if factor != 1), evaluate=False)


def polynomial(rng: random.Random, v: list[Any]) -> list[Any]:
    terms = [
        _rational(rng) * sympy.prod([x ** rng.choice((0, 1, 1, 2, 3)) for x in rng.sample(v, min(2, len(v)))])
        for _ in range(rng.choice((2, 2, 3, 4)))
    ]
    p = Add(*terms)
    content, rest = p.as_content_primitive()
    return [p, p, sympy.factor(p), _times(content, rest) if content != 1 and rest.is_Add else p, sympy.collect(p, v[0])]


def monomial(rng: random.Random, v: list[Any]) -> list[Any]:
    m = abs(_rational(rng)) * sympy.prod([x ** rng.choice((1, 1, 2)) for x in v])
    return [m, m * rng.choice((1, pi))] if rng.random() < 0.5 else [m]


def product(rng: random.Random, v: list[Any]) -> list[Any]:
    k, x, y = _number(rng), rng.choice(v), rng.choice(v)
    others = [z for z in v if z != y]
    factors = [x + _number(rng), rng.choice((y, 2 * y, 3 * y)) + rng.choice((_number(rng), *others))]
    p = _times(k, rng.choice((1, x, y)), *factors[: rng.choice((1, 2))])
    return [p, sympy.expand(p), sympy.factor(sympy.expand(p))]


def fraction(rng: random.Random, v: list[Any]) -> list[Any]:
    x, y = rng.choice(v), rng.choice(v)
    a, b, c = (_number(rng) for _ in range(3))
    q = rng.choice((a / (x + b) + c / y, (a * x + b) / (y + c), a / x - b / y, x / y + c, (x + a) / b + c * y))
    q = rng.choice((q, (x + a) * (y + b) / (c * y), a * x / (b * y)))
    return [q, sympy.together(q), sympy.expand(q), sympy.factor(q)]


def radical(rng: random.Random, v: list[Any]) -> list[Any]:
    a, b = _number(rng), sympy.Integer(rng.choice((2, 3, 5, 6, 7)))
    c, d, x = _number(rng, 2, 5, signed=False), _number(rng, 1, 6, signed=False), rng.choice(v)
    return rng.choice(
        [
            [c * sqrt(b), Pow(c * c * b, Rational(1, 2), evaluate=False)],
            [(a + c * sqrt(b)) / d, _times(1 / d, a + c * sqrt(b)), a / d + c * sqrt(b) / d],
            [a * sqrt(b) / b, _times(a, 1 / sqrt(b)), _times(Rational(a, b), sqrt(b))],
            [x * sqrt(b) + a, a + x * sqrt(b)],
            [c * sqrt(x**2 + d), Pow(sympy.expand(c**2 * (x**2 + d)), Rational(1, 2), evaluate=False)],
            [c * sqrt(x) + a, Pow(c * c * x, Rational(1, 2), evaluate=False) + a],
            [sympy.expand((a + sqrt(b)) * (d - sqrt(b))) * x + sqrt(b), _times(a + sqrt(b), d - sqrt(b)) * x + sqrt(b)],
            [c * sympy.cbrt(b), Pow(c**3 * b, Rational(1, 3), evaluate=False)],
            [sqrt(2 * v[0] * v[-1]) / d, _times(Rational(1, d), sqrt(2 * v[0] * v[-1]))],
        ]
    )


def power(rng: random.Random, v: list[Any]) -> list[Any]:
    x, y = rng.choice(v), v[-1]
    n, b, k = rng.randint(2, 4), rng.choice((2, 3, 5, 7)), _number(rng, 1, 4, signed=False)
    a = _number(rng)
    return rng.choice(
        [
            [Pow(b, x + k), _times(b**k, Pow(b, x))],
            [Pow(b, x) + a, a + Pow(b, x)],
            [_times(Pow(b, 2 * x), y), _times(y, Pow(b**2, x))],
            [(x + a) ** n, sympy.expand((x + a) ** n)],
            [(k * x) ** n + y, Pow(_times(k, x), n, evaluate=False) + y] if k > 1 else [x**n + y],
            [x ** Rational(3, 2), _times(x, sqrt(x))],
            [x**-n + a, (1 + a * x**n) / x**n],
            [(x + y) ** 2 - a, sympy.expand((x + y) ** 2) - a] if x != y else [x**n - a],
            [Pow(x, n + 1) * y - Pow(x, n), _times(x**n, x * y - 1)],
        ]
    )


def geometry(rng: random.Random, v: list[Any]) -> list[Any]:
    r, h, k = v[0], v[-1], abs(_rational(rng))
    a = _number(rng)
    return rng.choice(
        [
            [k * pi * r**2 * h],
            [k * pi * r**2 + k * pi * r * h, _times(k, pi, r, r + h)] if r != h else [k * pi * r**2],
            [2 * pi * r * h + a, a + 2 * pi * r * h],
            [k * pi],
            [k * pi + a, sympy.together(k * pi + a)],
            [k * pi**2 * r, _times(k * r, pi**2)],
            [r**2 - k * pi * r**2, _times(r**2, 1 - k * pi)],
            [k * h * (r + a), sympy.expand(k * h * (r + a))],
            [k * pi + a * sqrt(3), sympy.together(k * pi + a * sqrt(3))],
        ]
    )


def exponential(rng: random.Random, v: list[Any]) -> list[Any]:
    x, y = rng.choice(v), v[-1]
    a, b, c, k = _number(rng), _number(rng), _number(rng, 1, 4), _number(rng, 2, 4)
    return rng.choice(
        [
            [(a * x + b) * exp(c * x), sympy.expand((a * x + b) * exp(c * x))],
            [a * exp(c * x) + b, b + a * exp(c * x)],
            [a * y * exp(-x) + b, (a * y + b * exp(x)) / exp(x)],
            [exp(x + k), _times(exp(k), exp(x))],
            [_times(exp(x) + a, exp(x) + b), sympy.expand((exp(x) + a) * (exp(x) + b))],
            [exp(2 * x) - 1, _times(exp(x) - 1, exp(x) + 1)],
            [exp(2) * a, a * exp(2)],
        ]
    )


def logarithm(rng: random.Random, v: list[Any]) -> list[Any]:
    x, y, k, a = rng.choice(v), v[-1], rng.choice((2, 3, 5)), _number(rng)
    base = rng.choice((2, 3, 5, 10))
    return rng.choice(
        [
            [log(x) + log(y + 1), log(x * (y + 1)), log(sympy.expand(x * (y + 1)))],
            [log(x + k) - log(y), log((x + k) / y)],
            [3 * log(x) + a, a + log(x**3)],
            [a * y * log(x), _times(a, y, log(x))],
            [a + log(k), log(k) + a],
            [2 * log(k), log(k**2, evaluate=False)],
            [-log(k), log(Rational(1, k), evaluate=False)],
            [log(k) / 2, log(sqrt(k), evaluate=False)],
            [LogTo(base * x, base), 1 + LogTo(x, base)],
            [LogTo(x, base) + a, a + LogTo(x, base)],
            [log(k) / log(base), LogTo(k, base)] if k != base else [log(k) + x],
        ]
    )


def trigonometry(rng: random.Random, v: list[Any]) -> list[Any]:
    x, y, a, b = rng.choice(v), v[-1], _number(rng), _number(rng)
    return rng.choice(
        [
            [a * sin(x) * cos(x), _times(Rational(a, 2), sin(2 * x))],
            [cos(2 * x) + a, 1 + a - 2 * sin(x) ** 2, 2 * cos(x) ** 2 + a - 1],
            [a * sin(x) + b * cos(x), b * cos(x) + a * sin(x)],
            [a * tan(x), a * sin(x) / cos(x)],
            [sin(x) ** 2 + a, 1 + a - cos(x) ** 2],
            [a * y * sin(x) + b, b + a * y * sin(x)],
            [sin(x + y), sin(x) * cos(y) + cos(x) * sin(y)] if x != y else [sin(x), sin(x)],
            [(1 + sin(x)) * (1 - sin(x)), cos(x) ** 2],
            [a * x**2 * cos(b * y), a * cos(b * y) * x**2],
            [tan(x) ** 2 + 1, 1 / cos(x) ** 2],
        ]
    )


def equation(rng: random.Random, v: list[Any]) -> list[Any]:
    """A line, circle or parabola, solved for a variable or not."""
    x, y = [*v, Symbol("y"), Symbol("x")][:2] if len(v) > 1 else (Symbol("x"), Symbol("y"))
    a, b, c, k = _number(rng, 2), _number(rng), _number(rng), _number(rng, 2, 4)
    equal = partial(Eq, evaluate=False)
    square, conic = Add((x - a) ** 2, (y - b) ** 2), x**2 + y**2 + a * x + b * y
    return rng.choice(
        [
            [equal(y, a * x + b), equal(y - a * x, b), equal(a * x - y + b, 0)],
            [equal(a * x + b * y, c), equal(k * a * x + k * b * y, k * c), equal(a * x + b * y - c, 0)],
            [equal(y, a * x / k + b), equal(k * y, a * x + k * b), equal(a * x - k * y + k * b, 0)],
            [equal(x**2 + y**2, c**2), equal(y**2, c**2 - x**2), equal(k * x**2 + k * y**2, k * c**2)],
            [equal(square, c**2), equal(sympy.expand(square - c**2), 0), equal(c**2, square)],
            [equal(conic, -c), equal(conic + c, 0), equal(-conic, c)],
            [equal(x**2 / 4 + y**2 / k**2, 1), equal(k**2 * x**2 + 4 * y**2, 4 * k**2)],
            [equal(y, a * x**2 + b * x + c), equal(y - c, _times(x, a * x + b)), equal(a * x**2 + b * x + c - y, 0)],
        ]
    )


FAMILIES = (
    polynomial,
    monomial,
    product,
    fraction,
    radical,
    power,
    geometry,
    exponential,
    logarithm,
    trigonometry,
    equation,
)
