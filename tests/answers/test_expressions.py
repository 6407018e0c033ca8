"""Arithmetic expressions against hand-made cases, Python's own arithmetic, and texts made to hurt a parser."""

import random
from fractions import Fraction

import pytest
from cpu_time import cpu_limit
from hostile_texts import hostile

from r1jax.answers.expressions import expression_value

# fmt: off
NO_EXPRESSIONS = [
    "", "=", "= 9", "1=2=3", "1.5*4", "7//2", "2**3", "9**9**9**9", "1/0", "1/(2-2)", "-3+5", "+3", "1+-2", "~1", "1%2",
    "()", "(1", "1)", "1 2", "1,2", "(1)(2)", "1+", "*1", "1_0", "0x1", "1e3", "1j", "True", "x", "f(1)", "[1]", "'1'",
    "1\n+2", "1;2", "1#2", "٣+1", "007", "1<2", "1if 1else 2", "__import__('os').system('exit 1')", "1" * 201,
]
# fmt: on


@pytest.mark.parametrize(
    ("text", "value", "numbers"),
    [
        ("8/(3-8/3)", 24, [8, 3, 8, 3]),
        ("(1+2)*3 = 9", 9, [1, 2, 3]),
        ("(1+2)×3", 9, [1, 2, 3]),
        ("6÷4−1", Fraction(1, 2), [6, 4, 1]),
        ("7", 7, [7]),
        (" ( 1 - 2 ) - 3 ", -4, [1, 2, 3]),
        ("1-2-3", -4, [1, 2, 3]),
        ("8/4/2", 1, [8, 4, 2]),
        ("2+3*4", 14, [2, 3, 4]),
        ("0*5", 0, [0, 5]),
    ],
)
def test_expression_value(text, value, numbers):
    assert expression_value(text) == (value, numbers)


@pytest.mark.parametrize("text", NO_EXPRESSIONS)
def test_expression_value_of_anything_else_is_none(text):
    assert expression_value(text) is None


def test_expression_value_agrees_with_python_on_random_expressions():
    rng = random.Random(0)

    def expression(depth):
        if depth == 0 or rng.random() < 0.3:
            number = rng.randrange(10)
            return str(number), Fraction(number), [number]
        (left, x, numbers), (right, y, more) = expression(depth - 1), expression(depth - 1)
        operator = rng.choice("+-*/")
        if operator == "/" and y == 0:
            operator = "+"
        value = {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else x}[operator]
        return f"({left}{operator}{right})", value, numbers + more

    for _ in range(200):
        text, value, numbers = expression(3)
        assert expression_value(text) == (value, numbers)


@pytest.mark.parametrize("name", hostile())
def test_hostile_text_costs_nothing(name):
    with cpu_limit(0.5):
        expression_value(hostile()[name])


def test_short_but_deep_nesting_is_refused():
    assert expression_value("(" * 50 + "1" + ")" * 50) == (1, [1])
    assert expression_value("(" * 51 + "1" + ")" * 51) is None
