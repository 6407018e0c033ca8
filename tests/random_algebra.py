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
from sympy import Add, E, Eq, Function, I, Mul, Pow, Rational, Symbol, cos, exp, log, pi, sin, sqrt, tan

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


class LogTo(Function):
    """log of the first argument to the base that is the second."""

    @classmethod
    def eval(cls, *args: Any) -> None:
        return None


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
_FUNCTIONS = (log, sin, cos, tan, LogTo)


# The printer


class Writer:
    """Writes expressions in LaTeX or in plain text, in one of the styles that people use."""

    def __init__(self, rng: random.Random, latex: bool):
        self.rng, self.latex = rng, latex
        self.spaced = rng.random() < 0.5
        self.python = not latex and rng.random() < 0.5
        self.times = rng.choice((r" \cdot ", r"\cdot ", r" \times ") if latex else ("*", " * " if self.spaced else "*"))
        self.implicit = rng.random() < 0.85 if latex else not self.python and rng.random() < 0.5
        self.braced = rng.random() < 0.4  # braces where LaTeX does not need them
        self.large = latex and rng.random() < 0.3  # \left( \right)
        self.slashed = rng.random() < 0.15  # x/2 in LaTeX
        self.frac = rng.choice(("\\frac", "\\frac", "\\frac", "\\frac", "\\dfrac", "\\dfrac", "\\tfrac"))
        self.decimals = rng.random() < 0.08

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def write(self, expression: Any) -> str:
        if isinstance(expression, Eq):
            sign = " = " if self.spaced else "="
            return sign.join(self.sum(side) for side in expression.args)
        return self.sum(expression)

    def sum(self, expression: Any) -> str:
        """The text of any expression; it may begin with a minus sign and have several terms."""
        terms = list(expression.args) if expression.is_Add else [expression]
        if self.chance(0.5):
            terms.sort(key=lambda term: (term.is_number, -sympy.total_degree(term) if term.is_polynomial() else 0))
        else:
            self.rng.shuffle(terms)
        text = ""
        for term in terms:
            coefficient, above, below = _parts(term)
            sign = "-" if coefficient < 0 else "+" if text else ""
            sign = f" {sign} " if self.spaced and text else sign
            text += sign + self.term(abs(coefficient), above, below)
        return text

    def term(self, coefficient: Any, above: list[Any], below: list[Any]) -> str:
        """A positive coefficient times the factors above, by the product of those below a fraction line."""
        p, q = sympy.Integer(coefficient.p), sympy.Integer(coefficient.q)
        if not below and q == 1:
            return self.product(p, above)
        if not below and above and self.decimals and q in (2, 4, 5):
            return self.product(coefficient, above)
        if not below and above and self.latex and self.chance(0.35) and not above[0].is_Integer:
            return self.product(self.fraction(str(p), str(q)), above)
        if self.latex and (not self.slashed or any(factor.has(*_FUNCTIONS) for factor in above + below)):
            return self.fraction(self.numerator(p, above), self.numerator(q, below))
        numerator, denominator = self.product(p, above, closed=True), self.product(q, below, closed=True)
        single = re.fullmatch(r"\d+|(?:\w|\\?pi)(?:(?:\^|\*\*)\d)?|(?:sqrt)?\([^()]*\)", denominator)
        return f"{numerator}/{denominator if single else f'({denominator})'}"

    def numerator(self, coefficient: Any, factors: list[Any]) -> str:
        """What stands above or below a fraction line: a sum there needs no brackets."""
        return self.sum(factors[0]) if coefficient == 1 and len(factors) == 1 else self.product(coefficient, factors)

    def fraction(self, above: str, below: str) -> str:
        digits = len(above) == len(below) == 1 and (above + below).isdigit()
        return f"{self.frac}{above}{below}" if digits and not self.braced else f"{self.frac}{{{above}}}{{{below}}}"

    def product(self, coefficient: Any, factors: list[Any], closed: bool = False) -> str:
        """A number, or the text of one, times factors; closed means that no function may go without brackets."""
        text = coefficient if isinstance(coefficient, str) else self.number(coefficient)
        if text == "1" and factors:
            text = ""
        factors = self.ordered(factors)
        for index, factor in enumerate(factors):
            last = index == len(factors) - 1
            follower = None if last else factors[index + 1]
            bare = not closed and (last or _is_function(follower))
            text = self.joined(text, self.factor(factor, bare, last))
        return text or "1"

    def ordered(self, factors: list[Any]) -> list[Any]:
        """Numbers and pi first, then letters, radicals, sums and powers of e, and functions last."""
        shuffled = self.rng.sample(factors, len(factors))
        first = self.chance(0.2)

        def rank(factor: Any) -> int:
            base = factor.base if factor.is_Pow else factor
            if base.is_number and base.is_Rational and not (factor.is_Pow and factor.exp.is_Rational):
                return 0
            if base == pi:
                return 1
            if factor.is_Pow and factor.exp.is_Rational and factor.exp.q > 1:
                return 2 if first and factor.is_number else 4
            if base.is_Symbol:
                return 3
            return 6 if _is_function(factor) else 5

        return sorted(shuffled, key=rank)

    def joined(self, left: str, right: str) -> str:
        if not left:
            return right
        unclear = right[0].isdigit() or (left[-1].isdigit() and "frac" in right[:6])
        unclear |= left[-1] in "fgh" and (right[0] == "(" or right.startswith("\\left"))  # looks like a function
        if not self.latex:
            simple = left.isalnum() and not left.endswith("pi") and re.match(r"[A-Za-z](?![A-Za-z])|\(", right)
            return left + right if self.implicit and simple and not unclear else left + self.times + right
        if re.search(r"\^[A-Za-z]$", left) and right[0].isalnum():
            left = f"{left[:-1]}{{{left[-1]}}}"
        if unclear or not self.implicit:
            return left + (self.times if not self.implicit else r" \cdot ") + right
        needs_space = re.search(r"\\[a-z]+$", left) and right[0].isalpha()
        return left + (" " if needs_space or self.chance(0.1) else "") + right

    def factor(self, e: Any, bare: bool = False, last: bool = False) -> str:
        """The text of a factor, in brackets where it is a sum or negative."""
        if e.is_Rational and e.q == 1 and e >= 0:
            return str(e)
        if e == pi:
            return r"\pi" if self.latex else "pi"
        if e.is_Symbol:
            return e.name
        if isinstance(e, exp) or e == E:
            return self.exponential(e)
        if e.is_Pow and not (e.exp.is_Rational and e.exp < 0):
            return self.power(e.base, e.exp, bare, last)
        if _is_function(e):
            return self.function(e.func, e.args, None, bare, last)
        return self.bracketed(self.sum(e))

    def number(self, value: Any) -> str:
        return str(value) if value.q == 1 else f"{float(value):g}"

    def bracketed(self, text: str) -> str:
        return rf"\left({text}\right)" if self.large else f"({text})"

    def exponential(self, e: Any) -> str:
        exponent = e.args[0] if isinstance(e, exp) else sympy.Integer(1)
        if exponent != 1 and not self.latex and (self.python or self.chance(0.3)):
            return f"exp({self.sum(exponent)})"
        return "e" if exponent == 1 else "e" + self.superscript(exponent)

    def power(self, base: Any, exponent: Any, bare: bool, last: bool) -> str:
        if exponent == Rational(1, 2) and not (self.chance(0.05) and base.is_Symbol):
            return self.root(base, last)
        if exponent == Rational(1, 3) and self.latex and self.chance(0.7):
            return rf"\sqrt[3]{{{self.sum(base)}}}"
        if _is_function(base) and exponent.is_Integer and exponent > 0:
            if self.latex:
                return self.function(base.func, base.args, exponent, bare, last)
            return self.function(base.func, base.args, None, False, last) + self.superscript(exponent)
        atom = base.is_Symbol or base == pi or (base.is_Integer and base > 0)
        return (self.factor(base) if atom else self.bracketed(self.sum(base))) + self.superscript(exponent)

    def root(self, base: Any, last: bool) -> str:
        inside = self.sum(base)
        if not self.latex:
            return f"sqrt({inside})"
        if len(inside) == 1 and last and not self.braced:
            return rf"\sqrt{inside}" if inside.isdigit() else rf"\sqrt {inside}"
        return rf"\sqrt{{{inside}}}"

    def superscript(self, exponent: Any) -> str:
        text = self.sum(exponent)
        if self.latex:
            if exponent.is_Rational and exponent.q > 1:
                text = f"{exponent.p}/{exponent.q}" if self.chance(0.5) else rf"\frac{{{exponent.p}}}{{{exponent.q}}}"
            return f"^{text}" if len(text) == 1 and not self.braced else f"^{{{text}}}"
        sign = "**" if self.python else "^"
        return sign + (text if text.isdigit() or (len(text) == 1 and text.isalpha()) else f"({text})")

    def function(self, name: Any, args: tuple[Any, ...], exponent: Any, bare: bool, last: bool) -> str:
        """A function; without brackets only where nothing can be taken for a part of its argument."""
        argument = args[0]
        text = "ln" if name is log else "log" if name is LogTo else name.__name__
        if not self.latex:
            inside = self.sum(argument)
            return f"{text}({inside})" if name is not LogTo else f"log({inside})/log({args[1]})"
        text = f"\\{text}"
        if name is LogTo:
            text += f"_{args[1]}" if args[1] < 10 else f"_{{{args[1]}}}"
        if exponent is not None:
            text += self.superscript(exponent)
        single = argument.is_Symbol or argument == pi or (argument.is_Integer and argument > 0)
        double = last and name in (sin, cos, tan) and argument.is_Mul and re.fullmatch(r"\d\*[a-zA-Z]", str(argument))
        if bare and (single or double) and self.chance(0.7):
            return f"{text} {self.product(*_parts(argument)[:2]) if double else self.factor(argument)}"
        return text + self.bracketed(self.sum(argument))


def _is_function(e: Any) -> bool:
    return isinstance(e.base if e.is_Pow else e, _FUNCTIONS)


def _parts(term: Any) -> tuple[Any, list[Any], list[Any]]:
    """A term's rational coefficient, its factors, and the factors of its denominator."""
    coefficient, above, below = Rational(1), [], []
    for factor in term.args if term.is_Mul else [term]:
        if factor.is_Rational:
            coefficient *= factor
        elif factor.is_Mul:
            inner, more, fewer = _parts(factor)
            coefficient, above, below = coefficient * inner, above + more, below + fewer
        elif factor.is_Pow and factor.exp.is_Rational and factor.exp < 0:
            base = factor.base if factor.exp == -1 else Pow(factor.base, -factor.exp)
            inner, more, fewer = _parts(base) if base.is_Mul or base.is_Rational else (Rational(1), [base], [])
            coefficient, above, below = coefficient / inner, above + fewer, below + more
        else:
            above.append(factor)
    return coefficient, above, below
