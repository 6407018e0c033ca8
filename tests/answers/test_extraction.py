"""Answers against hand-made cases, Python's own arithmetic, and texts made to hurt a parser."""

import random
from fractions import Fraction

import pytest
from cpu_time import cpu_limit

from r1jax.answers.extraction import (
    exact_value,
    expression_value,
    extract_answer,
    final_answer,
    number,
    same_answer,
    same_value,
)

# fmt: off
NO_NUMBERS = [
    "", " ", ".", "-", "+-3", "--3", "3-", "10,00", "1,0000", ",100", "1 000", "1/0", "1/2/3", "1/", "3 4", "3 cm",
    "1e5", "1_000", "nan", "inf", "0x10", "٣", "½", "1:00", "28%", "5^5", "1..2", "1.2.3", "(3)", "9" * 201,
]
NO_EXPRESSIONS = [
    "", "=", "= 9", "1=2=3", "1.5*4", "7//2", "2**3", "9**9**9**9", "1/0", "1/(2-2)", "-3+5", "+3", "1+-2", "~1", "1%2",
    "()", "(1", "1)", "1 2", "1,2", "(1)(2)", "1+", "*1", "1_0", "0x1", "1e3", "1j", "True", "x", "f(1)", "[1]", "'1'",
    "1\n+2", "1;2", "1#2", "٣+1", "007", "1<2", "1if 1else 2", "__import__('os').system('exit 1')", "1" * 201,
]
# fmt: on


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<think>r</think><answer>4</answer>", "4"),
        ("<think>\nmulti\nline\n</think>\n<answer>\n4\n</answer>\n", "4"),
        ("<think>r</think> so <answer>4</answer> indeed", "4"),
        ("<think>r</think><answer>1</answer><answer>2</answer>", "2"),  # the last block
        ("<think>r</think><answer>1</answer><answer>2", "1"),  # the last one that is well formed
        ("<think>r</think><answer>1<answer>2</answer>", "2"),
        ("<think>r</think><answer>1</answer> x</answer>", "1"),
        ("<think><answer>3</answer></think><answer>4</answer>", "4"),
        ("<think>a</think>b</think><answer>4</answer>", "4"),
        ("<answer>4</answer>", "4"),  # no reasoning, nothing to close
        ("<think>r <answer>4</answer>", None),  # never closed
        ("<think>r <answer>4</answer></think>", None),  # only inside the reasoning
        ("<think>r</think><answer>1</answer><think>hmm <answer>2</answer>", None),  # opened again
        ("<answer>4</answer><think>r</think>", None),
        ("<think>r</think>4", None),
        ("<think>r</think><answer>4", None),
        ("<think>r</think>4</answer>", None),
        ("<think>r</think><answer> </answer>", None),
        ("<think>r</think><answer>4</answer><answer></answer>", None),  # the last one is blank
        ("", None),
    ],
)
def test_final_answer(completion, answer):
    assert final_answer(completion) == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("r</think>\n<answer>4</answer>", "4"),
        ("r <answer>4</answer>", None),
        ("<answer>4</answer>", None),
        ("<think>r</think><answer>4</answer>", "4"),
    ],
)
def test_final_answer_where_the_prompt_opens_the_reasoning(completion, answer):
    assert final_answer(completion, prompt_opens_think=True) == answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("+3", 3),
        ("-3", -3),
        ("−3", -3),
        ("03", 3),
        ("3.00", 3),
        ("72.", 72),
        (".5", Fraction(1, 2)),
        ("-.5", Fraction(-1, 2)),
        (" 0.1\n", Fraction(1, 10)),
        ("1/2", Fraction(1, 2)),
        ("-6 / 4", Fraction(-3, 2)),
        ("1,000", 1000),
        ("7,425,000.5", Fraction(14850001, 2)),
        ("9" * 200, 10**200 - 1),
    ],
)
def test_exact_value_of_a_number(text, value):
    assert exact_value(text) == value


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_exact_value_of_anything_else_is_none(text):
    assert exact_value(text) is None


def test_exact_value_agrees_with_decimal_text_of_random_numbers():
    rng = random.Random(0)
    for _ in range(300):
        n, places = rng.randrange(-(10**9), 10**9), rng.randrange(1, 5)
        assert exact_value(f"{n:,}") == n
        assert exact_value(f"{n:,}.{'0' * places}") == n
        assert exact_value(f"{n / 8:.3f}") == Fraction(n, 8)


def test_exact_value_is_exact_where_floats_are_not():
    assert not same_value("0.30000000000000000001", "0.3")
    assert not same_value("9007199254740993", "9007199254740992")
    assert same_value("0.3", "3/10")


