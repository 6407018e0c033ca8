"""The assistant's turns of a conversation, which SFT learns, and nothing else of it.

    turns = assistant_turns(example.question, example.demonstration, stage.prompt, tokenizer)
    prompt, target = turns[-1].prompt, turns[-1].target

A turn's target is found by rendering the messages before it and the messages up to it: it is what the second text adds
to the first. No marker of a template is searched for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from r1jax.text.prompt import Question, chat_messages, opens_think

if TYPE_CHECKING:
    from r1jax.config.sampling import PromptSettings
    from r1jax.text.tokenizer import Tokenizer


class Turn(NamedTuple):
    """What the model continues, and what it has to write: as the chat template writes it, or as it is."""

    prompt: str
    target: str
    in_chat: bool = True


def assistant_turns(
    question: Question, demonstration: str, settings: PromptSettings, tokenizer: Tokenizer
) -> list[Turn]:
    """The turns of a conversation that the demonstration ends; those without text are left out.

    Each one's prompt is the text that the model would be given for it. Where the template does not write the turn's
    text after that prompt, as DeepSeek-R1's does not, which drops the reasoning of all turns, the target is the text.
    """
    template = tokenizer.chat_template
    assert template is not None, "make_prompt refuses a tokenizer without a template"
    messages = [*chat_messages(question, settings), {"role": "assistant", "content": demonstration}]
    turns = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or not message["content"].strip():
            continue
        prompt = template.render(messages[:i], **settings.chat_template_kwargs)
        text = continuation(message["content"], prompt)
        whole = template.render(messages[: i + 1], add_generation_prompt=False, **settings.chat_template_kwargs)
        added = whole.removeprefix(prompt)
        is_rendered = whole.startswith(prompt) and _squeezed(text) in _squeezed(added)
        turns.append(Turn(prompt, added if is_rendered else text))
    return turns


def continuation(demonstration: str, prompt: str) -> str:
    """The demonstration as what follows its prompt, which may have opened `<think>` already.

    One without reasoning then begins with the end of it, so that no answer is inside.
    """
    if not opens_think(prompt):
        return demonstration
    if "</think>" not in demonstration:
        return f"{'' if prompt.endswith('\n') else '\n'}</think>\n\n{demonstration}"
    if not demonstration.lstrip().startswith("<think>"):
        return demonstration
    rest = demonstration.lstrip().removeprefix("<think>")
    return rest.removeprefix("\n") if prompt.endswith("\n") else rest


def earlier_turns(turns: Sequence[tuple[list[int], list[int]]]) -> list[tuple[int, int]] | None:
    """Where in the last prompt the targets of the turns before are: from, to. `turns` are ids of prompts and targets.

    None where a turn's prompt and target are not the beginning of the last prompt: the template rewrites history, such
    as Qwen3's, which drops earlier reasoning, or tokens are divided otherwise. Then one sequence cannot train all turns
    as they are sampled.
    """
    last, places = turns[-1][0], []
    for prompt, target in turns[:-1]:
        joined = [*prompt, *target]
        if last[: len(joined)] != joined:
            return None
        places.append((len(prompt), len(joined)))
    return places


def _squeezed(text: str) -> str:
    return "".join(text.split())
