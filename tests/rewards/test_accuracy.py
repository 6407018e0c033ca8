"""Accuracy rewards on hand-made answers, right, wrong and hostile."""

import time

import pytest

from r1jax.rewards.accuracy import countdown_expression, exact_number, math_answer
from r1jax.rewards.example import Example


def said(answer):
    return f"<think>r</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("gold", "answer", "score"),
    [
        ("1000", "1,000", 1.0),
        ("1/2", ".5", 1.0),
        ("3", "3.00", 1.0),
        ("35", "36", 0.0),
        ("35", "36 cm", 0.0),
        ("5", "", 0.0),
        ("5", "9" * 100_000, 0.0),
        ("5", "5**5**5**5", 0.0),
        ("7", "__import__('os').system('exit 1')", 0.0),
    ],
)
def test_exact_number(gold, answer, score):
    assert exact_number(Example("", gold), said(answer)) == score


def test_exact_number_needs_closed_reasoning():
    assert exact_number(Example("", "4"), "<think>r <answer>4</answer>") == 0.0
    assert exact_number(Example("", "4"), "<think>r <answer>4</answer></think>") == 0.0
    assert exact_number(Example("", "4", prompt_opens_think=True), "r</think><answer>4</answer>") == 1.0
    assert exact_number(Example("", "4", prompt_opens_think=True), "<answer>4</answer>") == 0.0


@pytest.mark.parametrize("gold", ["", "four"])
def test_exact_number_refuses_a_gold_that_is_no_number(gold):
    for completion in (said(""), said(gold), ""):
        with pytest.raises(ValueError, match="is not a number"):
            exact_number(Example("", gold), completion)


@pytest.mark.parametrize(
    ("gold", "completion", "score"),
    [
        ("72", said("72"), 1.0),
        ("72", "<think>r</think>That makes \\boxed{72 \\text{ dollars}}.", 1.0),
        ("72", "<think>\nmulti\nline\n</think>\n#### 72\n", 1.0),
        ("72", "The answer is 72.", 1.0),
        ("72", "The answer is 73.", 0.0),
        ("72", "<think>It is 72", 0.0),
        ("72", "<think>It is \\boxed{72}</think>", 0.0),
        ("E", "<think>r</think>\\boxed{\\text{(E)}}", 1.0),
        ("E", "<think>r</think>The answer is E.", 0.0),  # no rule finds it
        ("5", said("5^{5^{5^{5}}}"), 0.0),
        ("5", said("9" * 100_000), 0.0),
        ("7", said("\\pi*__import__('os').system('exit 1')"), 0.0),
        ("7", "", 0.0),
    ],
)
def test_math_answer(gold, completion, score):
    assert math_answer(Example("", gold), completion) == score


def test_math_answer_needs_closed_reasoning_and_a_gold():
    assert math_answer(Example("", "4", prompt_opens_think=True), "r</think>\\boxed{4}") == 1.0
    assert math_answer(Example("", "4", prompt_opens_think=True), "\\boxed{4}") == 0.0
    with pytest.raises(ValueError, match="the gold answer is empty"):
        math_answer(Example("", ""), said("\\boxed{}"))


@pytest.mark.parametrize(
    ("numbers", "target", "answer", "score"),
    [
        ([1, 5, 4], 6, "1.5*4", 0.0),  # digits glued together
        ([1, 5, 4], 60, "15*4", 0.0),
        ([7, 2], 3, "7//2", 0.0),
        ([1, 2, 3], 9, "(1+2)*3 = 9", 1.0),
        ([1, 2, 3], 9, "(1+2)×3", 1.0),
        ([9, 9, 9, 9], 9, "9**9**9**9", 0.0),
        ([1, 0], 1, "1/0", 0.0),
        ([1, 2, 3], 3, "1+2", 0.0),  # a number is missing
        ([1, 2], 4, "1+2+1", 0.0),  # a number is used twice
        ([2, 2], 4, "2+2", 1.0),
        ([2, 2], 2, "2", 0.0),
        ([3, 3, 8, 8], 24, "8/(3-8/3)", 1.0),  # 23.99999999999999 in floats
        ([3, 7, 25], 68, "(25*3)-7", 1.0),
        ([3, 7, 25], 68, "68", 0.0),
        ([3, 7, 25], 68, "25*3-7+0", 0.0),
        ([1, 3], 0, "1/3", 0.0),
        ([3, 7, 25], 68, "", 0.0),
    ],
)
def test_countdown_expression(numbers, target, answer, score):
    example = Example("", "", data={"numbers": tuple(numbers), "target": target})
    start = time.perf_counter()
    assert countdown_expression(example, said(answer)) == score
    assert time.perf_counter() - start < 0.01


def test_countdown_expression_needs_closed_reasoning():
    data = {"numbers": (1, 2), "target": 3}
    assert countdown_expression(Example("", "", data=data), "<think><answer>1+2</answer>") == 0.0
    assert countdown_expression(Example("", "", data=data, prompt_opens_think=True), "<answer>1+2</answer>") == 0.0
    assert countdown_expression(Example("", "", data=data), "") == 0.0


def test_deep_nesting_costs_nothing():
    example = Example("", "1", data={"numbers": (1,), "target": 1})
    completion = said("(" * 10_000 + "1" + ")" * 10_000)
    start = time.perf_counter()
    assert countdown_expression(example, completion) == exact_number(example, completion) == 0.0
    assert time.perf_counter() - start < 0.05
