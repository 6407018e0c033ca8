"""The accuracy rewards on hand-made answers: right, wrong and hostile ones."""

import os
import random
import threading
import time

import pytest
from cpu_time import cpu_limit

from r1jax.rewards import accuracy
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.example import Example
from r1jax.sandbox.workers import WorkerCrash, WorkerPool, WorkerTimeout, WorkerUnavailable


def answered(answer):
    return f"<think>r</think><answer>{answer}</answer>"


def score(gold, completion, **known):
    result = math_answer(Example("", gold, **known), completion)
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize(
    ("gold", "completion", "expected"),
    [
        ("72", answered("72"), 1.0),
        ("72", "<think>r</think>That makes \\boxed{72 \\text{ dollars}}.", 1.0),
        ("72", "<think>\nmulti\nline\n</think>\n#### 72\n", 1.0),
        ("72", "The answer is 72.", 1.0),
        ("72", "The answer is 73.", 0.0),
        ("72", "<think>It is 72", (0.0, "unclosed_think")),
        ("4", "<think> … \\boxed{4}", (0.0, "unclosed_think")),
        ("4", "<think>r</think> \\boxed{4} <think>wait", (0.0, "unclosed_think")),
        ("72", "<think>It is \\boxed{72}</think>", (0.0, "no_answer")),
        ("4", "<answer>4</answer><think>r</think>", (0.0, "no_answer")),
        ("7", "\\boxed{7", (0.0, "no_answer")),
        ("7", "", (0.0, "no_answer")),
        ("E", "<think>r</think>\\boxed{\\text{(E)}}", 1.0),
        ("E", "<think>r</think>The answer is E.", 1.0),
        ("E", "<think>r</think>The correct answer is (E) 12.", 1.0),
        ("E", "<think>r</think>The correct answer is (D) 12.", 0.0),
        ("E", "<think>r</think>**Answer:** E", 1.0),
        ("E", "E", 1.0),
        ("2", "\\boxed{1} … then \\boxed{2}", 1.0),
        ("1", "\\boxed{1} … then \\boxed{2}", 0.0),
        ("1000", "#### 1,000", 1.0),
        ("72", "####72", 1.0),
        ("72", "#### 72 dollars", 1.0),
        ("34", "**Answer:** 34", 1.0),
        ("34", "Answer: `$34$`", 1.0),
        ("34", "The final answer is: $34$. I hope it is correct.", 1.0),
        ("34", "So the answer to the question is 34 apples, which is fine.", 1.0),
        ("3/4", "The answer is $\\frac{3}{4}$, as 3 and 4 show.", 1.0),
        ("New York", "The answer is New York.", 1.0),
        ("(1,2)", "The answer is (1, 2).", 1.0),
        ("(1,2)", "Therefore $(x,y) = (1,2)$ is the only one.", 1.0),
        ("x \\ge 5", "Therefore $x \\geq 5$ is the solution.", 1.0),
        ("\\sqrt{2}", "So it is \\(\\sqrt{2}\\).", 1.0),
        ("2", "So it is $10\\sqrt{2}$.", 0.0),  # its last number is not the answer
        ("1", "It is $-[0,1)$", 0.0),
        ("40/9", "It is 4 4/9.", 1.0),
        ("9", "It is $4\\frac{4}{9}$.", 0.0),
        ("0.28", "That makes 28%.", 1.0),
        ("8", "$5 + 3 = 8$ apples", 1.0),
        ("6", "She has $10 - $4 = $6", 1.0),
        ("5", answered("5^{5^{5^{5}}}"), 0.0),
        ("5", answered("9" * 100_000), 0.0),
        ("5", answered("(" * 10_000), 0.0),
        ("7", answered("\\pi*__import__('os').system('exit 1')"), 0.0),
        (r"\boxed{\frac{1}{2}}", answered("0.5"), 1.0),  # a gold in a box
        ("28\\%", "28 percent", 1.0),
        ("1:00", answered("12:00"), 0.0),
        ("2x+z=1", answered("1"), 0.0),
        # these go to a worker
        ("x<1", answered("-x>-1"), 1.0),
        ("x<1", answered("x>-1"), 0.0),
        ("1+\\frac1e", answered("1-\\frac1e"), 0.0),
        ("1+\\frac1e", answered("\\frac{e+1}{e}"), 1.0),
        ("2\\sqrt{2}", answered("\\sqrt{8}"), 1.0),
        ("2\\sqrt{2}", answered("\\sqrt{7}"), 0.0),
        ("1 \\pm \\sqrt{5}", answered("1-\\sqrt5, 1+\\sqrt5"), 1.0),
    ],
)
def test_math_answer(gold, completion, expected):
    assert math_answer(Example("", gold), completion) == expected


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "A",
            ["(A)", "a", "A.", "A)", "[A]", r"\textbf{(A)}\ 5", "A: 5", r"\text{(A) } 5", "Option A"],
            ["B", "A or B", "AB", "An apple", "5", "A is wrong", "(A, B)", ""],
        ),
        ("(C)", ["C", "(C)", "c)", r"\mathrm{C}"], ["D", "(D) C"]),
        ("(b)", ["b", "B", "(B)", "b. something"], ["a", "d"]),
        (r"\text{E}", ["E", r"\text{E}", "E: 12", "e", "E)", "(E) 12", "**E**", "$E$"], ["D", "12", "EE"]),
        ("E", [r"\textbf{(E)}", "E: it is 12", "E.", "(E)", "the answer is E"], ["D: E", "every", "e is it", ""]),
    ],
)
def test_a_gold_answer_that_is_a_choice(gold, right, wrong):
    for place in (r"\boxed{{{}}}", "<think>r</think><answer>{}</answer>"):
        assert [answer for answer in right if score(gold, place.format(answer)) != 1.0] == []
        assert [answer for answer in wrong if score(gold, place.format(answer)) != 0.0] == []


