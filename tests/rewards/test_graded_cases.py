"""Answers graded as a person would, from the completion to the score, each kind with the prover that a worker runs."""

import json
from pathlib import Path

import pytest

from r1jax.rewards import accuracy
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.choice import letter
from r1jax.rewards.example import Example
from r1jax.rewards.math_worker import same

GRADED = Path(__file__).parents[1] / "references" / "graded"


@pytest.fixture(autouse=True)
def _the_worker_here(monkeypatch):
    """The comparison of a worker in this process."""

    class Here:
        def call(self, answer, gold):
            return same(answer, gold)

    monkeypatch.setattr(accuracy, "_workers", Here)


def score(gold, completion, **known):
    result = math_answer(Example("", gold, **known), completion)
    return result[0] if isinstance(result, tuple) else result


WRAPPERS = [
    r"\boxed{{{}}}",
    r"<think>r</think>So it is $\boxed{{{}}}$.",
    "<think>r</think><answer>{}</answer>",
    "<think>r</think>\n<answer>\n${}$\n</answer>",
    "The final answer is ${}$.",
    "**Answer:** ${}$",
    "Some words.\n#### {}",
]

KINDS = {
    "letters taken for a unit": [
        ("2xy", ["2xy", "2yx", "2 x y", r"2\cdot x\cdot y"], ["2", "2xz", "2x", "2y", "xy"]),
        ("x^2+2xy", ["2xy+x^2", "x(x+2y)"], ["x^2+2", "x^2+2x", "x^2+2xz"]),
        (r"\frac{1}{2}bh", [r"\frac12 bh", r"\frac{bh}{2}", "hb/2"], [r"\frac12 ab", r"\frac12 b", r"\frac12", "bh"]),
        (r"2\pi rh", [r"2\pi hr", r"2 \pi r h"], [r"2\pi", r"2\pi r", r"2\pi h"]),
        ("x^2yz", ["x^2zy", "yx^2z"], ["x^2", "x^2y", "x^2z"]),
        (r"3\sqrt{13} \text{ cm}", [r"3\sqrt{13}", r"\sqrt{117}\text{ cm}"], [r"3\sqrt{13}\text{ kg}", r"3\sqrt{13}m"]),
    ],
    "two powers": [
        ("(x+1)^2+(y-2)^2=9", ["(y-2)^2+(x+1)^2=9", "9=(x+1)^2+(y-2)^2", "x^2+y^2+2x-4y=4"],
         ["(x+1)^2+(y+2)^2=9", "9"]),
        ("(x^2-1)^2", ["(x-1)^2(x+1)^2", "x^4-2x^2+1"], ["(x^2+1)^2", "x^4+1", "(x-1)^2"]),
        ("2^x+3^x", ["3^x+2^x"], ["2^x-3^x", "5^x", "6^x"]),
        ("e^{x^2}", ["e^{x^2}"], ["e^{2x}", "e^x"]),
    ],
    "a left side that is no bare name": [
        ("293", ["m+n=293", "m+n = 256+37 = 293", "293", "100m+n = 293"], ["m+n=292", "m+n = 256+37 = 292", "2m=293"]),
        ("204", [r"\text{Area} = 204", r"\text{Area of } ABC = 204"], [r"\text{Area} = 205"]),
        ("8", [r"\log_2 256 = 8", "xy = 8", "2^3 = 8"], [r"\log_2 256 = 7", "x^2 = 8", "2x = 8", "3+4=8"]),
    ],
    "plain-text maths": [
        (r"4\pi", ["4*pi", "4pi", "pi*4", "4 pi"], ["4", "pi", "4*pi*2", "pi/4", "4p"]),
        (r"\frac{\pi}{4}", ["pi/4", "0.25*pi"], ["4/pi", "pi", "1/4"]),
        (r"-2\pi", ["-2*pi", "-2pi"], ["2*pi", "-2"]),
        (r"\ln 2", ["ln(2)", "ln 2"], ["ln(3)", "2", "exp(2)"]),
        (r"\sin x", ["sin(x)", "sin x"], ["cos(x)", "x", "sin(y)"]),
        ("x^2+1", ["x**2 + 1", "1 + x**2", "x²+1"], ["x**2 - 1", "x*2 + 1", "x**3+1"]),
        (r"(-\infty, 3)", ["(-inf, 3)", "(-infinity, 3)", "x < 3"], ["(-inf, 3]", "(-3, inf)", "(inf, 3)"]),
        ("x^5", ["x⁵", "x**5"], ["x5", "5x", "x⁴"]),
        ("e^{16}-1", ["-1 + exp(16)", "exp(16) - 1", "e^16-1"], ["exp(16)", "1 + exp(16)", "e^1-1"]),
        (r"\frac{\sqrt{2}}{2}", ["sqrt(2)/2", "1/sqrt(2)", "√2/2", "2^(-1/2)"], ["sqrt(2)", "sqrt(3)/2", "2/2"]),
    ],
    "numbers with a word": [
        ("10000000", ["10 million", "10,000,000"], ["10", "10 thousand", "100 million"]),
        ("10", ["10"], ["10 million", "10_2"]),
        ("24", ["2 dozen", "4!", "4!=24", "4! = 24"], ["5!=24", "2", "4"]),
    ],
    "text": [("no", ["No", "**no**"], ["on", "yes", "none"]), ("even", ["Even."], ["odd", "never"])],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_values_in_every_place(kind):
    for gold, right, wrong in KINDS[kind]:
        for wrapper in WRAPPERS:
            assert [a for a in [gold, *right] if score(gold, wrapper.format(a)) != 1] == [], (gold, wrapper)
            assert [a for a in wrong if score(gold, wrapper.format(a)) != 0] == [], (gold, wrapper)


COMPLETIONS = {
    "cue phrases": [
        ("The answer is 42 because there are 3 groups.", "42", "3"),
        ("The answer is 42, since there are 3 groups of 14.", "42", "14"),
        ("the answer is 42 and not 43", "42", "43"),
        ("The answer is 10 million.", "10000000", "10"),
        ("It is either 9 or 10.", None, "9 10"),
        ("The answer is either 9 or 10.", None, "9 10"),
        ("The answer is 9 or maybe 10", None, "9 10"),
        ("The answer is 34 apples, which is 3 more than 31.", "34", "31 3"),
        ("So the answer is: $x = 7$ (not 8).", "7", "8"),
        ("I thought the answer was 5. The answer is 6.", "6", "5"),
    ],
    "a sentence inside a tag or box": [
        ("<think>r</think><answer>The answer is 18.</answer>", "18", "1"),
        ("<think>r</think><answer>Total: 18</answer>", "18", None),
        ("<think>r</think><answer>Janet makes $18 every day.</answer>", "18", None),
        ("<think>r</think><answer>Janet makes 9 * 2 = $18 every day.</answer>", "18", "9 2"),
        (r"<think>r</think>\boxed{\text{Total: } 18 \text{ dollars}}", "18", None),
        ("#### The total is 18 dollars", "18", None),
        ("<think>r</think><answer>16 or 18</answer>", None, "16 18"),
        ("<think>r</think><answer>3 apples and 4 pears</answer>", None, "3 4"),
        (r"<think>r</think><answer>The distance is $2\sqrt{2}$ units.</answer>", r"\sqrt{8}", "2"),
    ],
    "an explicit answer after the last box": [
        ("Then \\boxed{(x-2)^2=0}, so\n\n**Answer: 2**", "2", "0"),
        ("\\boxed{6} eggs a day.\n\n**Final answer: $34**", "34", "6"),
        ("\\boxed{18}\n\nThis answer is 2 more than 16.", "18", "2 16"),
        ("\\boxed{18}. The answer is in dollars.", "18", None),
        (r"\boxed{x = \frac{-b}{2a}} so the answer is $\frac{3}{2}$.", "1.5", None),
    ],
    "a new turn written by the model": [
        ("Answer: 18\n\nUser: What is 90 + 9?\nAssistant: Answer: 99", "18", "99"),
        ("Answer: 18\nHuman: And 99?\nAnswer: 99", "18", "99"),
        ("The answer is 18.\n\nQuestion: How many?\nThe answer is 99.", "18", "99"),
        ("#### 18\n\nQ: How many?\n#### 99", "18", "99"),
        ("18<|im_end|>\n<|im_start|>user\n99", "18", "99"),
        ("\\boxed{18}<|endoftext|>\\boxed{99}", "18", "99"),
        ("<think>a</think><answer>18</answer>\nUser: b\nAssistant: <think>c</think><answer>99</answer>", "18", "99"),
        ("<think>\nUser: what they ask\n</think><answer>18</answer>", "18", None),
        ("Question: How many eggs? Answer: 18", "18", None),
        ("Let me restate it.\nQuestion: how many eggs are 9 * 2?\nAnswer: 18", "18", "9"),
    ],
}


@pytest.mark.parametrize("kind", COMPLETIONS)
def test_completions(kind):
    for completion, right, wrong in COMPLETIONS[kind]:
        assert right is None or score(right, completion) == 1, completion
        assert [gold for gold in (wrong or "").split() if score(gold, completion) != 0] == [], completion


def test_golds_that_are_whole_solutions():
    solution = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips.\n#### 72"
    for gold in (solution, "Therefore, the answer is: 72.", r"So we get $\boxed{72}$ clips in 2 months."):
        assert score(gold, "#### 72") == score(gold, r"\boxed{72 \text{ clips}}") == score(gold, "So 72 clips.") == 1
        assert score(gold, "#### 24") == score(gold, "2") == 0


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("The answer is B.\nUser: and the next?\nAssistant: The answer is C.", 1),
        ("The answer is B.\n\nHuman: Is it C?\nAnswer: C", 1),
        ("Answer: B\n<|im_end|>\n<|im_start|>user\nAnswer: C", 1),
        ("\\boxed{x=2} So the answer is B.\nUser: x\nThe answer is C.", 1),
        ("The answer is C.\nUser: no\nAssistant: The answer is B.", 0),
        ("I do not know.\nUser: It is B.\nB", 0),
        ("Let me restate the Question: x.\nThe answer is B.", 1),
        ("\\boxed{x^2+1}\n\nSo the answer is B.", 1),
    ],
)
def test_choices_before_a_turn_that_the_model_makes_up(completion, right):
    for reward in (letter, math_answer):
        result = reward(Example("", "B"), completion)
        assert (result[0] if isinstance(result, tuple) else result) == right


def test_equivalent_golds_and_near_misses():
    """Golds of every type that public sets have, with other ways of writing them and near misses, judged by hand."""
    wrong = []
    for line in (GRADED / "golds.jsonl").read_text().splitlines():
        row = json.loads(line)
        for expected, answers in ((1, [row["gold"], *row["right"]]), (0, row["wrong"])):
            wrong += [(row["gold"], a, expected) for a in answers if score(row["gold"], rf"\boxed{{{a}}}") != expected]
    assert wrong == []


@pytest.mark.parametrize(("file", "reward"), [("completions", math_answer), ("choices", letter)])
def test_completions_judged_by_hand(file, reward):
    """Written and judged before the grader; the one that is misjudged takes its boxed answer back in its last words."""
    wrong = []
    for line in (GRADED / f"{file}.jsonl").read_text().splitlines():
        row = json.loads(line)
        data = {"choices": row["choices"]} if row.get("choices") else {}
        example = Example(row["question"], row["gold"], None, data, prompt_opens_think=row["prompt_opens_think"])
        result = reward(example, row["completion"])
        if (result in (1, 1.0)) != row["right"]:
            wrong.append(row["kind"])
    assert wrong == (["withdrawn without a new answer"] if file == "completions" else [])
