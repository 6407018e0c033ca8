"""Which tokens of a conversation SFT learns, against texts written by hand, under templates as models have them."""

import pytest
from byte_tokenizer import CHATML, byte_tokenizer

from r1jax.config.sampling import PromptSettings
from r1jax.text.prompt import encode_prompt, with_stop
from r1jax.text.turns import Turn, assistant_turns, continuation, earlier_turns

# The parts of Qwen3's template that are about the assistant: reasoning before the last user message is dropped.
QWEN3 = """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" or message.role == "system" %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
            {%- set reasoning_content = reasoning_content.lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
            {{- content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

# Those of DeepSeek-R1's: the reasoning of every turn is dropped, and the generation prompt opens <think>.
R1 = """{%- for message in messages %}
    {%- if message.role == 'user' %}{{- '<｜User｜>' + message.content }}{%- endif %}
    {%- if message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
        {{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>\\n' }}{%- endif %}"""

REASONED = [("1+1?", "<think>\none\n</think>\n\ntwo"), ("And 2+2?", "<think>\ntwice\n</think>\n\nfour")]
PLAIN = [("1+1?", "two"), ("And 2+2?", "four")]
ROUND = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
CHAT = PromptSettings(chat=True)


def conversation(rounds):
    messages = [m for q, a in rounds for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    return messages[:-1], messages[-1]["content"]


def turns_of(tokenizer, rounds, settings=CHAT):
    return assistant_turns(*conversation(rounds), settings, tokenizer)


def encoded(tokenizer, turns):
    targets = [with_stop(tokenizer, tokenizer.encode(turn.target), in_chat=turn.in_chat) for turn in turns]
    return [
        (encode_prompt(tokenizer, turn.prompt, in_chat=turn.in_chat), ids)
        for turn, ids in zip(turns, targets, strict=True)
    ]


def text(tokenizer, ids):
    return tokenizer._backend.decode(ids, skip_special_tokens=False)


def test_every_turn_is_what_the_template_adds_and_one_sequence_has_all(tmp_path):
    tokenizer = byte_tokenizer(tmp_path, CHATML)
    turns = turns_of(tokenizer, REASONED)
    first = ROUND.format("1+1?")
    second = first + "<think>\none\n</think>\n\ntwo<|im_end|>\n" + ROUND.format("And 2+2?")
    assert turns[0] == Turn(first, "<think>\none\n</think>\n\ntwo<|im_end|>\n")
    assert turns[1] == Turn(second, "<think>\ntwice\n</think>\n\nfour<|im_end|>\n")
    pairs = encoded(tokenizer, turns)
    ((begin, end),) = earlier_turns(pairs)
    prompt, target = pairs[-1]
    # The stop token is learned, and the line end that the template writes after it is not.
    assert text(tokenizer, prompt[begin:end]) == "<think>\none\n</think>\n\ntwo<|im_end|>"
    assert text(tokenizer, prompt[:begin]) == first and text(tokenizer, prompt[end:]) == "\n" + ROUND.format("And 2+2?")
    assert text(tokenizer, target) == "<think>\ntwice\n</think>\n\nfour<|im_end|>"


def test_a_system_message_is_not_learned(tmp_path):
    tokenizer = byte_tokenizer(tmp_path, CHATML)
    (turn,) = turns_of(tokenizer, PLAIN[:1], PromptSettings(chat=True, system="Be brief."))
    assert turn == Turn("<|im_start|>system\nBe brief.<|im_end|>\n" + ROUND.format("1+1?"), "two<|im_end|>\n")


@pytest.mark.parametrize("rounds", [REASONED, PLAIN])
def test_qwen3_rewrites_history_so_that_each_turn_has_its_own_prompt(tmp_path, rounds):
    tokenizer = byte_tokenizer(tmp_path, QWEN3)
    turns = turns_of(tokenizer, rounds)
    reasoning = [answer.partition("</think>")[0][8:-1] if "</think>" in answer else "" for _, answer in rounds]
    assert turns[0] == Turn(ROUND.format("1+1?"), f"<think>\n{reasoning[0]}\n</think>\n\ntwo<|im_end|>\n")
    second = ROUND.format("1+1?") + "two<|im_end|>\n" + ROUND.format("And 2+2?")
    assert turns[1] == Turn(second, f"<think>\n{reasoning[1]}\n</think>\n\nfour<|im_end|>\n")
    assert earlier_turns(encoded(tokenizer, turns)) is None


def test_a_template_that_drops_the_reasoning_of_the_turn_itself(tmp_path):
    tokenizer = byte_tokenizer(tmp_path, R1, eos="<｜end▁of▁sentence｜>")
    turns = turns_of(tokenizer, REASONED)
    assert turns[0] == Turn("<｜User｜>1+1?<｜Assistant｜><think>\n", "one\n</think>\n\ntwo")
    second = "<｜User｜>1+1?<｜Assistant｜>\n\ntwo<｜end▁of▁sentence｜><｜User｜>And 2+2?<｜Assistant｜><think>\n"
    assert turns[1] == Turn(second, "twice\n</think>\n\nfour")
    pairs = encoded(tokenizer, turns)
    assert earlier_turns(pairs) is None
    assert text(tokenizer, pairs[1][1]) == "twice\n</think>\n\nfour<｜end▁of▁sentence｜>"


def test_tokens_that_are_divided_otherwise_in_one_sequence(tmp_path):
    """The line end of the generation prompt and that of the turn are one token in the next prompt, and two before."""
    tokenizer = byte_tokenizer(tmp_path, CHATML, merges=[("Ċ", "Ċ")])
    assert earlier_turns(encoded(tokenizer, turns_of(tokenizer, PLAIN))) is not None
    assert earlier_turns(encoded(tokenizer, turns_of(tokenizer, [("1+1?", "\ntwo"), PLAIN[1]]))) is None


def test_a_template_without_a_stop_token(tmp_path):
    """One is added to each turn, so that a sequence of all turns, which lacks it, is none that is sampled."""
    tokenizer = byte_tokenizer(tmp_path, "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    turns = turns_of(tokenizer, PLAIN)
    assert turns[1] == Turn("[user]1+1?[assistant]two[user]And 2+2?", "[assistant]four")
    pairs = encoded(tokenizer, turns)
    assert text(tokenizer, pairs[0][1]) == "[assistant]two<|im_end|>" and earlier_turns(pairs) is None


def test_turns_without_text_are_left_out(tmp_path):
    tokenizer = byte_tokenizer(tmp_path, CHATML)
    assert [t.target for t in turns_of(tokenizer, [("a", " "), ("b", "yes")])] == ["yes<|im_end|>\n"]


def test_text_after_a_stop_token_is_not_learned(tmp_path):
    tokenizer = byte_tokenizer(tmp_path, CHATML)
    ((_, ids),) = encoded(tokenizer, turns_of(tokenizer, [("a", "yes<|im_end|> or no")]))
    assert text(tokenizer, ids) == "yes<|im_end|>"


@pytest.mark.parametrize(
    ("demonstration", "prompt", "rest"),
    [
        ("<think>\nr</think>a", "q", "<think>\nr</think>a"),
        ("<think>\nr</think>a", "q<think>", "\nr</think>a"),
        ("<think>\nr</think>a", "q<think>\n", "r</think>a"),
        ("\n<think>\nr</think>a", "q<think>\n", "r</think>a"),
        ("r</think>a", "q<think>\n", "r</think>a"),
        # Without reasoning, the answer is not inside of it.
        ("4", "q<think>\n", "</think>\n\n4"),
        ("4", "q<think>", "\n</think>\n\n4"),
        ("4", "q", "4"),
    ],
)
def test_continuation(demonstration, prompt, rest):
    assert continuation(demonstration, prompt) == rest


def test_chat_template_kwargs_hold_for_turns(tmp_path):
    template = CHATML + "{{ 'brief' if style == 'short' and add_generation_prompt }}"
    tokenizer = byte_tokenizer(tmp_path, template)
    settings = PromptSettings(chat=True, chat_template_kwargs={"style": "short"})
    assert turns_of(tokenizer, PLAIN[:1], settings)[0].prompt == ROUND.format("1+1?") + "brief"
