"""The shaping rewards against the values that their papers' and peers' formulas give."""

import math
import random

import pytest

from r1jax.rewards.example import BatchReward, Completion, Example
from r1jax.rewards.shaping import BatchCosine, cosine, overlong, repetition

EXAMPLE = Example("", "")


def of(length, text="x"):
    return Completion(text, length=length, truncated=False)


@pytest.mark.parametrize(
    ("length", "value"),
    [(0, 0), (1, 0), (80, 0), (81, -0.05), (85, -0.25), (90, -0.5), (99, -0.95), (100, -1), (101, -1), (10_000, -1)],
)
def test_overlong(length, value):
    assert overlong(EXAMPLE, of(length), max_length=100, cache=20) == pytest.approx(value)


def test_overlong_is_in_tokens_not_characters():
    assert overlong(EXAMPLE, of(10, "x" * 1000), max_length=100, cache=20) == 0
    assert overlong(EXAMPLE, of(90, ""), max_length=100, cache=20) == -0.5


def test_overlong_never_rises_with_length_and_stays_in_its_bounds():
    for cache in (1, 7, 100):
        values = [overlong(EXAMPLE, of(n), max_length=100, cache=cache) for n in range(300)]
        assert values == sorted(values, reverse=True) and values[0] == 0 and min(values) == values[100] == -1


@pytest.mark.parametrize("reward", [lambda e, c: overlong(e, c, max_length=9, cache=2),
                                    lambda e, c: cosine(e, c, accuracy=lambda e, c: 1.0, max_length=9)])  # fmt: skip
def test_lengths_need_a_completion(reward):
    with pytest.raises(ValueError, match="length in tokens, got a bare str"):
        reward(EXAMPLE, "text")


@pytest.mark.parametrize(
    ("score", "length", "value"),
    [
        (1.0, 50, 0.75), (0.0, 50, -0.75),
        (1.0, 0, 1.0), (1.0, 100, 0.5), (1.0, 900, 0.5),
        (0.0, 0, -1.0), (0.0, 100, -0.5), (0.0, 900, -0.5),
        (0.5, 50, 0.75), (0.49, 50, -0.75),
        (1.0, 25, 0.5 + 0.25 * (1 + math.cos(math.pi / 4))),
    ],
)  # fmt: skip
def test_cosine(score, length, value):
    assert cosine(EXAMPLE, of(length), accuracy=lambda e, c: score, max_length=100) == pytest.approx(value)


def test_cosine_passes_on_none_and_reasons():
    for result in (None, (None, "crashed")):
        assert cosine(EXAMPLE, of(5), accuracy=lambda e, c, v=result: v, max_length=10) == result
    score, reason = cosine(EXAMPLE, of(5), accuracy=lambda e, c: (0.0, "unclosed_think"), max_length=10)
    assert (score, reason) == (pytest.approx(-0.75), "unclosed_think")


def test_cosine_of_a_batch_is_that_of_each_text():
    class Accuracy(BatchReward):
        def batch(self, examples, completions):
            return [1.0, (0.0, "wrong"), (None, "timeout")]

    texts = [of(n) for n in (20, 50, 70)]
    expected = [
        cosine(EXAMPLE, text, accuracy=lambda e, c, r=result: r, max_length=100)
        for text, result in zip(texts, Accuracy().batch([], []), strict=True)
    ]
    assert BatchCosine(Accuracy(), max_length=100).batch([EXAMPLE] * 3, texts) == expected


def test_cosine_is_monotone_and_the_right_stay_above_the_wrong():
    right = [cosine(EXAMPLE, of(n), accuracy=lambda e, c: 1.0, max_length=100) for n in range(150)]
    wrong = [cosine(EXAMPLE, of(n), accuracy=lambda e, c: 0.0, max_length=100) for n in range(150)]
    assert right == sorted(right, reverse=True) and wrong == sorted(wrong) and min(right) > max(wrong)


def test_cosine_gives_the_accuracy_the_example_and_the_text():
    example = Example("2+2", "4")
    right = cosine(example, of(50, "4"), accuracy=lambda e, c: float(c == e.answer), max_length=100)
    assert right == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("text", "n", "value"),
    [
        ("this this this this this", 2, -0.75),
        ("this is a this is a test", 2, -1 / 3),
        ("This THIS\nthis\t this   this", 2, -0.75),
        ("a b c d", 2, 0),
        ("a a a a", 1, -0.75),
        ("a a", 2, 0),
        ("a", 2, 0),
        ("", 1, 0),
        ("a b c a b c a b c", 3, -4 / 7),
        ("我我我我我", 2, -0.75),
        ("先加后减，先加后减", 2, -3 / 8),
        ("ไทยไทย", 2, -2 / 5),
        ("用 CNN 做 用 CNN 做", 2, -2 / 5),
    ],
)
def test_repetition(text, n, value):
    assert repetition(EXAMPLE, text, n=n) == pytest.approx(value)


def test_repetition_is_bounded_and_falls_as_a_loop_continues():
    chance = random.Random(0)
    for _ in range(200):
        text = " ".join(chance.choices("abc", k=chance.randint(0, 30)))
        assert -1 < repetition(EXAMPLE, text, n=chance.randint(1, 4)) <= 0
    values = [repetition(EXAMPLE, "so it is " * times, n=3) for times in range(1, 50)]
    assert values == sorted(values, reverse=True) and values[-1] < -0.97
