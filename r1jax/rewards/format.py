"""1.0 for R1's form `<think>reasoning</think><answer>answer</answer>`, else 0.0, with the reason."""

from __future__ import annotations

from r1jax.rewards.example import Example

TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def think_answer(example: Example, completion: str) -> float:
    """Strict: see `format_error` for what is rejected."""
    return float(format_error(completion, prompt_opens_think=example.prompt_opens_think) is None)


def format_error(completion: str, *, prompt_opens_think: bool = False) -> str | None:
    """Why a completion is not in R1's form; None where it is.

    Each tag stands once, in order; reasoning and answer are not blank; outside the two blocks is only white space.
    Where the prompt already opened `<think>`, the completion must not open it again.
    """
    if prompt_opens_think:
        completion = "<think>" + completion
    for tag in TAGS:
        if (count := completion.count(tag)) != 1:
            return f"{'missing' if count == 0 else 'repeated'} {tag}"
    before, rest = completion.split("<think>")
    reasoning, closed_think, rest = rest.partition("</think>")
    between, opened_answer, rest = rest.partition("<answer>")
    answer, closed_answer, after = rest.partition("</answer>")
    if not (closed_think and opened_answer and closed_answer):
        return "tags out of order"
    if before.strip() or between.strip() or after.strip():
        return "text outside the blocks"
    if not reasoning.strip():
        return "empty reasoning"
    if not answer.strip():
        return "empty answer"
    return None
