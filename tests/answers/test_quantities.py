"""Numbers and their units, as models and data sets write them."""

import random
from fractions import Fraction

import pytest
from cpu_time import cpu_limit

from r1jax.answers.quantities import Quantity, number, quantity, same_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("72", 72),
        ("-0", 0),
        ("+5", 5),
        ("−5", -5),
        ("–5", -5),
        ("1,000.50", Fraction(2001, 2)),
        ("1 000 000", 10**6),
        ("1{,}000", 1000),
        (r"11,\! 111,\! 100", 11111100),
        (r"\$18.90", Fraction(189, 10)),
        ("$18.90$", Fraction(189, 10)),
        ("-$18", -18),
        ("£5", 5),
        ("1/2", Fraction(1, 2)),
        (r"\frac{1}{2}", Fraction(1, 2)),
        (r"\dfrac12", Fraction(1, 2)),
        (r"\frac1{2}", Fraction(1, 2)),
        (r"\frac{1}2", Fraction(1, 2)),
        (r"\cfrac{10}{4}", Fraction(5, 2)),
        (r"\frac{\frac{1}{2}}{3}", Fraction(1, 6)),
        (r"-\frac{-1}{-2}", Fraction(-1, 2)),
        (r"1\frac{1}{2}", Fraction(3, 2)),
        (r"-1\frac12", Fraction(-3, 2)),
        ("1 1/2", Fraction(3, 2)),
        ("1½", Fraction(3, 2)),
        ("¾", Fraction(3, 4)),
        ("1⁄2", Fraction(1, 2)),
        ("1.5e3", 1500),
        ("1.5E-3", Fraction(3, 2000)),
        (r"1.5 \times 10^3", 1500),
        (r"1.5\cdot10^{-3}", Fraction(3, 2000)),
        ("1.5×10^3", 1500),
        ("10^{3}", 1000),
        ("10³", 1000),
        ("2**3", 8),
        (r"0.\overline{3}", Fraction(1, 3)),
        (r"1.2\overline{45}", Fraction(137, 110)),
        (r".\overline{45}", Fraction(5, 11)),
        ("1/2e3", Fraction(1, 2000)),
        ("4 0/9", 4),
        ("1 000 4/9", Fraction(9004, 9)),
        ("2^{-1}", Fraction(1, 2)),
        ("-2^2", -4),
        ("(-2)^2", 4),
        ("(9+1)", 10),
        ("2(3)", 6),
        ("(2)(3)", 6),
        (r"\left( \frac{1}{3} \right)", Fraction(1, 3)),
        ("6 ÷ 4", Fraction(3, 2)),
        ("2*-3", -6),
        ("5!", 120),
        (r"\frac{10!}{8!}", 90),
        (r"90^\circ", 90),
        ("90°", 90),
        (r"\mathbf{5}", 5),
        (r"\textbf{\text{5}}", 5),
        ("5.", 5),
        ("5cm", 5),
        (r"5\mathrm{cm}^2", 5),
        ("72 km/h", 72),
        ("9.8 m/s^2", Fraction(49, 5)),
        ("12 sq. ft.", 12),
        ("50%", 50),
        ("5 million", 5 * 10**6),
        ("2 dozen eggs", 24),
        ("$1.5 million", 1_500_000),
        ("3 hundred thousand", 300_000),
        (r"50\%", 50),
        ("50 percentage points", 50),
    ],
)
def test_number(text, value):
    assert number(text) == value


# fmt: off
NO_QUANTITIES = [
    "", " ", "x", "3x", "3 x", "2 3", "1/0", r"\frac{1}{0}", "0^{-1}", "1..2", "1,2345", "10,00", "(1", "1)", "()",
    "5 or 6", "5 and 6", r"5\pi", r"\sqrt{4}", "2^{1/2}", "2^3^4", "2**3**4", "--5", "+-5",
    "5!!", "(-1)!", "0.5!", "1e99999", "5e", "0x10", "1_000", "٣", "1:00", "2,3", "[5]", "x = 5", "5 = 5", "5!=6",
    "5 pm", "5 sin x", r"\frac123", r"2\frac{3}{2}", "5abc", "1/2/", "9" * 201,
    r"\frac{1}{2}3.5", r"3.5.\overline{45}", r"2 \cdot L \cdot m", "5 * cm",
]
# fmt: on


@pytest.mark.parametrize("text", NO_QUANTITIES)
def test_anything_else_is_no_number(text):
    assert number(text) is None


