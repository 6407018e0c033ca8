"""Prompts against texts written by hand: templates, chat, and settings that do not fit together."""

import pytest

from r1jax.config.sampling import PromptSettings
from r1jax.text.chat_template import ChatTemplate
from r1jax.text.prompt import make_prompt
from r1jax.text.tokenizer import CharacterTokenizer

CHAT = """{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}
{%- if add_generation_prompt %}[assistant]{% endif %}"""
QUESTION = "What is {question} in \\frac{1}{2}?"  # braces and a field of its own, to be left alone
USER = {"role": "user", "content": "2+2?"}
PLAIN = CharacterTokenizer("ab")


class Chatty(CharacterTokenizer):
    """A tokenizer with a chat template."""

    def __init__(self, template=CHAT):
        super().__init__("ab")
        self.chat_template = ChatTemplate(template, {})


def prompt(question, tokenizer=PLAIN, **settings):
    return make_prompt(question, PromptSettings(**settings), tokenizer)


def test_templates():
    assert prompt(QUESTION) == (QUESTION, False)
    text, opens = prompt(QUESTION, template="r1_zero")
    assert text.startswith("A conversation between User and Assistant. The user asks a question, and the Assistant sol")
    assert text.endswith(
        f"<think> reasoning process here </think> <answer> answer here </answer>. User: {QUESTION}. Assistant:"
    )
    assert not opens
    text, _ = prompt(QUESTION, template="r1")
    assert text.startswith(QUESTION + "\n\n") and text.endswith("within <answer> </answer> tags.")
    assert prompt("1", template="\\boxed{} {x} {question}, {question}:") == ("\\boxed{} {x} 1, 1:", False)


def test_whether_the_prompt_ends_in_an_opened_think():
    assert prompt("1", template="{question}\n<think>\n") == ("1\n<think>\n", True)
    assert prompt("1", template="{question} <think>x") == ("1 <think>x", False)
    assert prompt("1", Chatty(CHAT + "{{ '<think>\n' }}"), chat=True) == ("[user]1[assistant]<think>\n", True)


def test_chat_wraps_the_filled_template_after_the_system_message():
    assert prompt(QUESTION, Chatty(), chat=True) == (f"[user]{QUESTION}[assistant]", False)
    text, _ = prompt("1", Chatty(), chat=True, template="Solve {question}", system="Be brief.")
    assert text == "[system]Be brief.[user]Solve 1[assistant]"


def test_questions_that_are_messages():
    turns = [USER, {"role": "assistant", "content": "4"}, {"role": "user", "content": "+1?"}]
    assert prompt(turns, Chatty(), chat=True) == ("[user]2+2?[assistant]4[user]+1?[assistant]", False)
    assert prompt([USER], Chatty(), chat=True, system="S")[0] == "[system]S[user]2+2?[assistant]"
    assert turns[0] is USER and len(turns) == 3


@pytest.mark.parametrize(
    ("question", "settings", "error"),
    [
        ("1", {"template": "r1_zer"}, "got 'r1_zer', need one of plain, r1_zero, r1, or a text with {question} in it"),
        ("1", {"system": "S"}, "set prompt.chat=true, or drop prompt.system"),
        ([USER], {}, "questions are chat messages, and prompt.chat is false; set prompt.chat=true"),
        ([USER], {"chat": True, "template": "r1"}, "which take no template; set prompt.template=plain"),
        ([], {"chat": True}, "is an empty list of chat messages"),
        ([USER, "2"], {"chat": True}, "message 1 of the question is '2'; each needs a role and a content text"),
        ([{"role": "user"}], {"chat": True}, "message 0 of the question is {'role': 'user'}; each needs"),
        ([{"role": "user", "content": ["x"]}], {"chat": True}, "message 0 of the question is"),
        ([USER, {"role": "assistant", "content": "4"}], {"chat": True}, "last message is the assistant's"),
        ([{"role": "system", "content": "T"}, USER], {"chat": True, "system": "S"}, "drop one of the two"),
    ],
)
def test_settings_and_questions_that_do_not_go_together(question, settings, error):
    with pytest.raises(ValueError) as caught:
        prompt(question, Chatty(), **settings)
    assert error in str(caught.value) and "\n" not in str(caught.value)


def test_chat_without_a_chat_template():
    with pytest.raises(ValueError, match=r"the character tokenizer has no chat template; set prompt\.chat=false"):
        prompt("1", chat=True)


def test_chat_template_kwargs():
    template = CHAT + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{{ more }}"
    assert prompt("1", Chatty(template), chat=True) == ("[user]1[assistant]", False)
    settings = {"enable_thinking": False, "more": [1, {"a": None}]}
    text = "[user]1[assistant]<think></think>[1, {'a': None}]"
    assert prompt("1", Chatty(template), chat=True, chat_template_kwargs=settings) == (text, False)
    with pytest.raises(ValueError, match=r"prompt\.chat_template_kwargs needs a chat template; set prompt\.chat=true"):
        prompt("1", chat_template_kwargs=settings)
    for name in ("messages", "add_generation_prompt"):
        with pytest.raises(ValueError, match=f"{name} is what r1jax gives to the template itself; leave it out"):
            PromptSettings(chat=True, chat_template_kwargs={name: True})
