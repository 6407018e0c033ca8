"""Countdown against Python's own arithmetic, and its demonstrations against its own rewards."""

import random
import re
from fractions import Fraction

import pytest
from cpu_time import cpu_limit
from hostile_texts import hostile

from r1jax.config.tasks import CountdownTask
from r1jax.rewards.example import Example
from r1jax.tasks import make_task
from r1jax.tasks.countdown import Countdown, accuracy, arithmetic
from r1jax.text.tokenizer import CharacterTokenizer

THREE = {"numbers": 3, "max_number": 25, "direct_share": 0.5}


def countdown(seed, **settings):
    return Countdown(CountdownTask(name="countdown", **settings), seed)


OPERATIONS = {"+": Fraction.__add__, "-": Fraction.__sub__, "*": Fraction.__mul__, "/": Fraction.__truediv__}


def read(prompt):
    numbers, target = re.fullmatch(r"([\d,]+)>(\d+):", prompt).groups()
    return tuple(map(int, numbers.split(","))), int(target)


def test_examples_are_fixed():
    task = countdown(0, **THREE)
    example = task.example("train", 2)
    assert example.question == "14,8,9>58:"
    assert example.demonstration == "<think>8*9=72,72-14=58</think><answer>(8*9)-14</answer>"
    assert example.data == {"numbers": (14, 8, 9), "target": 58}
    assert task.example("train", 0).demonstration == "<think>5+(20*6)</think><answer>5+(20*6)</answer>"
    assert [task.example("test", i).question for i in range(3)] == ["6,17,20>346:", "16,5,6>27:", "12,10,23>2760:"]


@pytest.mark.parametrize("numbers", [2, 3, 4, 6])
def test_demonstrations_score_full_marks_and_steps_are_true(numbers):
    task = countdown(0, numbers=numbers, max_number=25, direct_share=0.5)
    tokenizer = CharacterTokenizer(task.symbols)
    for i in range(1000 if numbers == 3 else 200):
        example = task.example("train", i)
        given, target = read(example.question)
        assert len(given) == numbers and all(1 <= n <= 25 for n in given) and target >= 1
        assert example.data == {"numbers": given, "target": target}
        assert sorted(map(int, re.findall(r"\d+", example.answer))) == sorted(given)
        for name, reward in task.rewards.items():
            assert reward(example, example.demonstration) == 1.0, (name, example)
        reasoning = example.demonstration.removeprefix("<think>").partition("</think>")[0]
        if "=" in reasoning:
            for step in reasoning.split(","):
                x, operator, y, value = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step).groups()
                assert OPERATIONS[operator](Fraction(x), Fraction(y)) == int(value)
            assert int(value) == target
        text = example.question + example.demonstration
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_symbol_is_used():
    task = countdown(0, **THREE)
    texts = "".join(e.question + e.demonstration for e in (task.example("train", i) for i in range(300)))
    assert all(symbol in texts for symbol in task.symbols)


@pytest.mark.parametrize("settings", [THREE, {"numbers": 2, "max_number": 8, "direct_share": 0.5}])
def test_no_problem_is_in_both_splits(settings):
    def problem(example):
        numbers, target = read(example.question)
        return tuple(sorted(numbers)), target

    train = {problem(countdown(0, **settings).example("train", i)) for i in range(2000)}
    test = {problem(countdown(9, **settings).example("test", i)) for i in range(500)}
    assert train and test and not train & test


def test_same_index_same_example_and_another_seed_another():
    task, again, other = countdown(3, **THREE), countdown(3, **THREE), countdown(4, **THREE)
    backwards = [again.example("train", i) for i in reversed(range(50))]
    assert [task.example("train", i) for i in range(50)] == backwards[::-1]
    assert [task.example("train", i) for i in range(50)] != [other.example("train", i) for i in range(50)]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_direct_share(share):
    task = countdown(0, **THREE | {"direct_share": share})
    examples = [task.example("train", i) for i in range(50)]
    assert {f"<think>{e.answer}</think>" in e.demonstration for e in examples} == {share == 1.0}


