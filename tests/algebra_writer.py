r"""Writes sympy expressions and equations as people do, in LaTeX or in plain text.

    Writer(random.Random(0), latex=True).write(2 * pi * r * h)  # r"2\pi rh", "2 \cdot \pi \cdot h \cdot r" or the like

Products are implicit, terms and factors in any order, and braces only where they are needed. A form that a reader could
take in two ways, such as `\sin xy` or `1/2x`, is never written.
"""

from __future__ import annotations

import random
import re
from typing import Any

import sympy
from sympy import E, Eq, Function, Pow, Rational, cos, exp, log, pi, sin, tan


class LogTo(Function):
    """log of the first argument to the base that is the second."""

    @classmethod
    def eval(cls, *args: Any) -> None:
        return None


_FUNCTIONS = (log, sin, cos, tan, LogTo)


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
        single = re.fullmatch(r"\d+|(?:\w|\\?pi)(?:(?:\^|\*\*)\d)?|(?:[a-z]+)?\([^()]*\)", denominator)
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
            return f"{text} {str(argument).replace('*', '')}" if double else f"{text} {self.factor(argument)}"
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
