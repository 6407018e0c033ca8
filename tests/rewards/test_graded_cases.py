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


# Statements that name the gold answer and are not it, and statements of it that look like others.
# fmt: off
NOT_THE_ANSWER = [
    ("The answer is not 42.", "42"),
    ("The answer isn't 7.", "7"),
    (r"\boxed{\text{not } 42}", "42"),
    ("<answer>never 7</answer>", "7"),
    ("The answer is less than 42.", "42"),
    ("<answer>at most 42</answer>", "42"),
    (r"\boxed{\text{at least }42}", "42"),
    ("The answer is 90 or more", "90"),
    ("the answer is twice 42", "42"),
    ("The answer is 24 out of 42", "42"),
    ("The answer is 4 remainder 3", "3"),
    (r"The answer is not $2\sqrt{3}$", r"2\sqrt{3}"),
    (r"The answer is less than $2\sqrt3$", r"2\sqrt{3}"),
    (r"\boxed{3}\text{ or }\boxed{2}", "2"),
    (r"\boxed{3}; \boxed{2}", "2"),
    (r"\boxed{3} / \boxed{2}", "2"),
    (r"\boxed{3} or possibly \boxed{2}", "2"),
    (r"<answer>5=2\sqrt3</answer>", r"2\sqrt{3}"),
    (r"\boxed{x^2=2\sqrt3}", r"2\sqrt{3}"),
    (r"\boxed{3=x^2+1}", "x^2+1"),
    (r"\boxed{x^2=x^2+1}", "x^2+1"),
    (r"\boxed{42:1}", "42"),
    (r"\boxed{1:2}", r"\frac12"),
    (r"\boxed{42\ldots}", "42"),
    (r"\boxed{x<0 \text{ and } x>1}", r"(-\infty,0)\cup(1,\infty)"),
    (r"\boxed{x<0 \text{ and } x>1}", r"x<0 \text{ or } x>1"),
    ("<answer>60 km/h</answer>", "60 mph"),
    ("<answer>10 mph</answer>", "10 km/h"),
    ("<answer>10 liters</answer>", "10 gallons"),
    ("<answer>€5</answer>", r"\$5"),
    (r"\boxed{30 \text{ radians}}", r"30^\circ"),
    ("<answer>7 squared</answer>", "7"),
    ("<answer>42 and a half</answer>", "42"),
    ("The answer is 7 am", "7"),
    ("#### 3. Conclusion\nSo it is 4", "3"),
    ("<answer>=</answer>", "x^2+1"),
    (r"\boxed{==}", "x^2+1"),
    ("=", "x^2+1"),
    ("\\boxed{42}\n\nExplanation: the answer is even because 6 is even.", "6"),
]
THE_ANSWER = [
    ("<answer>There are 3 red and 4 blue, so 7 in total.</answer>", "7"),
    ("#### Step 1\nx\n#### Conclusion\nTherefore there are 42 apples.", "42"),
    ("\\boxed{42}\n\nExplanation: the answer is even because 6 is even.", "42"),
    (r"\boxed{7}, attained at $x=3$, and the answer is reached when $x=3$", "7"),
    (r"\boxed{7}. That holds when the answer is not restricted.", "7"),
    (r"\boxed{\underline{42}}", "42"),
    (r"\boxed{\approx 42}", "42"),
    ("<answer>= 7</answer>", "7"),
    (r"\boxed{2\sqrt{3} \approx 3.464}", r"2\sqrt3"),
    (r"\boxed{\ln(2) \approx 0.693}", r"\ln 2"),
    (r"\boxed{\frac13 \approx 0.33 \text{ meters}}", "1/3"),
    (r"\boxed{(x+1)^2 = x^2+2x+1}", "x^2+2x+1"),
    (r"\boxed{3} \boxed{3}", "3"),
    (r"\boxed{60 \text{ mph}}", "60 mph"),
    ("<answer>60 miles per hour</answer>", "60 mph"),
    ("not 5, but 7", "7"),
    ("It's 42 and not 43", "42"),
    (r"The answer is $2\sqrt3$, not $\sqrt3$.", r"2\sqrt3"),
    (r"\boxed{A = \pi r^2 = 4\pi}", r"4\pi"),
    ("So $x^2-1 = (x-1)(x+1)$.", "(x-1)(x+1)"),
]
# fmt: on


def test_statements_about_the_gold_answer():
    assert [(completion, gold) for completion, gold in NOT_THE_ANSWER if score(gold, completion) != 0] == []
    assert [(completion, gold) for completion, gold in THE_ANSWER if score(gold, completion) != 1] == []


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


@pytest.mark.slow
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
