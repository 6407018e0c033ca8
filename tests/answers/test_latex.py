"""Markup is removed, signs get one spelling, and texts are split at their outer brackets."""

import re

import pytest
from cpu_time import cpu_limit
from hostile_texts import hostile, hostile_markup

from r1jax.answers.latex import plain, split, wrapped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"$\dfrac{1}{2}\,\text{ cm}$", r"\frac{1}{2} cm"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\frac1{2}", r"\frac{1}{2}"),
        ("½", r"\frac{1}{2}"),
        (r"\left( 1, 2 \right)", "( 1, 2 )"),
        (r"x \le 3 \leq 4 ≤ 5", "x <= 3 <= 4 <= 5"),
        (r"2 \times 3 \cdot 4 × 5", "2 * 3 * 4 * 5"),
        (r"x=1 \text{ or } x=2", "x=1 or x=2"),
        (r"\textbf{\text{5}}", "5"),
        ("**5** and `6`", "5 and 6"),
        ("2**3", "2^3"),  # a power is not bold
        ("x**2 + 1", "x^2 + 1"),
        ("2*sqrt(x**2 + 1)/pi", r"2*\sqrt{x^2 + 1}/\pi"),
        ("-1 + exp(16)", "-1 + e^{16}"),
        ("2^(x+(1))", "2^{x+(1)}"),
        ("x^10 + x⁵ + 2^-1", "x^{10} + x^{5} + 2^{-1}"),
        ("4pi + ln(2)", r"4\pi + \ln(2)"),
        ("(-inf, 3)", r"(-\infty, 3)"),
        ("4!=24, x != 3", "4! = 24, x != 3"),
        (r"5\text{ m}", "5 meter"),  # and not the variable m
        (r"\$1{,}000", "1,000 dollars"),
        ("-$5", "-5"),
        ("US$5", "US 5"),
        (r"90^\circ", "90 degrees"),
        (r"\sin 20^\circ + 1", r"\sin(20*\pi/180)+ 1"),
        (r"3√13 + \sqrt13", r"3\sqrt {13} + \sqrt{13}"),
        (r"{10 \choose 3}", r"\binom{10}{3}"),
        (r"\lvert x-2\rvert", "| x-2|"),
        (r"10\text{:}30", "10:30"),
        ("−3", "-3"),
        (r"\\frac{1}{2}", r"\frac{1}{2}"),  # escaped twice
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),  # rows of a matrix
        ("  a \n b ", "a b"),
    ],
)
def test_plain(text, expected):
    assert plain(text) == expected
    assert plain(expected) == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1, 2, 3", ["1", "2", "3"]),
        ("(1,2), [3,4), {5,6}", ["(1,2)", "[3,4)", "{5,6}"]),
        ("1,,2,", ["1", "2"]),
        ("", []),
    ],
)
def test_split(text, parts):
    assert split(text, re.compile(",")) == parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1,2)", ("()", "1,2")),
        ("[0,1)", ("[)", "0,1")),
        (r"\{1,2\}", ("{}", "1,2")),
        ("((1),(2))", ("()", "(1),(2)")),
        ("(1)(2)", ("", "(1)(2)")),
        ("(1", ("", "(1")),
        ("1)", ("", "1)")),
        ("x(1)", ("", "x(1)")),
        ("", ("", "")),
    ],
)
def test_wrapped(text, expected):
    assert wrapped(text) == expected


@pytest.mark.parametrize("name", [*hostile(), *hostile_markup()])
def test_hostile_text_costs_no_more_than_its_length(name):
    text = (hostile() | hostile_markup())[name]
    with cpu_limit(5):
        wrapped(plain(text))
        split(text, re.compile(","))
