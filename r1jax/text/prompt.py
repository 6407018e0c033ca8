"""From questions to prompts: a template, then the tokenizer's chat template if the settings ask for it.

text, opens_think = make_prompt("2+2?", config.prompt, tokenizer)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1jax.config.sampling import PromptSettings
    from r1jax.text.tokenizer import Tokenizer

TEMPLATES = {
    "plain": "{question}",
    # For base models without a chat format: the text of DeepSeek-R1-Zero, 2501.12948 Table 1.
    "r1_zero": (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
        "The assistant first thinks about the reasoning process in the mind and then provides the user with the "
        "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
        "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
        "User: {question}. Assistant:"
    ),
    # For chat models. R1's README advises to ask for step-by-step reasoning and an answer in \boxed{} in the user's
    # message, without a system prompt; R1 itself was trained to think first. We ask for the tags instead, because the
    # format reward looks for them; \boxed{} inside them is understood too.
    "r1": (
        "{question}\n\nPlease reason step by step within <think> </think> tags, and then put your final answer within "
        "<answer> </answer> tags."
    ),
}

Question = str | Sequence[dict[str, Any]]


def make_prompt(question: Question, settings: PromptSettings, tokenizer: Tokenizer) -> tuple[str, bool]:
    """The prompt's text, and whether it ends in an opened `<think>`, which the completion will then not open itself.

    Raises ValueError where question, settings and tokenizer do not fit together.
    """
    template = TEMPLATES.get(settings.template, settings.template)
    if "{question}" not in template:
        raise ValueError(
            f"prompt.template: got {settings.template!r}, need one of {', '.join(TEMPLATES)}, or a text with "
            "{question} in it"
        )
    if settings.chat:
        if tokenizer.chat_template is None:
            raise ValueError(f"prompt.chat is true, and {tokenizer.source} has no chat template; set prompt.chat=false")
        messages = chat_messages(question, settings)
        text = tokenizer.chat_template.render(messages, **settings.chat_template_kwargs)
        words = messages[-1]["content"].split()
        if words and not any(word in text for word in words):
            raise ValueError(
                f"the chat template of {tokenizer.chat_template.source} leaves out the last message, "
                f"{messages[-1]['content']!r:.80}; fix the template or set prompt.chat=false"
            )
    elif not isinstance(question, str):
        raise ValueError("the task's questions are chat messages, and prompt.chat is false; set prompt.chat=true")
    elif settings.system is not None:
        raise ValueError("prompt.system needs a chat template; set prompt.chat=true, or drop prompt.system")
    elif settings.chat_template_kwargs:
        raise ValueError("prompt.chat_template_kwargs needs a chat template; set prompt.chat=true, or drop it")
    else:
        text = template.replace("{question}", question)  # not str.format: both may contain braces
    return text, opens_think(text)


def opens_think(prompt: str) -> bool:
    """Whether the prompt ends in an opened `<think>`, which the completion will then not open itself."""
    return prompt.rstrip().endswith("<think>")


def encode_prompt(tokenizer: Tokenizer, prompt: str, *, in_chat: bool = False) -> list[int]:
    """A prompt's ids, with the start token in front as in `with_start`."""
    return with_start(tokenizer, tokenizer.encode(prompt), in_chat=in_chat)


def with_start(tokenizer: Tokenizer, ids: list[int], *, in_chat: bool) -> list[int]:
    """The ids with the tokenizer's start token in front, where it has one and it is not there already.

    In chat the template writes it, or the model has none: transformers and vLLM add none there either.
    """
    bos = tokenizer.bos_id
    return ids if in_chat or bos is None or ids[:1] == [bos] else [bos, *ids]


def with_stop(tokenizer: Tokenizer, ids: list[int], *, in_chat: bool) -> list[int]:
    """The ids up to their first stop token, or else with the one added that ends a turn, or a text."""
    stop = next((i for i, token in enumerate(ids) if token in tokenizer.stop_ids), None)
    if stop is not None:
        return ids[: stop + 1]
    return [*ids, tokenizer.turn_end if in_chat and tokenizer.turn_end is not None else tokenizer.stop_ids[0]]


def goes_on_after_a_stop(tokenizer: Tokenizer, ids: list[int]) -> bool:
    """Whether text follows the first stop token, as where a demonstration quotes one: `with_stop` cuts it off."""
    kept = with_stop(tokenizer, ids, in_chat=False)
    rest = [token for token in ids[len(kept) :] if token not in tokenizer.stop_ids]
    return bool(rest) and bool(tokenizer.decode(rest).strip())


def chat_messages(question: Question, settings: PromptSettings) -> list[dict[str, Any]]:
    """The question as messages for a chat template. Raises ValueError where it does not fit the settings."""
    template, system = TEMPLATES.get(settings.template, settings.template), settings.system
    if isinstance(question, str):
        messages = [{"role": "user", "content": template.replace("{question}", question)}]
    elif template != TEMPLATES["plain"]:
        raise ValueError("the task's questions are chat messages, which take no template; set prompt.template=plain")
    else:
        messages = list(question)
    if not messages:
        raise ValueError("the question is an empty list of chat messages; it needs a user message at least")
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise ValueError(f"message {i} of the question is {message!r:.200}; each needs a role and a content text")
    if messages[-1]["role"] == "assistant":
        raise ValueError("the question's last message is the assistant's, the answer itself; end with a user message")
    if system is None:
        return messages
    if messages[0]["role"] == "system":
        raise ValueError("the question has a system message, and prompt.system gives another; drop one of the two")
    return [{"role": "system", "content": system}, *messages]
