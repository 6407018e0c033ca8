"""Messages in the shapes of published data sets."""

import pytest

from r1jax.tasks.messages import chat_messages, split_conversation

USER, REPLY = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "<think>\nr\n</think>\n4"}


@pytest.mark.parametrize(
    "value",
    [
        [USER, REPLY],
        [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": REPLY["content"]}],  # OpenThoughts3-1.2M
        [{"from": "user", "value": "2+2?"}, {"from": "assistant", "value": REPLY["content"]}],  # OpenThoughts-114k
        [USER | {"info": None}, REPLY | {"tool_calls": None}],  # as Parquet gives keys that only other rows have
        (USER, REPLY),
    ],
)
def test_role_and_content_by_any_name(value):
    assert chat_messages(value) == [USER, REPLY]


def test_what_else_a_message_has_is_kept():
    assert chat_messages([USER | {"name": "Ann"}]) == [USER | {"name": "Ann"}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function"}]}  # as OpenAI has it
    assert chat_messages([USER, call]) == [USER, call | {"content": ""}]
    assert chat_messages([{"from": "system", "value": "s"}]) == [{"role": "system", "content": "s"}]


@pytest.mark.parametrize("value", ["2+2?", None, 3, [USER, "4"], [{"role": "user"}], [{"role": 1, "content": "x"}]])
def test_what_are_no_messages(value):
    assert chat_messages(value) is None


def test_the_last_turn_of_the_assistant_is_the_demonstration():
    system = {"role": "system", "content": "s"}
    assert split_conversation([USER, REPLY]) == ("2+2?", REPLY["content"])
    assert split_conversation([USER, REPLY, USER]) == ("2+2?", REPLY["content"])
    assert split_conversation([system, USER, REPLY]) == ([system, USER], REPLY["content"])
    assert split_conversation([USER, REPLY, USER, REPLY]) == ([USER, REPLY, USER], REPLY["content"])
    assert split_conversation([USER]) == ("2+2?", None)
    assert split_conversation([USER, REPLY | {"content": "\n"}]) == ("2+2?", None)
    assert split_conversation([REPLY]) == ([], REPLY["content"])
