"""1.0 for a completion in the form asked for, else 0.0 with the reason.

    think_answer(example, "<think>r</think><answer>4</answer>")  # 1.0: DeepSeek-R1-Zero's form (2501.12948, table 1)
    think_text(example, "<think>r</think>It is 4.")  # 1.0: the form of R1 and its distilled models
    think_text(example, "It is 4.")  # (0.0, "missing_think")

Both are strict. A tag counts wherever it stands, in quotes and code blocks too: what splits the text at the tags later
sees no quotes. Tags are written exactly so; `<Think>` is text. White space includes characters of no width. Special
tokens at the end (END_TOKENS) are ignored; with anything after them the completion did not stop where it said it did.
Where the prompt opened `<think>`, the completion must not open it again.
"""

from __future__ import annotations

import re

from r1jax.rewards.example import Example, RewardResult

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_ABSENT: dict[str, str] = {
    "<think>": "missing_think",
    "</think>": "unclosed_think",
    "<answer>": "missing_answer",
    "</answer>": "unclosed_answer",
}
# What models end a text with, and padding; a completion has none where the tokenizer knows them as stop tokens.
END_TOKENS = (
    "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "<|eot_id|>", "<|eom_id|>", "<|return|>", "<|EOT|>",
    "<｜end▁of▁sentence｜>", "<|end▁of▁sentence|>", "<|END_OF_TURN_TOKEN|>", "<end_of_turn>", "</s>", "<eos>",
    "<pad>", "<|pad|>", "<|finetune_right_pad_id|>",
)  # fmt: skip
# They and white space, read from the end of a text: backwards.
_END = re.compile(rf"(?:\s|{'|'.join(re.escape(token[::-1]) for token in END_TOKENS)})*+")
_NO_WIDTH = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
# Those that nobody writes in a text; `</s>`, `<eos>` and `<pad>` are also HTML or mere names.
_STOPS = tuple(token for token in END_TOKENS if token[1] in "|｜")


def think_answer(example: Example, completion: str, *, allow_empty: bool = False) -> RewardResult:
    """The form `<think>reasoning</think><answer>answer</answer>`; see `format_error` for what is rejected."""
    reason = format_error(completion, example.prompt_opens_think, allow_empty=allow_empty)
    return (0.0, reason) if reason else 1.0


def think_text(example: Example, completion: str, *, allow_empty: bool = False) -> RewardResult:
    """The form `<think>reasoning</think>` and a text that is not blank; see `text_format_error`."""
    reason = text_format_error(completion, example.prompt_opens_think, allow_empty=allow_empty)
    return (0.0, reason) if reason else 1.0


def format_error(completion: str, prompt_opens_think: bool = False, *, allow_empty: bool = False) -> str | None:
    """Why a completion is not in R1-Zero's form; None where it is.

    Each tag stands once, in order; reasoning and answer are not blank, unless `allow_empty`; outside the two blocks is
    only white space. The reasons, of which the first that applies is given: missing_think, unclosed_think,
    missing_answer, unclosed_answer, repeated_tag, wrong_order, text_before_think, empty_think, text_before_answer,
    empty_answer, text_after_answer, text_after_end.
    """
    parts = _split(completion, prompt_opens_think, TAGS)
    if isinstance(parts, str):
        return parts
    before, reasoning, between, answer, after = parts
    failed = {
        "text_before_think": not _blank(before),
        "empty_think": _blank(reasoning) and not allow_empty,
        "text_before_answer": not _blank(between),
        "empty_answer": _blank(answer) and not allow_empty,
        "text_after_answer": not _blank(after),
        "text_after_end": _goes_on(completion),
    }
    return next((reason for reason, applies in failed.items() if applies), None)


def text_format_error(completion: str, prompt_opens_think: bool = False, *, allow_empty: bool = False) -> str | None:
    """Why a completion is not reasoning in `<think>…</think>` and then a text; None where it is.

    Both tags stand once, in order; the reasoning is not blank, unless `allow_empty`; before it is only white space;
    the text is never blank and may hold anything else, `<answer>` too. The reasons, of which the first that applies is
    given: missing_think, unclosed_think, repeated_tag, wrong_order, text_before_think, empty_think, empty_text,
    text_after_end.
    """
    parts = _split(completion, prompt_opens_think, TAGS[:2])
    if isinstance(parts, str):
        return parts
    before, reasoning, text = parts
    failed = {
        "text_before_think": not _blank(before),
        "empty_think": _blank(reasoning) and not allow_empty,
        "empty_text": _blank(text),
        "text_after_end": _goes_on(completion),
    }
    return next((reason for reason, applies in failed.items() if applies), None)


def without_end(completion: str) -> str:
    """The completion without the special tokens and the white space at its end."""
    end = _END.match(completion[::-1])
    return completion[: len(completion) - end.end()] if end else completion


def reasoning(completion: str, prompt_opens_think: bool = False) -> str | None:
    """The chain of thought: what stands between `<think>` and the last `</think>`; None where there is neither.

    A tag that is missing is taken to stand at the completion's start or end: the prompt opened it, or it was cut.
    """
    before, closed, _ = completion.rpartition("</think>")
    text = before if closed else completion
    if prompt_opens_think:
        return text
    _, opened, inside = text.partition("<think>")
    return inside if opened else text if closed else None


def _split(completion: str, prompt_opens_think: bool, tags: tuple[str, ...]) -> list[str] | str:
    """What stands before, between and after the tags, or why they do not stand in order."""
    rest = without_end("<think>" + completion if prompt_opens_think else completion)
    for tag in tags:
        if tag not in rest:
            return _ABSENT[tag]
    if any(rest.count(tag) > 1 for tag in tags):
        return "repeated_tag"
    parts = []
    for tag in tags:
        part, found, rest = rest.partition(tag)
        if not found:
            return "wrong_order"
        parts.append(part)
    return [*parts, rest]


def _blank(text: str) -> bool:
    return not without_end(text.translate(_NO_WIDTH))


def _goes_on(completion: str) -> bool:
    text = without_end(completion)
    return any(token in text for token in _STOPS)
