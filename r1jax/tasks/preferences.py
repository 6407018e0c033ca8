"""What reward models are trained on: pairs of a better and a worse response, and single responses with a label.

    question, data = preference(settings, "pairs.jsonl:1", {"question": "2+2?", "good": "4", "bad": "5"})
    data["chosen"], data["rejected"]

Responses are texts, or chat messages that end with the response, as in UltraFeedback-binarized; then the messages
before it are the question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from r1jax.config.tasks import TableTask
from r1jax.tasks.messages import Messages, chat_messages, split_conversation
from r1jax.tasks.rows import UnusableRow, column

LABELS = {
    "safe": 1,
    "unsafe": 0,
    "unharmful": 1,
    "harmful": 0,
    "true": 1,
    "false": 0,
    "yes": 1,
    "no": 0,
    "1": 1,
    "0": 0,
}


def preference(settings: TableTask, where: str, row: Mapping[str, Any]) -> tuple[str | Messages | None, dict[str, Any]]:
    """The question, where the responses bring it, with the texts `chosen` and `rejected`.

    Raises UnusableRow for a row that prefers neither, and ValueError for a column that has something else.
    """
    assert settings.chosen is not None and settings.rejected is not None
    asked, chosen = _response(settings.chosen, where, row)
    other, rejected = _response(settings.rejected, where, row)
    if asked != other:
        raise UnusableRow("responses to two different questions")
    if chosen == rejected:
        raise UnusableRow("the same response twice")
    if settings.preference is not None and _second_is_better(settings.preference, where, row):
        chosen, rejected = rejected, chosen
    return asked, {"chosen": chosen, "rejected": rejected}


def labelled(settings: TableTask, where: str, row: Mapping[str, Any]) -> tuple[str | Messages | None, dict[str, Any]]:
    """The question, where the response brings it, with the text `response` and its `label`: 1 for safe, 0 for unsafe.

    Raises UnusableRow for a row without a label, and ValueError for a column that has something else.
    """
    assert settings.response is not None and settings.label is not None
    asked, response = _response(settings.response, where, row)
    label = column(where, row, settings.label)
    if _is_missing(label):
        raise UnusableRow("no label")
    name = f"{label:g}" if isinstance(label, Real) and not isinstance(label, bool) else str(label).strip().lower()
    if name not in LABELS:
        raise ValueError(
            f"{where}: column {settings.label!r} has {label!r:.80}; a label is one of {', '.join(LABELS)}, where 1, "
            f"true and yes stand for safe"
        )
    return asked, {"response": response, "label": LABELS[name]}


def _response(name: str, where: str, row: Mapping[str, Any]) -> tuple[str | Messages | None, str]:
    value = column(where, row, name)
    if _is_missing(value):
        raise UnusableRow("an empty response")
    if isinstance(value, str):
        return None, value
    messages = chat_messages(value)
    if messages is None or messages[-1]["role"] != "assistant":
        raise ValueError(
            f"{where}: column {name!r} has neither a text nor chat messages that end with the assistant's; it is "
            f"{value!r:.80}"
        )
    question, response = split_conversation(messages)
    if response is None:
        raise UnusableRow("an empty response")
    return question or None, response


def _second_is_better(name: str, where: str, row: Mapping[str, Any]) -> bool:
    number = column(where, row, name)
    if _is_missing(number):
        raise UnusableRow("no preference")
    if not isinstance(number, Real) or isinstance(number, bool):
        raise ValueError(
            f"{where}: column {name!r} has {number!r:.80}; a preference is a number, below 0 for the response of "
            f"task.chosen and above 0 for that of task.rejected"
        )
    if number == 0:
        raise UnusableRow("a tie")
    return float(number) > 0


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or value == [] or (isinstance(value, float) and math.isnan(value))
