"""The format rewards on hand-made completions, each with the reason that they should give."""

import itertools
import random
import re

import pytest

from r1jax.rewards.example import Completion, Example
from r1jax.rewards.format import END_TOKENS, TAGS, reasoning, strip_end, summary, think_answer, think_text

PLAIN, OPENED = Example("", ""), Example("", "", prompt_opens_think=True)

ANSWER = [
    ("<think>r</think><answer>4</answer>", None),
    ("<think>r</think>\n\n<answer>4</answer>\n", None),
    ("<think>r</think> <answer>4</answer>", None),
    (" \n<think>\nmulti\nline\n</think>\n<answer>\nmulti\nline\n</answer>\n ", None),
    ("<think>\r\nr\r\n</think>\r\n<answer>4</answer>\r\n", None),
    ("<think>a < b > c</think><answer>x</answer>", None),
    ("<think>r</think><answer>4</answer>\u200b", None),
    ("", "missing_think"),
    ("4", "missing_think"),
    ("r</think><answer>4</answer>", "missing_think"),
    ("<answer>4</answer>", "missing_think"),
    ("<Think>r</Think><answer>4</answer>", "missing_think"),
    ("<think >r</think><answer>4</answer>", "missing_think"),
    ("[think]r[/think]<answer>4</answer>", "missing_think"),
    ("<think>r \\boxed{4}", "unclosed_think"),
    ("<think> … \\boxed{4}", "unclosed_think"),
    ("<think>r<answer>4</answer>", "unclosed_think"),
    ("<think>r</thinking><answer>4</answer>", "unclosed_think"),
    ("<think>r \\boxed{4}</think>", "missing_answer"),
    ("<think>r</think>4</answer>", "missing_answer"),
    ("<think>r</think><answer>4", "unclosed_answer"),
    ("<think>r</think><answer>4<|im_end|>", "unclosed_answer"),
    ("<think>r</think><answer>4</answer><answer>5</answer>", "repeated_tag"),
    ("<think>a<think>b</think><answer>4</answer>", "repeated_tag"),
    ("<think>a</think><think>b</think><answer>4</answer>", "repeated_tag"),
    ("<think>r</think></think><answer>4</answer>", "repeated_tag"),
    ("<think>r</think><answer>4</answer></answer>", "repeated_tag"),
    ("<think>r</think><answer><answer>4</answer></answer>", "repeated_tag"),
    ("<think>r</think><answer>4</answer>\n<think>r</think><answer>4</answer>", "repeated_tag"),
    ('<think>I close with "</think>".</think><answer>4</answer>', "repeated_tag"),
    ("<think>```\n<answer>4</answer>\n```</think><answer>4</answer>", "repeated_tag"),
    ("<answer>4</answer><think>r</think>", "wrong_order"),
    ("<think>r<answer>4</answer></think>", "wrong_order"),
    ("</think>r<think><answer>4</answer>", "wrong_order"),
    ("<think>r</think></answer>4<answer>", "wrong_order"),
    ("so <think>r</think><answer>4</answer>", "text_before_think"),
    ("<|im_start|>assistant\n<think>r</think><answer>4</answer>", "text_before_think"),
    ("<think></think><answer>4</answer>", "empty_think"),
    ("<think> \n</think><answer>4</answer>", "empty_think"),
    ("<think>\u200b\u00a0</think><answer>4</answer>", "empty_think"),
    ("<think>\n</think><answer></answer>", "empty_think"),
    ("<think></think>4<answer></answer>", "empty_think"),
    ("<think>r</think> so <answer>4</answer>", "text_before_answer"),
    ("<think>r</think>4\n<answer>4</answer>", "text_before_answer"),
    ("<think>r</think><|im_end|><answer>4</answer>", "text_after_end"),
    ("<think>r</think><answer></answer>", "empty_answer"),
    ("<think>r</think><answer>\n \t</answer>", "empty_answer"),
    ("<think>r</think><answer><|im_end|></answer>", "empty_answer"),
    ("<think>r</think><answer>4</answer> done", "text_after_answer"),
    ("<think>r</think><answer>4</answer>.", "text_after_answer"),
    ("<think>r</think><answer>4</answer><|im_end|>\nuser: thanks", "text_after_answer"),
    ("<think>r</think><answer>4</answer></s>\n\nQuestion", "text_after_answer"),
    ("<think>r<|im_end|>more</think><answer>4</answer>", "text_after_end"),
]  # fmt: skip

TEXT = [
    ("<think>r</think>It is 4.", None),
    ("<think>\nr\n\nmore\n</think>\n\nIt is\n\n\\boxed{4}\n", None),
    ("\n<think>r</think>4<|im_end|>\n", None),
    ("<think>r</think><answer>4</answer>", None),
    ("<think>r</think><s>5</s> 4", None),
    ("It is 4.", "missing_think"),
    ("", "missing_think"),
    ("r</think>4", "missing_think"),
    ("<think>r 4", "unclosed_think"),
    ("<think>a<think>b</think>4", "repeated_tag"),
    ("<think>r</think>4<think>or 5</think>5", "repeated_tag"),
    ("</think>4<think>", "wrong_order"),
    ("So <think>r</think>4", "text_before_think"),
    ("4<think>r</think>", "text_before_think"),
    ("<think></think>4", "empty_think"),
    ("<think>\n\n</think>\n\n4", "empty_think"),
    ("<think>\n\n</think>\n\n", "empty_think"),
    ("<think>r</think>", "empty_text"),
    ("<think>r</think>\n \u200b", "empty_text"),
    ("<think>r</think>\n<|im_end|>", "empty_text"),
    ("<think>r</think>4<|im_end|>\n<|im_start|>user\nthanks", "text_after_end"),
]


