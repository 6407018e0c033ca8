"""Dates, clock times, ratios and numerals: equal, different, or in none of these notations."""

import pytest

from r1jax.answers.notations import same_notation


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("2020-01-05", "January 5, 2020", True),
        ("2020-01-05", "5 Jan 2020", True),
        ("2020-01-05", "2020-05-01", False),
        ("2020-01-05", "2020", False),
        ("2020-13-45", "2020-13-45", False),  # not a date; the caller compares the texts themselves before
        ("13:00", "1 pm", True),
        ("1 pm", "13:00", True),
        ("1 pm", "1:00", False),
        ("1:00", "1:00:00", True),
        ("1:00", "1 pm", True),
        ("1:00", "one", False),
        ("1:2", "2:4", True),
        ("1:2", "1/2", False),
        ("1:2:3", "1:2", False),
        ("101_2", "101_{two}", True),
        ("101_2", "0101", True),
        ("101_2", "101_3", False),
        ("555-1234", "-679", False),
        ("1/2/2004", "1/4008", False),
        ("13", "13", None),
        ("1/2", "0.5", None),
        ("13", "1 pm", None),
        ("x", "y", None),
    ],
)
def test_the_gold_decides_the_notation(gold, answer, same):
    assert same_notation(answer, gold) is same
