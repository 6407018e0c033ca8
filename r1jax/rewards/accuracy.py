"""1.0 for the right answer, else 0.0 (DeepSeek-R1 2501.12948, section 2.2)."""

from __future__ import annotations

from r1jax.answers import expression_value, extract_answer, final_answer, same_answer, same_value
from r1jax.rewards.example import Example


def exact_number(example: Example, completion: str) -> float:
    """The final answer is the same number as the gold, exactly. Raises ValueError where the gold is no number."""
    answer = final_answer(completion, prompt_opens_think=example.prompt_opens_think)
    return float(same_value(answer or "", example.answer))


def math_answer(example: Example, completion: str) -> float:
    """The final answer, in whatever usual form, is the gold: a number exactly, anything else as text.

    `answers.extract_answer` and `answers.same_answer` have the rules. Raises ValueError where the gold is empty.
    """
    answer = extract_answer(completion, prompt_opens_think=example.prompt_opens_think)
    return float(same_answer(answer or "", example.answer))


def countdown_expression(example: Example, completion: str) -> float:
    """The final answer is an expression that uses each of data["numbers"] once and equals data["target"] exactly."""
    answer = final_answer(completion, prompt_opens_think=example.prompt_opens_think)
    result = None if answer is None else expression_value(answer)
    if result is None:
        return 0.0
    value, numbers = result
    return float(value == example.data["target"] and sorted(numbers) == sorted(example.data["numbers"]))