def test_same_value_needs_a_gold_number():
    assert same_value("1,000", "1000")
    assert not same_value("", "1000")
    for gold in ("", "x"):
        with pytest.raises(ValueError, match="is not a number"):
            same_value("", gold)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<think>r</think><answer>4</answer>", "4"),
        (r"<think>r</think><answer>It is \boxed{4}.</answer>", "4"),
        (r"<think>r</think>\boxed{3}<answer>4</answer>", "4"),  # the block comes first
        ("<think>r</think><answer>1</answer><answer>2</answer> so 3", "2"),
        ("<think>r</think>\\boxed{3}<answer>4", None),  # truncated
        (r"<think>r</think><answer>\boxed{4</answer>", None),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} and then \boxed{2}", "2"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        (r"so \boxed 7$.", "7"),
        (r"\boxed 7", "7"),
        (r"\boxed{7", None),
        (r"\boxed{6} no, \boxed{7", None),
        (r"\boxed{7} units, so we are done with 8.", "7"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{1\right.} x }", r"\left\{1\right."),
        (r"\boxed{}", None),
        (r"\boxed", None),
        (r"\boxedness 5", "5"),  # no such macro: the last number
        ("3 + 4 = 7\n#### 7", "7"),
        ("#### 6\n#### 1,000 \nI am sure, 100%", "1,000"),
        ("####72", "72"),
        ("#### 72 dollars", "72 dollars"),
        ("####\n5", None),
        (r"#### 3 but \boxed{4}", "4"),
        ("**Answer:** 34", "34"),
        ("The answer is 34.", "34"),
        ("Answer: `$34$`", "34"),
        ("It is 34\nas I said.\n", "34"),
        ("12-5=7", "7"),
        ("10-5", "5"),
        ("so x = -5.", "-5"),
        ("a loss of -$1,200.50!", "-1,200.50"),
        ("It is 3/4.", "3/4"),
        (r"It is $\frac{3}{4}$.", "3/4"),
        ("It is .5", ".5"),
        ("The area is 12 m^2.", "12"),
        ("It is 10^5", "10^5"),
        ("It is x_1", None),
        ("It is 7 by rule_2", "7"),
        ("US$5", "5"),
        ("1,2345", "2345"),
        ("no number", None),
        ("", None),
        ("<think>r \\boxed{4}", None),  # never closed
        ("<think>r 4</think>", None),  # nothing after it
        ("\\boxed{4}<think>r</think>", None),
        ("<think>r</think>4<think>hmm", None),
    ],
)
def test_extract_answer(completion, answer):
    assert extract_answer(completion) == answer


def test_extract_answer_where_the_prompt_opens_the_reasoning():
    assert extract_answer(r"r</think>\boxed{4}", prompt_opens_think=True) == "4"
    assert extract_answer(r"\boxed{4}", prompt_opens_think=True) is None


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"\frac{1}{2}", ["1/2", "0.5", ".5", r"\dfrac12", r"\tfrac{1}{2}", r"$\frac{1}{2}$"], ["2", "1", r"\frac21"]),
        (r"\frac{1}{4}", ["0.25"], ["0.250001"]),
        (r"-\frac{1}{2}", [r"\frac{-1}{2}", "-0.5", "−1/2"], [r"\frac{1}{2}"]),
        (
            "1000",
            ["1,000", "1 000", "1{,}000", "$1,000", r"\$1000", "1000€", r"1\,000", "1\u202f000"],
            ["1", "1000000"],
        ),
        ("7,425,000", ["7425000", "7 425 000"], ["7425"]),
        (
            "3",
            ["3.0", "3.00", "03", "3 apples"],
            ["3.01", "3 million", "3 dozen", "3x", "3 x", "3 pi", "3 or 4", "2**3"],
        ),
        (r"28\%", ["28 percent", "28 pct", "28%", "28", "0.28"], ["2.8", "28 million"]),
        ("72", ["72.", "$72", "72 dollars", "72 dollars.", "**72**", "`72`", r"\(72\)", "72 km/h"], ["7", "2", "72/2"]),
        ("5", [r"5 \text{ cm}", r"5\text{cm}", "5 cm", r"5\mathrm{cm}^2", "5 miles per hour"], ["5^2", r"5\pi", "-5"]),
        ("35", [], ["36 cm", "35 and 36", "cm", ""]),
        ("90", [r"90^\circ", r"90^{\circ}", "90°", "90 degrees"], [r"9^\circ"]),
        ("-18", ["-$18", "$-18", "−18"], ["18"]),
        ("23", [], ["2**3", "2 3"]),
        ("21/2", ["10.5"], [r"2\frac{1}{2}"]),
        ("1/23", [], [r"\frac123"]),
        (r"\text{E}", ["E", r"\text{E}", "E: 12", "(E)", "e", "E)", "E.", "(E) 12", "**E**", "$E$"], ["D", "12", "EE"]),
        ("E", [r"\textbf{(E)}", "E: it is 12"], ["D: E", "every", "e is it", ""]),
        ("New  York", ["new york", r"\text{New York}.", "**New York**"], ["York", "new yorkers"]),
        ("(1, 2)", ["(1,2)", "$(1,2)$"], ["(2,1)", "1,2"]),
        ("x + 1", ["x+1"], ["x+2"]),
        ("1:00", ["1:00"], ["12:00", "1"]),
        ("3 million", ["3 million"], ["3"]),
    ],
)
def test_same_answer(gold, right, wrong):
    assert same_answer(gold, gold)
    assert [answer for answer in right if not same_answer(answer, gold)] == []
    assert [answer for answer in wrong if same_answer(answer, gold)] == []