def test_math_answer_needs_closed_reasoning_and_a_gold():
    assert math_answer(Example("", "4", prompt_opens_think=True), "r</think>\\boxed{4}") == 1.0
    assert math_answer(Example("", "4", prompt_opens_think=True), "\\boxed{4}") == (0.0, "unclosed_think")
    for gold in ("", "  ", "\\boxed{}", "$$", "\\text{}"):
        for completion in (answered("\\boxed{}"), "\\boxed{}", "", "5", "<think>r"):
            with pytest.raises(ValueError, match="the gold answer is empty"):
                math_answer(Example("", gold), completion)


# fmt: off
GSM8K_GOLDS = [
    "3", "5", "6", "7", "9", "-3", "-7", "10", "15", "16", "18", "21", "22", "23", "25", "39", "41", "44", "48", "50",
    "51", "60", "63", "65", "67", "70", "72", "75", "84", "98", "-10", "-47", "130", "150", "153", "200", "210", "300",
    "360", "400", "428", "504", "600", "650", "736", "850", "918", "940", "1525", "1600", "2340", "2520", "1,080", "0",
    "1,152", "1,200", "1,600", "1,800", "1,875", "14000", "3,000", "3,285", "3,380", "3,890", "5,000", "6,000", "6,600",
    "9,050", "9,450", "9,492", "10,000", "10,800", "12,000", "15,620", "24,960", "262500", "27,000", "27,200", "36,000",
    "40,000", "55,000", "59,616", "65,960", "90,000", "165,000", "276,000", "285,000", "520,000", "845,640", "885,000",
    "1,000,000",
]
STYLES = [
    "{n}", "\\boxed{{{n}}}", "<think>3</think><answer>{n}</answer>", "\\boxed{{{n} \\text{{ apples}}}}", "${n}",
    "<answer>{n:,}</answer>", "3 + 4\n#### {n}", "The answer is {n}.", "Of 12 he has {n:,} left.", "**Answer:** {n:,}",
]
# fmt: on


def test_gsm8k_golds_in_every_style_and_none_of_their_near_misses():
    """A sample; `scripts/check_gsm8k_golds.py` checks them all."""
    for gold in GSM8K_GOLDS:
        value = int(gold.replace(",", ""))
        for style in STYLES:
            assert score(gold, style.format(n=value)) == 1.0, (gold, style)
            for wrong in {value + 1, value * 10, -value} - {value}:
                assert score(gold, style.format(n=wrong)) == 0.0, (gold, wrong, style)


