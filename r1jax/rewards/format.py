"""1.0 for R1's form `<think>reasoning</think><answer>answer</answer>`, else 0.0, with the reason."""

from __future__ import annotations

from r1jax.rewards.example import Example

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_ABSENT = dict(zip(TAGS, ("missing_think", "unclosed_think", "missing_answer", "unclosed_answer"), strict=True))


def think_answer(example: Example, completion: str) -> float:
    """Strict: see `format_error` for what is rejected."""
    return float(format_error(completion, example.prompt_opens_think) is None)


def format_error(completion: str, prompt_opens_think: bool = False) -> str | None:
    """Why a completion is not in R1's form; None where it is.

    Each tag stands once, in order; reasoning and answer are not blank; outside the two blocks is only white space.
    Where the prompt already opened `<think>`, the completion must not open it again. The reasons, of which the first
    that applies is given: missing_think, unclosed_think, missing_answer, unclosed_answer, repeated_tag, wrong_order,
    text_before_think, empty_think, text_before_answer, empty_answer, text_after_answer.
    """
    rest = "<think>" + completion if prompt_opens_think else completion
    for tag, reason in _ABSENT.items():
        if tag not in rest:
            return reason
    if any(rest.count(tag) > 1 for tag in TAGS):
        return "repeated_tag"
    parts = []
    for tag in TAGS:
        part, found, rest = rest.partition(tag)
        if not found:
            return "wrong_order"
        parts.append(part.strip())
    before, reasoning, between, answer = parts
    checks = {
        "text_before_think": before == "",
        "empty_think": reasoning != "",
        "text_before_answer": between == "",
        "empty_answer": answer != "",
        "text_after_answer": rest.strip() == "",
    }
    return next((reason for reason, passed in checks.items() if not passed), None)
