r"""1.0 for an answer that is the same text as the gold answer, or that a regular expression matches, else 0.0.

exact(example, "<think>r</think><answer>New  York</answer>")  # 1.0 where the gold answer is "New York"
pattern(example, "<think>r</think><answer>1969</answer>", pattern=r"19\d\d")  # 1.0
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Literal

from r1jax.answers.extraction import after_reasoning, extract_answer
from r1jax.rewards.example import Example, RewardResult
from r1jax.rewards.format import strip_end
from r1jax.sandbox.workers import WorkerCrash, WorkerPool, WorkerTimeout

SECONDS = 2.0  # the time limit of one match; a pattern that needs longer backtracks exponentially on this text
# More than 30 accents, or characters like accents, on one letter: Unicode's limit for streamed text (UAX 15).
_ACCENTS = re.compile(r"((?:[^\w\s\x00-\u02ff]|[\uff9e\uff9f]){31,}+)")
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
_TEXT_MACRO = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf) ?\{([^{}]*)\}")
_MARKED_ANSWER = re.compile(r"<answer>|\\(?:boxed|fbox)(?![A-Za-z])|####")


def exact(example: Example, completion: str) -> RewardResult:
    """The answer equals the gold answer character by character, with runs of white space as one space and NFC accents.

    `answer_text` finds the answer. Raises ValueError where the gold answer is blank.
    """
    gold, answer = _normalized(example.answer), answer_text(example, completion)
    if not gold:
        raise ValueError("the gold answer is empty; this reward needs a text")
    if answer is None:
        return 0.0, "no_answer"
    return float(_normalized(answer) == gold)


def pattern(example: Example, completion: str, *, pattern: str) -> RewardResult:
    """A pattern of Python's `re` matches the whole answer, which `answer_text` finds.

    It has to match from the first to the last character, since a search would reward an answer that lists every
    possibility. The match runs in a child process; one that takes longer than SECONDS scores 0.0. The reasons of a 0.0
    are no_match, no_answer and timeout; where the child process dies, the result is None and crash. Raises ValueError
    for an invalid pattern.
    """
    check_pattern(pattern)
    text = answer_text(example, completion)
    if text is None:
        return 0.0, "no_answer"
    try:
        return 1.0 if _pool().call(pattern, text) else (0.0, "no_match")
    except WorkerTimeout:
        return 0.0, "timeout"
    except WorkerCrash:
        return None, "crash"


def check_pattern(pattern: str) -> None:
    """Raises ValueError for a pattern that Python's `re` cannot compile."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern {pattern!r} is not a regular expression of Python's re: {error}") from None


def matches(pattern: str, text: str) -> bool:
    """What the child process runs."""
    return re.fullmatch(pattern, text) is not None


def answer_text(example: Example, completion: str) -> str | None:
    r"""The answer that `<answer>`, `\boxed{}` or `####` marks, else all of the text after the reasoning.

    `answers.extraction` reads the mark. None where the reasoning or the mark is not closed, or nothing is in it.
    """
    text = after_reasoning(strip_end(completion), example.prompt_opens_think)
    if text is not None and _MARKED_ANSWER.search(text):
        answer = extract_answer(text, kind="text")
        return _without_latex(answer) if answer and _BOX.search(text) else answer
    return (text and text.strip()) or None


def _without_latex(answer: str) -> str:
    r"""The text in `\text{…}`, without the backslashes that characters such as _ have in LaTeX."""
    if wrapped := _TEXT_MACRO.fullmatch(answer.strip()):
        answer = wrapped[1]
    return re.sub(r"\\([_%$&#])", r"\1", answer)


def normalize_unicode(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Unicode normalization, except for runs of more than 30 accents, on which it would take quadratic time."""
    return "".join(
        part if index % 2 else unicodedata.normalize(form, part) for index, part in enumerate(_ACCENTS.split(text))
    )


def _normalized(text: str) -> str:
    return " ".join(normalize_unicode("NFC", text).split())


@functools.cache
def _pool() -> WorkerPool:
    return WorkerPool("r1jax.rewards.text_match:matches", timeout=SECONDS)
