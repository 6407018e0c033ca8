"""The format reward on hand-made completions, each with the reason it should be given."""

import itertools

import pytest

from r1jax.rewards.example import Example
from r1jax.rewards.format import TAGS, format_error, think_answer

CASES = [
    ("<think>r</think><answer>4</answer>", None),
    ("<think>r</think>\n\n<answer>4</answer>\n", None),
    (" \n<think>\nmulti\nline\n</think>\n<answer>\nmulti\nline\n</answer>\n ", None),
    ("<think>a < b > c</think><answer>x</answer>", None),
    ("", "missing_think"),
    ("4", "missing_think"),
    ("r</think><answer>4</answer>", "missing_think"),
    ("<think>r \\boxed{4}", "unclosed_think"),
    ("<think>r<answer>4</answer>", "unclosed_think"),
    ("<think>r \\boxed{4}</think>", "missing_answer"),
    ("<think>r</think>4</answer>", "missing_answer"),
    ("<think>r</think><answer>4", "unclosed_answer"),
    ("<think>r</think><answer>4</answer><answer>5</answer>", "repeated_tag"),
    ("<think>a<think>b</think><answer>4</answer>", "repeated_tag"),
    ("<think>r</think><answer>4</answer></answer>", "repeated_tag"),
    ("<answer>4</answer><think>r</think>", "wrong_order"),
    ("<think>r<answer>4</answer></think>", "wrong_order"),
    ("</think>r<think><answer>4</answer>", "wrong_order"),
    ("so <think>r</think><answer>4</answer>", "text_before_think"),
    ("<think></think><answer>4</answer>", "empty_think"),
    ("<think> \n</think><answer>4</answer>", "empty_think"),
    ("<think>r</think> so <answer>4</answer>", "text_before_answer"),
    ("<think>r</think><answer></answer>", "empty_answer"),
    ("<think>r</think><answer>\n \t</answer>", "empty_answer"),
    ("<think>r</think><answer>4</answer> done", "text_after_answer"),
    ("<Think>r</Think><answer>4</answer>", "missing_think"),
]


@pytest.mark.parametrize(("completion", "reason"), CASES)
def test_format_error(completion, reason):
    assert format_error(completion) == reason
    assert think_answer(Example("", ""), completion) == float(reason is None)


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("r</think>\n<answer>4</answer>", None),
        ("\nr</think><answer>4</answer>\n", None),
        ("<think>r</think><answer>4</answer>", "repeated_tag"),
        ("</think><answer>4</answer>", "empty_think"),
        ("r<answer>4</answer>", "unclosed_think"),
        ("", "unclosed_think"),
    ],
)
def test_where_the_prompt_opens_the_reasoning(completion, reason):
    assert format_error(completion, True) == reason
    assert think_answer(Example("", "", prompt_opens_think=True), completion) == float(reason is None)


def test_of_all_orders_of_the_tags_one_passes():
    orders = [
        tags
        for tags in itertools.permutations(TAGS)
        if format_error("x".join(tags).replace("x<answer>", "<answer>")) is None
    ]
    assert orders == [TAGS]


def test_long_completions_are_read_once():
    assert format_error("<think>" + "r" * 1_000_000 + "</think><answer>4</answer>") is None
    assert format_error("<think>" * 100_000) == "unclosed_think"
