r"""1.0 for an answer that is the gold text, or that a regular expression matches, else 0.0.

exact(example, "<think>r</think><answer>New  York</answer>")  # 1.0 where the gold is "New York"
pattern(example, "It was in 1969.", pattern=r"\b19\d\d\b", where="completion")  # 1.0
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Literal

from r1jax.answers.extraction import extract_answer
from r1jax.rewards.example import Example, RewardResult
from r1jax.rewards.format import without_end
from r1jax.sandbox.workers import WorkerCrash, WorkerPool, WorkerTimeout

SECONDS = 2.0  # for one match; a pattern that needs longer backtracks without end on this text
# Accents, or what is like them, more than 30 on one letter: Unicode's limit for text that streams (UAX 15).
_ACCENTS = re.compile(r"((?:[^\w\s\x00-\u02ff]|[\uff9e\uff9f]){31,}+)")
_MARK = re.compile(r"<answer>|\\(?:boxed|fbox)(?![A-Za-z])|####")


def exact(example: Example, completion: str, *, ignore_case: bool = False) -> RewardResult:
    """The answer is the gold, character by character, but that any white space is one space and accents are composed.

    `answer_text` says what the answer is. Raises ValueError where the gold is blank.
    """
    gold, answer = _plain(example.answer, ignore_case), answer_text(example, completion)
    if not gold:
        raise ValueError("the gold answer is empty; this reward needs a text")
    if answer is None:
        return 0.0, "no_answer"
    return float(_plain(answer, ignore_case) == gold)


def pattern(
    example: Example, completion: str, *, pattern: str, where: Literal["answer", "completion"] = "answer"
) -> RewardResult:
    """The pattern, one of Python's `re`, matches the whole answer, or something in the completion.

    The answer (`answer_text`) has to match from end to end, since a pattern found in it would reward an answer that
    lists everything; in the completion, reasoning included, the pattern is searched for, and ^ and $ are its two ends
    without `(?m)`. The match runs in a child process: one that takes over SECONDS is a 0.0. The reasons of a 0.0 are
    no_match, no_answer and timeout; where the child dies, None and crash. Raises ValueError as `check_pattern`.
    """
    check_pattern(pattern, where)
    text = answer_text(example, completion) if where == "answer" else without_end(completion)
    if text is None:
        return 0.0, "no_answer"
    try:
        return 1.0 if _pool().call(pattern, text, where == "answer") else (0.0, "no_match")
    except WorkerTimeout:
        return 0.0, "timeout"
    except WorkerCrash:
        return None, "crash"


def check_pattern(pattern: str, where: str = "answer") -> None:
    """Raises ValueError for a pattern that Python's `re` does not read, or an unknown place to look."""
    if where not in ("answer", "completion"):
        raise ValueError(f"a pattern is looked for in where={where!r}; write answer or completion")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern {pattern!r} is no regular expression of Python's re: {error}") from None


def matches(pattern: str, text: str, whole: bool) -> bool:
    """What the child runs."""
    return (re.fullmatch if whole else re.search)(pattern, text) is not None


def answer_text(example: Example, completion: str) -> str | None:
    r"""The answer where one is marked with `<answer>`, `\boxed{}` or `####`, else all that follows the reasoning.

    `answers.extract_answer` reads the mark. None where the reasoning is not closed, where the mark is not, or where
    nothing is in it.
    """
    text = without_end(completion)
    _, closed, rest = text.rpartition("</think>")
    if "<think>" in rest or (example.prompt_opens_think and not closed):
        return None
    if _MARK.search(rest):
        return extract_answer(text, prompt_opens_think=example.prompt_opens_think)
    return rest.strip() or None


def normal(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Unicode's normal form, but runs of more than 30 accents, which take it quadratic time, stay as they are."""
    return "".join(
        part if index % 2 else unicodedata.normalize(form, part) for index, part in enumerate(_ACCENTS.split(text))
    )


def _plain(text: str, ignore_case: bool) -> str:
    text = " ".join(normal("NFC", text).split())
    return text.casefold() if ignore_case else text


@functools.cache
def _pool() -> WorkerPool:
    return WorkerPool("r1jax.rewards.text_match:matches", timeout=SECONDS)