def test_numbers_agree_with_python():
    rng = random.Random(0)
    for _ in range(300):
        a, b, c, k = rng.randrange(-99, 99), rng.randrange(1, 99), rng.randrange(1, 99), rng.randrange(1, 9)
        assert number(rf"{a} + \frac{{{b}}}{{{c}}} - {k}^2") == a + Fraction(b, c) - k * k
        assert number(f"({a})*({b} - {c})/{k}") == Fraction(a * (b - c), k)
        assert number(rf"{c}\frac{{{k}}}{{{k + b}}}") == c + Fraction(k, k + b)
        assert number(f"{c}.{b}e{k}") == Fraction(f"{c}.{b}") * 10**k


def test_huge_numbers_cost_nothing():
    with cpu_limit(1):
        for text in (
            "5^{5^{5^{5}}}",
            "9**9**9**9",
            "10^{99999999}",
            "9999999!",
            "((9^{999})^{999})^{99}",
            "3000!^{3000}",
        ):
            assert number(text) is None
        assert number("1/2004!") != number("1/2006!")
        assert number("1/2^{99}") != number("1/2^{98}")
        assert number("*".join(["3000!"] * 33)) is None


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("5", ["5 cm", "5 apples", "5%"], ["0.05", "6 cm"]),
        ("5 cm", ["5", "5 centimeters", "0.05 m", "50 mm", "5 units"], ["5 m", "5 kg", "5 cm^2", "5 seconds"]),
        ("1 m", ["100 cm", "1 metre", "0.001 km"], ["1 cm", "1 km"]),
        ("2 hours", ["120 minutes", "2 h", "2 hrs", "7200 s"], ["2 minutes", "2 days", "2 cm"]),
        ("1 foot", ["12 inches", "12 in", "1 ft."], ["12 feet"]),
        ("3 square meters", ["3 m^2", "3 sq m", "30000 cm^2"], ["3 m", "3 m^3", "3 cubic meters"]),
        ("100 km/h", ["100", "100000 m/h", "100 km per hour"], ["100 m/s", "100 km", "100 m/h"]),
        ("5 cents", ["5", "0.05 dollars"], ["5 dollars"]),
        ("72 dollars", ["72", "$72", "72 USD"], ["72 cents"]),
        ("28%", ["28", "28%", "28 percent", "28 pct", "0.28", "7/25"], ["2.8", "0.28%", "2800%", "29%"]),
        ("0.5", ["50%", "1/2"], ["50", "5%", "500%"]),
        ("1/3", ["0.333333", "0.3333333333", "33.333333%"], ["0.33", "0.33333", "0.333334", "0.3333343"]),
        ("2/3", ["0.666667", "0.666666"], ["0.67", "0.666668", "0.666665"]),
        ("0.333333", ["1/3"], ["0.3333333", "0.33"]),
        ("1/4", ["0.25"], ["0.250000001"]),
        ("0.30000000000000000001", [], ["0.3", "3/10"]),
    ],
)
def test_same_quantity(gold, right, wrong):
    expected = quantity(gold)
    assert [text for text in right if not same_quantity(quantity(text), expected)] == []
    assert [text for text in wrong if same_quantity(quantity(text), expected)] == []


def test_quantity_keeps_unit_and_places():
    assert quantity("2.50 km/h") == Quantity(Fraction(5, 2), "km/h", 2)
    assert quantity("28 percent") == Quantity(Fraction(28), "%")


@pytest.mark.parametrize(
    "text",
    [
        "5. The minimum number of points the class needs to reach is 400",
        "5 " + "the class needs " * 12 + "400",
        "+".join(f"1/{base}^{40_000 // base.bit_length()}" for base in (3, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)),
    ],
)
def test_a_sentence_or_sum_that_is_no_number_is_seen_at_once(text):
    with cpu_limit(1):
        assert number(text) is None


def test_number_agrees_with_python_on_random_numbers_however_they_are_written():
    rng = random.Random(0)
    for _ in range(300):
        n, m = rng.randrange(-(10**9), 10**9), rng.randrange(1, 99)
        for text in (f"{n:,}", f"{n:,}".replace(",", " "), f"{n:,}".replace(",", "{,}"), f"${n}$", f"{n} dollars."):
            assert number(text) == n
        assert number(rf"\frac{{{n}}}{{{m}}}") == number(f"{n}/{m}") == Fraction(n, m)
        assert number(f"{n / 8:.3f}%") == Fraction(n, 8)