def test_numeric_golds_start_no_worker(monkeypatch):
    monkeypatch.setattr(accuracy, "_workers", lambda: pytest.fail("a worker was started"))
    for gold in (*GSM8K_GOLDS, "\\frac{1}{2}", "\\{1,2\\}", "[0,1)", "E", "Evelyn", "2\\sqrt{2}", "x^2+1"):
        assert score(gold, answered(gold)) == 1.0
    for answer in ("4", "x = 4", "4 cm", "four", "5^{5^{5}}", "x + 1", "(1,2)", "9" * 500, "((((", ")("):
        assert score("5", answered(answer)) == 0.0


@pytest.fixture
def quick_workers(monkeypatch):
    """Workers of this test alone, with little time."""
    pool = WorkerPool("r1jax.rewards.math_worker:same", size=2, timeout=4.0)
    monkeypatch.setattr(accuracy, "_workers", lambda: pool)
    return pool


def test_a_slow_comparison_scores_0_and_affects_no_other(quick_workers):
    slow = answered(r"\binom{99999999}{4999999} + \sqrt{2}")
    results: dict[int, object] = {}

    def grade(i):
        results[i] = math_answer(
            Example("", "2\\sqrt{2}"), slow if i % 4 == 0 else answered(f"\\sqrt{{{8 + i % 4 - 1}}}")
        )

    threads = [threading.Thread(target=grade, args=(i,)) for i in range(12)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start < 150  # one alone would take minutes
    assert [results[i] for i in range(12)] == [(0.0, "timeout"), 1.0, 0.0, 0.0] * 3


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (WorkerTimeout, (0.0, "timeout")),
        (WorkerCrash, (0.0, "crash")),
        (ValueError, (0.0, "unreadable")),
        (WorkerUnavailable, (None, "unavailable")),
    ],
)
def test_what_a_worker_cannot_compare_has_a_reason(monkeypatch, error, result):
    class Failing:
        def call(self, *_):
            raise error

    monkeypatch.setattr(accuracy, "_workers", Failing)
    assert math_answer(Example("", "2\\sqrt{2}"), answered("\\sqrt{8}")) == result


def test_model_text_is_never_evaluated(tmp_path):
    file = tmp_path / "made"
    for gold in ("7", "\\pi", "x+1", "x=1", "\\{\\pi\\}", "(1,\\pi)"):
        for payload in (
            rf"\pi*__import__('os').system('touch {file}')",
            f"__import__('os').system('touch {file}')",
            rf"\text{{__import__('os').system('touch {file}')}}",
            f"exec(open('{file}','w'))",
        ):
            assert score(gold, answered(payload)) == 0.0
            assert score(gold, f"\\boxed{{{payload}}}") == 0.0
    assert not os.path.exists(file)
    assert score("\\pi", answered("\\frac{2\\pi}{2}")) == 1.0
    assert score("\\pi", answered("2\\pi")) == 0.0


def test_fuzzed_answers_are_wrong_and_cheap():
    """Random pieces of LaTeX against golds of each type, none of which goes to a worker."""
    rng = random.Random(0)
    pieces = [*"()[]{}<>=,;:^_|&%$+-*/!.0123456789xe \n\\", "\\frac", "\\sqrt", "\\boxed{", "\\text{", "\\pm", "\\cup"]
    pieces += [
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\\\",
        "</answer>",
        "<think>",
        "\\infty",
        "\\left(",
        "é",
        "\ud800",
    ]
    golds = ["5", "\\{1,2\\}", "(1,2)", "[0,1)", "E", "1:00", "2020-01-05", "101_2", "1:2", "Evelyn", "x<1", "x=5"]
    with cpu_limit(5):
        for i in range(600):
            text = "".join(rng.choices(pieces, k=rng.randrange(1, 80)))
            result = math_answer(Example("", golds[i % len(golds)]), answered("@" + text))
            score, _ = result if isinstance(result, tuple) else (result, "")
            assert score == 0.0, text
