"""1.0 for a completion that has the requested format, else 0.0 with the reason.

    think_answer(example, "<think>r</think><answer>4</answer>")  # 1.0: DeepSeek-R1-Zero's format (2501.12948, table 1)
    think_text(example, "<think>r</think>It is 4.")  # 1.0: the format of R1 and its distilled models
    think_text(example, "It is 4.")  # (0.0, "missing_think")

Both are strict. A tag counts wherever it occurs, in quotes and code blocks too, because the code that splits a
completion at its tags does not see quotes. Tags are case-sensitive: `<Think>` is text. White space includes zero-width
characters. Special tokens at the end (END_TOKENS) are ignored; text after them means that the completion did not stop
at its end token. Where the prompt has opened `<think>`, the completion must not open it again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from r1jax.rewards.example import Example, RewardResult

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_MISSING: dict[str, str] = {TAGS[0]: "missing_think", TAGS[1]: "unclosed_think"}
_MISSING |= {TAGS[2]: "missing_answer", TAGS[3]: "unclosed_answer"}
# Tokens with which models end a text, and padding. A completion contains them only where the tokenizer does not know
# them as stop tokens.
END_TOKENS = (
    "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "<|eot_id|>", "<|eom_id|>", "<|return|>", "<|EOT|>",
    "<｜end▁of▁sentence｜>", "<|end▁of▁sentence|>", "<|END_OF_TURN_TOKEN|>", "<end_of_turn>", "</s>", "<eos>",
    "<pad>", "<|pad|>", "<|finetune_right_pad_id|>",
)  # fmt: skip
# They and white space at the end of a text, which is read backwards.
_END = re.compile(rf"(?:\s|{'|'.join(re.escape(token[::-1]) for token in END_TOKENS)})*+")
_ZERO_WIDTH = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
# Those that occur in no ordinary text, as `</s>`, `<eos>` and `<pad>` may.
_UNMISTAKABLE = tuple(token for token in END_TOKENS if token[1] in "|｜")


def think_answer(example: Example, completion: str) -> RewardResult:
    """R1-Zero's format, `<think>reasoning</think><answer>answer</answer>`.

    Each tag occurs once, in order; reasoning and answer are not blank; outside the two blocks there is only white
    space. The reason is the first of these that applies: missing_think, unclosed_think, missing_answer,
    unclosed_answer, repeated_tag, wrong_order, text_before_think, empty_think, text_before_answer, empty_answer,
    text_after_answer, text_after_end.
    """
    errors = ("text_before_think", "empty_think", "text_before_answer", "empty_answer", "text_after_answer")
    return _has_format(completion, example.prompt_opens_think, TAGS, errors)


def think_text(example: Example, completion: str) -> RewardResult:
    """R1's format, reasoning in `<think>…</think>` followed by text.

    Both tags occur once, in order; neither the reasoning nor the text after it is blank; before `<think>` there is only
    white space. The text may contain anything else, `<answer>` too. The reason is the first of these that applies:
    missing_think, unclosed_think, repeated_tag, wrong_order, text_before_think, empty_think, empty_text,
    text_after_end.
    """
    errors = ("text_before_think", "empty_think", "empty_text")
    return _has_format(completion, example.prompt_opens_think, TAGS[:2], errors)


def strip_end(completion: str) -> str:
    """The completion without the special tokens and the white space at its end."""
    end = _END.match(completion[::-1])
    return completion[: len(completion) - end.end()] if end else completion


def reasoning(completion: str, prompt_opens_think: bool = False) -> str | None:
    """The chain of thought, between `<think>` and the last `</think>`; None where there is neither.

    A missing `<think>` is taken to be at the start of the completion, since the prompt opened it; a missing `</think>`
    at its end, since the completion was truncated.
    """
    before, closed, _ = completion.rpartition("</think>")
    text = before if closed else completion
    if prompt_opens_think:
        return text
    _, opened, inside = text.partition("<think>")
    return inside if opened else text if closed else None


def summary(completion: str, prompt_opens_think: bool = False) -> str | None:
    """What follows the reasoning: the text after the last `</think>`; None where reasoning was not closed."""
    _, closed, text = strip_end(completion).rpartition("</think>")
    return None if "<think>" in text or (prompt_opens_think and not closed) else text.strip()


def _has_format(completion: str, prompt_opens_think: bool, tags: Sequence[str], errors: Sequence[str]) -> RewardResult:
    """1.0 where the tags occur once and in order, and the texts before, between and after them are blank or not.

    `errors` has a reason for each of these texts: `empty_…` where it must not be blank, `text_…` where it must be.
    """
    rest = strip_end("<think>" + completion if prompt_opens_think else completion)
    for tag in tags:
        if tag not in rest:
            return 0.0, _MISSING[tag]
    if any(rest.count(tag) > 1 for tag in tags):
        return 0.0, "repeated_tag"
    if (places := [rest.index(tag) for tag in tags]) != sorted(places):
        return 0.0, "wrong_order"
    for text, error in zip(re.split("|".join(tags), rest), errors, strict=True):
        if error.startswith("empty") == (not strip_end(text.translate(_ZERO_WIDTH))):
            return 0.0, error
    return (0.0, "text_after_end") if any(token in strip_end(completion) for token in _UNMISTAKABLE) else 1.0
