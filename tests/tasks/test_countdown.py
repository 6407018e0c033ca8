"""Countdown against Python's own arithmetic, and its demonstrations against its own rewards."""

import re
from fractions import Fraction

import pytest

from r1jax.config.tasks import CountdownTask
from r1jax.tasks import make_task
from r1jax.tasks.countdown import Countdown
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