@pytest.mark.parametrize("bad", [{"numbers": 1}, {"max_number": 1}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        countdown(0, **THREE | bad)


def test_make_task_passes_the_settings_on():
    made = make_task(CountdownTask(name="countdown"), 1)
    assert [made.example("test", i) for i in range(5)] == [countdown(1, **THREE).example("test", i) for i in range(5)]


def answered(answer):
    return f"<think>r</think><answer>{answer}</answer>"


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
def test_accuracy(numbers, target, answer, score):
    example = Example("", "", data={"numbers": tuple(numbers), "target": target})
    with cpu_limit(0.5):
        assert accuracy(example, answered(answer)) == score


def test_accuracy_needs_closed_reasoning():
    data = {"numbers": (1, 2), "target": 3}
    assert accuracy(Example("", "", data=data), "<think><answer>1+2</answer>") == 0.0
    assert accuracy(Example("", "", data=data, prompt_opens_think=True), "<answer>1+2</answer>") == 0.0
    assert accuracy(Example("", "", data=data), "") == 0.0


def test_deep_nesting_costs_nothing():
    example = Example("", "1", data={"numbers": (1,), "target": 1})
    completion = answered("(" * 10_000 + "1" + ")" * 10_000)
    with cpu_limit(0.5):
        assert accuracy(example, completion) == 0.0


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        (r"<answer>(1+2)\times 3</answer>", 1),
        ("<answer>[(1+2)*3]</answer>", 1),
        (r"So \boxed{(1+2)*3}.", 1),
        ("<answer>(1+2)\n*3</answer>", 1),
        ("<answer>$(1 + 2) \\cdot 3 = 9$</answer>", 1),
        ("The answer is (1+2)*3 = 9.", 1),
        ("<answer>(1+2)^3</answer>", 0),
        ("<answer>9</answer>", 0),
    ],
)
def test_countdown_as_models_write_it(completion, right):
    example = Example("", "", data={"numbers": (1, 2, 3), "target": 9})
    assert accuracy(example, completion) == right


# fmt: off
NO_EXPRESSIONS = [
    "", "=", "= 9", "1=2=3", "1.5*4", "7//2", "2**3", "9**9**9**9", "1/0", "1/(2-2)", "-3+5", "+3", "1+-2", "1%2",
    "()", "(1", "1)", "1 2", "1,2", "1+", "*1", "1_0", "0x1", "1e3", "1j", "True", "x", "f(1)", "'1'",
    "1;2", "1#2", "٣+1", "1<2", "1if 1else 2", "__import__('os').system('exit 1')", "1" * 201,
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
        (r"(1+2)\times 3", 9, [1, 2, 3]),
        (r"\frac{1+2}{3} \cdot 4", 4, [1, 2, 3, 4]),
        ("[(1+2)*3]", 9, [1, 2, 3]),
        ("(1+\n2)*3", 9, [1, 2, 3]),
        ("(1)(2)", 2, [1, 2]),
    ],
)
def test_arithmetic(text, value, numbers):
    assert arithmetic(text) == (value, numbers)


@pytest.mark.parametrize("text", NO_EXPRESSIONS)
def test_arithmetic_of_anything_else_is_none(text):
    assert arithmetic(text) is None


def test_arithmetic_agrees_with_python_on_random_expressions():
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
        assert arithmetic(text) == (value, numbers)


@pytest.mark.parametrize("name", hostile())
def test_hostile_text_is_no_arithmetic(name):
    with cpu_limit(0.5):
        arithmetic(hostile()[name])


def test_deep_nesting_is_arithmetic():
    assert arithmetic("(" * 50 + "1" + ")" * 50) == (1, [1])
    with cpu_limit(0.5):
        arithmetic("(" * 99 + "1" + ")" * 99)
