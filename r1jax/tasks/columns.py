"""From the columns of a row to an example, as the settings of a table name them.

example = example_of(settings, "train.jsonl:1", {"question": "2+2?", "answer": 4})
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

from r1jax.config.tasks import TableTask
from r1jax.rewards.example import Example
from r1jax.tasks.choices import with_choices
from r1jax.tasks.messages import KNOWN_ROLES, ROLES, Messages, chat_messages, split_conversation
from r1jax.tasks.preferences import labelled, preference
from r1jax.tasks.rows import UnusableRow, column


def named_columns(settings: TableTask) -> tuple[list[str], list[str]]:
    """The columns that are read: those that have to exist, and others that some rows may do without.

    These are the question's where the responses may bring it, and the pass rate's, which test rows need not have.
    """
    responses = (settings.chosen, settings.rejected, settings.preference, settings.response, settings.label)
    asked = (settings.messages or settings.question, settings.choices, settings.system)
    names = (*asked, settings.answer, settings.completion, *responses, *settings.columns)
    needed = list(dict.fromkeys(name for name in names if name is not None))
    optional = [settings.pass_rate_column] if settings.pass_rate is not None else []
    if settings.is_for_reward_models and settings.question not in settings.columns:
        needed.remove(settings.question)
        optional.append(settings.question)
    return needed, [name for name in optional if name not in needed]


def conventional(settings: TableTask, names: Collection[str]) -> dict[str, Any]:
    """What to read where the columns named by default do not exist: `messages`, or `prompt` with `completion`.

    Warns where there are questions with neither gold answers nor demonstrations.
    """
    read: dict[str, Any] = {}
    if settings.answer == "answer" and "answer" not in names:
        read["answer"] = None
    has_questions = settings.messages or settings.is_for_reward_models
    if not has_questions and settings.question == "question" and "question" not in names:
        talks = next((name for name in ("messages", "conversations") if name in names), None)
        if talks and settings.completion is None:
            read["messages"] = has_questions = talks
        elif "prompt" in names:
            read["question"] = "prompt"
            if settings.completion is None and "completion" in names:
                read["completion"] = "completion"
    if "answer" in read and not has_questions and not (settings.completion or read.get("completion")):
        warnings.warn(
            f"no column 'answer', so there are no gold answers to compare with; there are {', '.join(names)}; "
            f"task.answer names another column, or is null where there are none",
            stacklevel=5,
        )
    return read


def example_of(settings: TableTask, where: str, row: Mapping[str, Any]) -> Example:
    """The example of a row.

    Raises UnusableRow for one to leave out, and ValueError, which says where the row is, for one to correct.
    """
    question, demonstration, gold, data = None, None, "", {}
    if settings.messages is not None:
        question, demonstration = _conversation(settings.messages, where, row)
    elif settings.is_for_reward_models:
        question, data = (preference if settings.chosen else labelled)(settings, where, row)
    if question is None:
        question = _question(settings, where, row)
    if settings.completion is not None:
        demonstration = _reply(column(where, row, settings.completion))
        if not isinstance(demonstration, str | None):
            kind = type(demonstration).__name__
            raise ValueError(f"{where}: column {settings.completion!r} is a {kind}; a demonstration is text")
    if settings.answer is not None:
        gold = column(where, row, settings.answer)
        if settings.choices is None or isinstance(gold, str):
            gold = _gold(settings, where, gold)
    if settings.choices is not None:
        options = _plain(where, settings.choices, column(where, row, settings.choices))
        question, data["choices"], gold = with_choices(where, question, options, gold)
    if settings.system is not None:
        question = _with_system(question, column(where, row, settings.system))
    return Example(
        question,
        gold,
        demonstration if demonstration and demonstration.strip() else None,
        data | {name: _plain(where, name, column(where, row, name)) for name in settings.columns if name not in data},
        is_conversation=settings.messages is not None,
    )


def check_pass_rate(settings: TableTask, where: str, row: Mapping[str, Any]) -> None:
    """Raises UnusableRow for a row whose pass rate is out of the settings' limits, if there are any."""
    if settings.pass_rate is None:
        return
    rate, (low, high) = column(where, row, settings.pass_rate_column), settings.pass_rate
    if rate is None or rate != rate:  # NaN is not itself
        raise UnusableRow("no pass rate")
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 <= float(rate) <= 1:
        raise ValueError(
            f"{where}: column {settings.pass_rate_column!r} has {rate!r:.80}; a pass rate is a number from 0 to 1"
        )
    if not low <= float(rate) <= high:
        raise UnusableRow(f"a pass rate that is not from {low:g} to {high:g}")


def _question(settings: TableTask, where: str, row: Mapping[str, Any]) -> str | Messages:
    question = column(where, row, settings.question)
    if isinstance(question, str) and question.strip():
        return question
    if messages := chat_messages(question):
        return messages
    raise ValueError(
        f"{where}: column {settings.question!r} has neither text nor chat messages with role and content; correct the "
        f"row or task.question"
    )


def _conversation(name: str, where: str, row: Mapping[str, Any]) -> tuple[str | Messages, str | None]:
    value = column(where, row, name)
    if value is None:
        raise UnusableRow("no conversation")
    messages = chat_messages(value)
    if messages is None:
        raise ValueError(
            f"{where}: column {name!r} has no chat messages with role and content, or from and value; it is "
            f"{value!r:.80}; correct the row or task.messages"
        )
    question, demonstration = split_conversation(messages)
    unknown = [message["role"] for message in messages if message["role"] not in KNOWN_ROLES]
    if unknown and all(message["role"] != "assistant" for message in messages):
        raise ValueError(
            f"{where}: column {name!r} has a turn of {unknown[0]!r} and none of the assistant; roles are "
            f"{', '.join((*KNOWN_ROLES, *ROLES))}: rename it"
        )
    if not question:
        raise UnusableRow("no turn before the assistant's")
    if not isinstance(question, str) and question[-1]["role"] == "assistant":
        raise UnusableRow("two turns of the assistant one after the other")
    return question, demonstration


def _with_system(question: str | Messages, system: Any) -> str | Messages:
    """The question after a system message, where the row has text for one."""
    if not isinstance(system, str) or not system.strip():
        return question
    messages = [{"role": "user", "content": question}] if isinstance(question, str) else question
    return [{"role": "system", "content": system}, *messages]


def _reply(value: Any) -> Any:
    """A demonstration that is given as a message of the assistant, as text; any other as it is."""
    messages = chat_messages(value)
    is_reply = messages is not None and [message["role"] for message in messages] == ["assistant"]
    return messages[0]["content"] if messages and is_reply else value


def _gold(settings: TableTask, where: str, gold: Any) -> str:
    if isinstance(gold, list | tuple) and len(gold) == 1:
        gold = gold[0]
    if not isinstance(gold, str) and hasattr(gold, "__len__"):
        kind = f"{type(gold).__name__} of {len(gold)}"
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
