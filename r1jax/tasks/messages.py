"""Chat messages as data sets have them, with role and content or, after ShareGPT, with from and value.

messages = chat_messages([{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}])
question, demonstration = split_conversation(messages)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KNOWN_ROLES = ("system", "user", "assistant", "tool")
ROLES = {"human": "user", "gpt": "assistant"}  # ShareGPT's names

Messages = list[dict[str, Any]]


def chat_messages(value: Any) -> Messages | None:
    """Messages with role and content, and what else they have; None where the value is no list of messages."""
    if not isinstance(value, list | tuple) or not all(isinstance(message, Mapping) for message in value):
        return None
    messages = []
    for message in value:
        given = {key: entry for key, entry in message.items() if entry is not None}  # Parquet fills in absent keys
        role, content = given.pop("role", given.pop("from", None)), given.pop("content", given.pop("value", None))
        content = "" if content is None and "tool_calls" in given else _joined(content)
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        messages.append({"role": ROLES.get(role, role), "content": content, **given})
    return messages


def _joined(content: Any) -> Any:
    """The text of content that is given in parts; content with a part that is no text, such as an image, as it is."""
    if not isinstance(content, list) or not content:
        return content
    texts: list[Any] = [
        part.get("text") for part in content if isinstance(part, Mapping) and part.get("type", "text") == "text"
    ]
    return "".join(texts) if len(texts) == len(content) and all(isinstance(t, str) for t in texts) else content


def split_conversation(messages: Messages) -> tuple[str | Messages, str | None]:
    """What comes before the assistant's last turn, and that turn; None where there is none, or one without text.

    A single user message before it is given as its text, which any template of a prompt can take.
    """
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=len(messages))
    before = messages[:last]
    demonstration = messages[last]["content"] if last < len(messages) else ""
    question = before[0]["content"] if len(before) == 1 and before[0]["role"] == "user" else before
    return question, demonstration if demonstration.strip() else None