@pytest.mark.parametrize(("completion", "reason"), ANSWER)
def test_the_format_with_an_answer_block(completion, reason):
    assert think_answer(PLAIN, completion) == (1.0 if reason is None else (0.0, reason))


@pytest.mark.parametrize(("completion", "reason"), TEXT)
def test_the_format_with_a_text(completion, reason):
    assert think_text(PLAIN, completion) == (1.0 if reason is None else (0.0, reason))


@pytest.mark.parametrize(
    ("completion", "answer", "text"),
    [
        ("r</think>\n<answer>4</answer>", None, None),
        ("\nr</think><answer>4</answer>\n<|im_end|>", None, None),
        ("r</think>\n4", "missing_answer", None),
        ("<think>r</think><answer>4</answer>", "repeated_tag", "repeated_tag"),
        ("</think><answer>4</answer>", "empty_think", "empty_think"),
        ("r<answer>4</answer>", "unclosed_think", "unclosed_think"),
        ("", "unclosed_think", "unclosed_think"),
        ("<answer>4</answer>r</think>", "wrong_order", "empty_text"),
        ("r</think><answer>4</answer> so", "text_after_answer", None),
    ],
)
def test_where_the_prompt_opens_the_reasoning(completion, answer, text):
    assert think_answer(OPENED, completion) == (1.0 if answer is None else (0.0, answer))
    assert think_text(OPENED, completion) == (1.0 if text is None else (0.0, text))


def test_a_completion_with_a_length_is_read_as_its_text():
    assert think_answer(PLAIN, Completion("<think>r</think><answer>4</answer>", length=9, truncated=False)) == 1.0


@pytest.mark.parametrize("token", END_TOKENS)
@pytest.mark.parametrize("end", ["{}", "\n{}", "{}\n", " {}{}\n\n{}"])
def test_special_tokens_at_the_end_do_not_count(token, end):
    assert think_answer(PLAIN, "<think>r</think><answer>4</answer>" + end.format(token, token, token)) == 1.0
    assert think_text(PLAIN, "<think>r</think>4" + end.format(token, token, token)) == 1.0
    assert strip_end("4" + end.format(token, token, token)) == "4"


def test_of_all_orders_of_the_tags_one_passes():
    orders = [
        tags
        for tags in itertools.permutations(TAGS)
        if think_answer(PLAIN, "x".join(tags).replace("x<answer>", "<answer>")) == 1.0
    ]
    assert orders == [TAGS]


def test_edits_of_a_good_completion_against_a_regular_expression():
    chance = random.Random(0)
    pattern = re.compile(r"\s*<think>\s*[rx]+[rx\s]*</think>\s*<answer>\s*[rx]+[rx\s]*</answer>(\s|<\|im_end\|>)*")
    accepted = 0
    for _ in range(20_000):
        parts = ["<think>", "r", "</think>", "<answer>", "x", "</answer>"]
        for _ in range(chance.randint(0, 3)):
            place = chance.randrange(len(parts))
            parts[place : place + chance.randint(0, 1)] = chance.choices([*TAGS, "r", " ", "\n", "<|im_end|>"])
        expected = pattern.fullmatch("".join(parts)) is not None
        assert (think_answer(PLAIN, "".join(parts)) == 1.0) == expected, parts
        accepted += expected
    assert accepted > 1000


@pytest.mark.parametrize(
    ("completion", "opened", "thought"),
    [
        ("<think>r</think>4", False, "r"),
        ("r</think>4", True, "r"),
        ("r</think>4", False, "r"),
        ("<think>cut", False, "cut"),
        ("cut", True, "cut"),
        ("It is 4.", False, None),
        ("<think>a</think>b</think>4", False, "a</think>b"),
    ],
)
def test_reasoning(completion, opened, thought):
    assert reasoning(completion, opened) == thought


@pytest.mark.parametrize(
    ("completion", "opened", "text"),
    [
        ("<think>r</think> It is 4.\n<|im_end|>", False, "It is 4."),
        ("r</think>4", True, "4"),
        ("4", False, "4"),  # a model that does not reason
        ("4", True, None),
        ("<think>r", False, None),
        ("<think>r</think>4<think>more", False, None),
        ("<think>r</think>4</think>5", False, "5"),
        ("<think>r</think>", False, ""),
    ],
)
def test_summary(completion, opened, text):
    assert summary(completion, opened) == text


def test_long_completions_are_read_once():
    assert think_answer(PLAIN, "<think>" + "r" * 1_000_000 + "</think><answer>4</answer>") == 1.0
    assert think_answer(PLAIN, "<think>" * 100_000) == (0.0, "unclosed_think")
    assert strip_end("r" + "</s> \n" * 100_000) == "r"
