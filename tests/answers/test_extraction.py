"""Final answers in hand-made completions, and in texts made to hurt a parser."""

import random
import time

import pytest
from cpu_time import cpu_limit
from hostile_texts import hostile, hostile_markup

from r1jax.answers.equivalence import same_answer
from r1jax.answers.extraction import after_reasoning, extract_answer, gold_answer, kind_of


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
        ("<think>r</think><answer>4", None),
        ("<think>r</think><answer> </answer>", None),
        ("<think>r</think><answer>4</answer><answer></answer>", None),  # the last one is blank
        ("", None),
    ],
)
def test_answers_in_a_block(completion, answer):
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("r</think>\n<answer>4</answer>", "4"),
        ("r <answer>4</answer>", None),
        ("<answer>4</answer>", None),
        ("<think>r</think><answer>4</answer>", "4"),
    ],
)
def test_a_block_where_the_prompt_opens_the_reasoning(completion, answer):
    assert extract_answer(completion, prompt_opens_think=True) == answer


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
        (r"It is $\frac{3}{4}$.", r"\frac{3}{4}"),
        ("It is .5", ".5"),
        ("The area is 12 m^2.", "12 m^2"),
        ("It is 10^5", "10^5"),
        ("It is x_1", None),
        ("It is 7 by rule_2", "7"),
        ("US$5", "5"),
        ("1,2345", "2345"),
        ("no number", None),
        # Headings in Markdown, which are no answers.
        ("So the total is \\boxed{12}.\n\n#### Verification\n3*4 = 12", "12"),
        ("The total is 12.\n\n#### Final Answer\n12", "12"),
        ("The total is 13.\n\n#### **Final answer:**\n12", "12"),
        ("#### Total cost\nThe total is 12 dollars.", "12 dollars"),
        ("<answer>#### Result\n12</answer>", "12"),
        ("so it is 3\n#### no solution", "no solution"),
        # A check after the answer.
        ("The result is \\boxed{17}.\n\nLet's check our answer: 17 - 5 = 12. Correct.", "17"),
        ("\\boxed{17}. Substituting our answer: 2*17 = 34.", "17"),
        ("\\boxed{17}. Now, verifying the answer: $17 - 5 = 12$.", "17"),
        ("\\boxed{12}. Checking again, I see a slip. The answer is 13.", "13"),
        # A modulus is no answer.
        ("It is 3 mod 7.", "3"),
        (r"So $x \equiv 3 \pmod{7}$.", r"x \equiv 3 mod {7}"),
        (r"\boxed{3 \pmod 7}", r"3 \pmod 7"),
        # The question once more, before there is an answer.
        ("Step 1: restate the problem.\nProblem: What is 3+4?\nSolution: 3+4=7, so \\boxed{7}.", "7"),
        ("1. First\n**Question:** What is 3+4?\nWe compute 3+4=7. \\boxed{7}", "7"),
        ("She has 12.\n\nQuestion: And how many has he?\nAnswer: 5", "12"),
        ("", None),
        ("<think>r \\boxed{4}", None),  # never closed
        ("<think>r 4</think>", None),  # nothing after it
        ("\\boxed{4}<think>r</think>", None),
        ("<think>r</think>4<think>hmm", None),
    ],
)
def test_extract_answer(completion, answer):
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(
    ("completion", "kind", "answer"),
    [
        ("\\boxed{\\frac{1}{2}x}\n\n#### Summary\nprobability", "formula", r"\frac{1}{2}x"),
        ("#### x+y", "formula", "x+y"),
        ("\\boxed{Paris}\n\n#### Summary\nIt is a city.", "text", "Paris"),
        ("#### Paris", "text", "Paris"),
        ("\\boxed{B}\n#### Explanation\nwords", "choice", "B"),
        ("#### B", "choice", "B"),
    ],
)
def test_headings_are_no_answers_of_other_kinds(completion, kind, answer):
    assert extract_answer(completion, kind=kind) == answer


def test_extract_answer_where_the_prompt_opens_the_reasoning():
    assert extract_answer(r"r</think>\boxed{4}", prompt_opens_think=True) == "4"
    assert extract_answer(r"\boxed{4}", prompt_opens_think=True) is None


@pytest.mark.parametrize("gold", ["", " \n"])
def test_an_empty_gold_answer_is_refused(gold):
    with pytest.raises(ValueError, match="the gold answer is empty"):
        gold_answer(gold)


def test_the_gold_answer_may_be_in_a_box():
    assert gold_answer(r"so \boxed{\frac{1}{2}}.") == r"\frac{1}{2}"
    assert gold_answer("72") == "72"


def test_numbers_are_found_however_they_are_written():
    rng = random.Random(0)
    for _ in range(300):
        n = rng.randrange(-(10**9), 10**9)
        for text in ("{}", r"so \boxed{{{}}}", "#### {}", "The answer is {}."):
            assert same_answer(extract_answer(text.format(n)) or "", str(n))
            assert not same_answer(extract_answer(text.format(n + 1)) or "", str(n))


@pytest.mark.parametrize("name", hostile())
def test_hostile_text_costs_nothing(name):
    """Of three times the least, since a busy machine may stop in one of them."""
    text, spent = hostile()[name], []
    for _ in range(3):
        begin = time.thread_time()
        extract_answer(text)
        extract_answer(f"<think></think><answer>{text}</answer>")
        spent.append(time.thread_time() - begin)
    assert min(spent) < 0.5


@pytest.mark.parametrize("name", [*hostile(), *hostile_markup()])
def test_hostile_text_costs_no_more_than_its_length(name):
    """Up to 300,000 characters, read some ten times; anything quadratic would take minutes."""
    text = (hostile() | hostile_markup())[name]
    with cpu_limit(5):
        for style in ("{}", "<answer>{}</answer>", "\\boxed{{{}}}", "\\boxed {}", "#### {}", "#### {}\nx"):
            extract_answer(style.format(text))


@pytest.mark.parametrize(
    ("completion", "opens", "rest"),
    [
        ("</think>4", True, "4"),  # no reasoning at all
        ("r</think>\nAssistant: 4", False, "\nAssistant: 4"),  # the turn itself, and not one after it
        ("r</think>\n<|assistant|>4", True, "\n<|assistant|>4"),
        ("4", True, None),
    ],
)
def test_where_the_reasoning_ends(completion, opens, rest):
    assert after_reasoning(completion, opens) == rest


def test_a_marked_gold_is_taken_as_it_is():
    assert gold_answer(r"It is \boxed{\text{Monday, May 3}}.") == r"\text{Monday, May 3}"
    assert gold_answer("48 + 24 = 72 clips.\n#### 72 clips") == "72 clips"
    assert gold_answer(r"$x = \boxed{3}$ or $x = \boxed{-2}$") == "3, -2"
    assert gold_answer("Therefore, the answer is: 180.") == "180"
    assert kind_of("48 + 24 = <<48+24=72>>72 clips.\n#### 72") == "number"
    assert kind_of(r"So it is \boxed{\sqrt{2}}.") == "formula"


def test_boxes_far_apart_cost_nothing():
    with cpu_limit(0.5):
        assert extract_answer(r"\boxed{1}" + " $" * 20_000 + r"x\boxed{2}") == "2"
        assert extract_answer(r"\boxed{1}, " * 10_000 + r"\boxed{2}") is not None