def test_same_answer_needs_a_gold():
    for gold in ("", " \n"):
        with pytest.raises(ValueError, match="the gold answer is empty"):
            same_answer("", gold)


def test_number_agrees_with_python_on_random_numbers_however_they_are_dressed():
    rng = random.Random(0)
    for _ in range(300):
        n, m = rng.randrange(-(10**9), 10**9), rng.randrange(1, 99)
        for text in (f"{n:,}", f"{n:,}".replace(",", " "), f"{n:,}".replace(",", "{,}"), f"${n}$", f"{n} dollars."):
            assert number(text) == n
        assert number(rf"\frac{{{n}}}{{{m}}}") == number(f"{n}/{m}") == Fraction(n, m)
        assert number(f"{n / 8:.3f}%") == Fraction(n, 8)
        for text in ("{}", r"so \boxed{{{}}}", "#### {}", "The answer is {}."):
            assert same_answer(extract_answer(text.format(n)) or "", str(n))
            assert not same_answer(extract_answer(text.format(n + 1)) or "", str(n))


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


def hostile():
    return {
        "deep parentheses": "(" * 10_000 + "1" + ")" * 10_000,
        "deep but short": "(" * 99 + "1" + ")" * 99,
        "open parentheses": "(" * 10_000,
        "tower": "9**9**9**9",
        "long number": "9" * 100_000,
        "long sum": "+".join("1" * 50_000),
        "long product": "*".join(["99999"] * 34),
        "signs": "-" * 199 + "1",
        "spaces": " " * 100_000,
        "separators": "1" + ",000" * 49 + ",00",
        "tags": "<answer>" * 20_000 + "<think>" * 20_000,
        "closing tags": "</think>" * 20_000 + "<answer>1" * 20_000,
        "null": "\0" * 100,
        "surrogate": "\ud800",
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_text_costs_nothing(name):
    text = hostile()[name]
    with cpu_limit(0.5):
        assert exact_value(text) is None
        expression_value(text)
        final_answer(text)
        final_answer(f"<think></think><answer>{text}</answer>")


def hostile_markup():
    return {
        "boxes": "\\boxed{" * 20_000,
        "boxes without braces": "\\boxed" * 20_000 + " " * 20_000,
        "fractions": "\\frac{1" * 20_000 + "\\frac " * 20_000,
        "wide fractions": "\\frac" + " " * 50_000 + "{1}" + " " * 50_000,
        "texts": "\\text{" * 20_000 + "\\text" + " " * 50_000,
        "powers": "^" * 20_000 + "^" + " " * 50_000 + "{" + " " * 50_000,
        "fraction tower": "1/" * 50_000,
        "powers of powers": "5^{" * 50_000 + "5" + "}" * 50_000,
        "slash": "1/" + "1" * 100_000 + ".1",
        "stars": "*" * 100_000,
        "hashes": "#" * 100_000,
        "lines": "x\n" * 50_000,
        "groups": "1" + ",000" * 25_000 + ",00",
        "spaced groups": "1" + " 000" * 25_000 + " 00",
        "dollars": "$" * 100_000,
        "words": "5" + " a" * 50_000 + " 5",
        "payload": "\\pi*__import__('os').system('touch here')",
    }


@pytest.mark.parametrize("name", [*hostile(), *hostile_markup()])
def test_hostile_text_costs_no_more_than_its_length(name):
    """Up to 300,000 characters, read some ten times; anything quadratic would take minutes."""
    text = (hostile() | hostile_markup())[name]
    with cpu_limit(5):
        assert not same_answer(text, "5") and not same_answer(text, "E")
        same_answer(text, text[:9] + "x")
        for form in ("{}", "<answer>{}</answer>", "\\boxed{{{}}}", "\\boxed {}", "#### {}", "#### {}\nx"):
            extract_answer(form.format(text))


def test_short_but_deep_nesting_is_refused():
    assert expression_value("(" * 50 + "1" + ")" * 50) == (1, [1])
    assert expression_value("(" * 51 + "1" + ")" * 51) is None
