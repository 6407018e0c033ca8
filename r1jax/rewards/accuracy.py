"""1.0 for the right answer, else 0.0 (DeepSeek-R1 2501.12948, section 2.2)."""

from __future__ import annotations

import functools

from r1jax.answers.extraction import (
    after_reasoning,
    expression_value,
    extract_answer,
    final_answer,
    gold_answer,
    number,
    same_answer,
    same_value,
)
from r1jax.rewards.example import Example, RewardResult
from r1jax.sandbox.workers import WorkerCrash, WorkerPool, WorkerTimeout, WorkerUnavailable

SECONDS = 5.0  # for one answer that a worker compares


def exact_number(example: Example, completion: str) -> float:
    """The final answer is the same number as the gold, exactly. Raises ValueError where the gold is no number."""
    answer = final_answer(completion, prompt_opens_think=example.prompt_opens_think)
    return float(same_value(answer or "", example.answer))


def math_answer(example: Example, completion: str) -> RewardResult:
    """The final answer is the gold, by the gold's type: `answers.extract_answer` and `equality` have the rules.

    Numbers, text and the structure of sets, tuples and the like are decided here. Where two expressions are not written
    alike, the answer goes to a worker with math-verify; one that takes it longer than SECONDS, or kills it, is wrong.
    Reasons: unclosed_think, no_answer, unreadable, timeout, crash; with None, where no worker can be had, unavailable.
    Raises ValueError where the gold is empty.
    """
    gold = gold_answer(example.answer)
    if after_reasoning(completion, example.prompt_opens_think) is None:
        return 0.0, "unclosed_think"
    numeric = number(gold) is not None
    answer = extract_answer(completion, prompt_opens_think=example.prompt_opens_think, numeric=numeric)
    if answer is None:
        return 0.0, "no_answer"
    try:
        return float(same_answer(answer, gold, _undecided))
    except _UndecidedError:
        pass
    try:
        return float(_workers().call(answer, gold))
    except WorkerUnavailable:
        return None, "unavailable"
    except WorkerTimeout:
        return 0.0, "timeout"
    except WorkerCrash:
        return 0.0, "crash"
    except ValueError:  # whatever the algebra system raised
        return 0.0, "unreadable"


class _UndecidedError(Exception):
    """Two expressions are not written alike."""


def _undecided(answer: str, gold: str) -> bool:
    raise _UndecidedError


@functools.cache
def _workers() -> WorkerPool:
    return WorkerPool("r1jax.rewards.math_worker:same", timeout=SECONDS)


def countdown_expression(example: Example, completion: str) -> float:
    """The final answer is an expression that uses each of data["numbers"] once and equals data["target"] exactly."""
    answer = final_answer(completion, prompt_opens_think=example.prompt_opens_think)
    result = None if answer is None else expression_value(answer)
    if result is None:
        return 0.0
    value, numbers = result
    return float(value == example.data["target"] and sorted(numbers) == sorted(example.data["numbers"]))
