"""Multiple-choice questions: the options are part of the question, and the gold answer is a letter.

    question, texts, gold = with_choices("train.jsonl:1", "Which is even?", ["1", "2"], 1)
    # "Which is even?\n\nA) 1\nB) 2", ["1", "2"], "B"

Options are a list of texts, as in MMLU; labels with their texts, as in MedQA ({"A": "1", "B": "2"}); or two lists of
these, as in ARC ({"label": ["A", "B"], "text": ["1", "2"]}).
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from r1jax.tasks.messages import Messages
from r1jax.tasks.rows import UnusableRow

LETTERS = string.ascii_uppercase
Question = str | Messages


def with_choices(where: str, question: Question, options: Any, gold: Any) -> tuple[Question, list[str], str]:
    """The question with its options as A), B) …; the options' texts; and the letter of the gold, "" where it is "".

    Raises UnusableRow for one without options or with an ambiguous gold, and ValueError for columns with anything else.
    """
    labels, texts = _options(where, options)
    listed = "\n\n" + "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, texts, strict=False))
    letter = "" if gold == "" else LETTERS[_position(where, labels, texts, gold)]
    if isinstance(question, str):
        return question + listed, texts, letter
    return [*question[:-1], {**question[-1], "content": question[-1]["content"] + listed}], texts, letter


def _options(where: str, options: Any) -> tuple[list[str], list[str]]:
    """Labels, which are empty where there are none, and texts."""
    labels: list[Any] = []
    if isinstance(options, Mapping):
        given = {name: value for name, value in options.items() if value is not None}  # Parquet fills in absent keys
        labels, options = [*given], [*given.values()]
        if given.keys() == {"label", "text"}:
            labels, options = list(given["label"]), list(given["text"])
    if options is None or (isinstance(options, list | tuple) and len(options) < 2):
        raise UnusableRow("fewer than two choices")
    is_list = isinstance(options, list | tuple) and all(isinstance(text, str | Real) for text in options)
    if not is_list or len(options) > len(LETTERS) or len(labels) not in (0, len(options)):
        raise ValueError(
            f"{where}: the choices are {options!r:.80}; need a list of 2 to {len(LETTERS)} texts, or labels with texts"
        )
    return [str(label).strip() for label in labels], [str(text).strip() for text in options]


def _position(where: str, labels: list[str], texts: list[str], gold: Any) -> int:
    """The gold is a label, a position from 0, a letter such as B or (B), or the text of an option."""
    if isinstance(gold, Integral | float) and not isinstance(gold, bool):  # Parquet may have made floats of integers
        # Numbers that are labels are meant as such, others are positions.
        found = {i for i, label in enumerate(labels) if label == f"{gold:g}"} or {
            i for i in range(len(texts)) if i == gold
        }
    else:
        text = str(gold).strip()
        bare = text.strip("().: ")
        found = {i for i, label in enumerate(labels) if label == bare}
        if not found:
            found = {i for i, option in enumerate(texts) if option.casefold() == text.casefold()}
            found |= {i for i, letter in enumerate(LETTERS[: len(texts)]) if letter == bare.upper()}
            found |= {i for i in range(len(texts)) if str(i) == bare}
    if not found:
        raise ValueError(
            f"{where}: the gold answer {gold!r:.80} is none of the choices {', '.join(texts):.200}; need a position "
            f"from 0, a letter, or the text of one"
        )
    if len(found) > 1:
        raise UnusableRow("a gold answer that names two choices")
    return found.pop()
