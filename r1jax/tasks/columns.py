"""From the columns of a row to an example, as the settings of a table name them.

example = example_of(settings, "train.jsonl:1", {"question": "2+2?", "answer": 4})
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from r1jax.config.tasks import TableTask
from r1jax.rewards.example import Example
from r1jax.tasks.rows import column


def named_columns(settings: TableTask) -> list[str]:
    """The columns that are read."""
    names = (settings.question, settings.answer, settings.completion, *settings.columns)
    return list(dict.fromkeys(name for name in names if name is not None))


def example_of(settings: TableTask, where: str, row: Mapping[str, Any]) -> Example:
    """The example of a row. Raises ValueError, which says where the row is, if it cannot be used."""
    completion = None
    if settings.completion is not None:
        completion = column(where, row, settings.completion)
        if not isinstance(completion, str) or not completion:
            raise ValueError(f"{where}: column {settings.completion!r} has no text; a demonstration needs one")
    data = {name: _plain(where, name, column(where, row, name)) for name in settings.columns}
    return Example(_question(settings, where, row), _gold(settings, where, row), completion, data)


def _question(settings: TableTask, where: str, row: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    question = column(where, row, settings.question)
    if isinstance(question, str) and question.strip():
        return question
    messages = list(question) if isinstance(question, list | tuple) else []
    if messages and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in messages):
        return messages
    raise ValueError(
        f"{where}: column {settings.question!r} has neither text nor chat messages with role and content; correct the "
        f"row or task.question"
    )


def _gold(settings: TableTask, where: str, row: Mapping[str, Any]) -> str:
    if settings.answer is None:
        return ""
    gold = column(where, row, settings.answer)
    if not isinstance(gold, str) and hasattr(gold, "__len__"):
        kind = type(gold).__name__
        raise ValueError(f"{where}: column {settings.answer!r} is a {kind}; a gold answer is text or a number")
    answer = "" if gold is None else str(gold)
    if settings.answer_after is not None:
        _, marked, answer = answer.rpartition(settings.answer_after)
        if not marked:
            raise ValueError(
                f"{where}: column {settings.answer!r} has no {settings.answer_after!r}; correct the row or "
                f"task.answer_after"
            )
    if not answer.strip():
        raise ValueError(f"{where}: the gold answer in column {settings.answer!r} is empty; leave the row out")
    return answer.strip()


def _plain(where: str, name: str, value: Any) -> Any:
    """A column for rewards, converted to what JSON can represent, as worker processes and transcripts need it."""
    try:
        return json.loads(json.dumps(value, default=_without_numpy))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: column {name!r} cannot be given to rewards: {error}; leave it out or make it text, numbers or "
            f"lists of them"
        ) from None


def _without_numpy(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no type of JSON")
