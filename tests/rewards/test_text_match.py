"""Exact matches and regular expressions, also patterns that backtrack exponentially."""

import threading
import time

import pytest

from r1jax.rewards import text_match
from r1jax.rewards.example import Example
from r1jax.rewards.text_match import answer_text, check_pattern, exact, pattern

OPENED = Example("", "", prompt_opens_think=True)


@pytest.mark.parametrize(
    ("gold", "completion", "result"),
    [
        ("Paris", "<think>r</think><answer>Paris</answer>", 1.0),
        ("Paris", "<answer>\nParis \n</answer><|im_end|>", 1.0),
        ("Paris", "<think>r</think>Paris", 1.0),
        ("Paris", "Paris</s>\n", 1.0),
        ("Paris", r"It is \boxed{Paris}, of course.", 1.0),
        ("Paris", "It is\n#### Paris", 1.0),
        ("yes", r"\boxed{\text{yes}}", 1.0),
        ("a_b", r"\boxed{a\_b}", 1.0),
        ("yes", r"\boxed{\text{no}}", 0.0),
        ("New York", "<answer>New\n  York</answer>", 1.0),
        (" New  York ", "New York", 1.0),
        ("café", "<answer>cafe\u0301</answer>", 1.0),
        ("Paris 8", "<answer>Paris 8</answer>", 1.0),
        ("8", "Paris 8", 0.0),
        ("Paris", "paris", 0.0),
        ("Paris", "Paris.", 0.0),
        ("Paris", "It is Paris", 0.0),
        ("valid", "invalid", 0.0),
        ("3", "3.0", 0.0),
        ("Paris", "<answer>London</answer> Paris", 0.0),
        ("Paris", "Paris</think>London", 0.0),
        ("Paris", "<think>Paris", (0.0, "no_answer")),
        ("Paris", "<think>Paris</think>", (0.0, "no_answer")),
        ("Paris", "<answer>Paris", (0.0, "no_answer")),
        ("Paris", "<answer> </answer>", (0.0, "no_answer")),
        ("Paris", "", (0.0, "no_answer")),
    ],
)
def test_exact(gold, completion, result):
    assert exact(Example("", gold), completion) == result


@pytest.mark.parametrize("gold", ["", " \n"])
def test_an_empty_gold_is_refused(gold):
    with pytest.raises(ValueError, match="the gold answer is empty"):
        exact(Example("", gold), "<answer></answer>")


def test_where_the_prompt_opens_the_reasoning():
    assert answer_text(OPENED, "Paris") is None
    assert answer_text(OPENED, "r</think>Paris") == "Paris"


@pytest.mark.parametrize(
    ("regex", "completion", "result"),
    [
        (r"\d{4}", "<answer>1969</answer>", 1.0),
        (r"\d{4}", "<answer>in 1969</answer>", (0.0, "no_match")),
        (r"(?s).*1969.*", "<answer>in\n1969</answer>", 1.0),
        (r"yes|no", "<think>r</think>no", 1.0),
        (r"yes|no", "<think>r</think>yes or no", (0.0, "no_match")),
        (r"(?i)YES", "yes<|im_end|>", 1.0),
        (r".*", "<think>1", (0.0, "no_answer")),
        (r"(\w)\1", "aha", (0.0, "no_match")),
        (r"\ud800|é", "\ud800", 1.0),
    ],
)
def test_pattern(regex, completion, result):
    assert pattern(Example("", ""), completion, pattern=regex) == result


@pytest.mark.parametrize("bad", ["(", "[a", "*", "a{2,1}", r"\1", "(?P<a>x)(?P<a>y)", "(?<=a*)b"])
def test_bad_patterns_are_refused_before_anything_is_graded(bad):
    with pytest.raises(ValueError, match=r"is not a regular expression of Python's re"):
        check_pattern(bad)
    with pytest.raises(ValueError, match=r"is not a regular expression of Python's re"):
        pattern(Example("", ""), "x", pattern=bad)


def test_patterns_that_backtrack_exponentially_time_out_and_affect_no_other(monkeypatch):
    monkeypatch.setattr(text_match, "SECONDS", 3.0)
    text_match._pool.cache_clear()
    example, results = Example("", ""), {}

    def grade(index):
        evil = index % 2 == 0
        completion = "a" * 40 + "!" if evil else "aaa"
        results[index] = pattern(example, completion, pattern=r"(a+)+")

    threads = [threading.Thread(target=grade, args=(index,)) for index in range(6)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start < 60
    assert [results[index] for index in range(6)] == [(0.0, "timeout"), 1.0] * 3
    assert pattern(example, "aaa", pattern=r"(a+)+") == 1.0
    text_match._pool.cache_clear()


def test_where_the_child_process_dies_nothing_is_scored(monkeypatch):
    monkeypatch.setattr(text_match, "_pool", lambda: Dying())
    assert pattern(Example("", ""), "a", pattern="a") == (None, "crash")


class Dying:
    def call(self, *arguments):
        raise text_match.WorkerCrash("died")
