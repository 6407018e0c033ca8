r"""1.0 for the right answer, else 0.0 (DeepSeek-R1 2501.12948, section 2.2).

math_answer(Example("2+2", "4"), r"<think>r</think>It is \boxed{4}.")  # 1.0
"""

from __future__ import annotations

import dataclasses
import functools

from r1jax.answers.equivalence import same_answer
from r1jax.answers.extraction import after_reasoning, extract_answer, gold_answer, kind_of
from r1jax.rewards.choice import letter
from r1jax.rewards.example import Example, RewardResult
from r1jax.sandbox.workers import WorkerCrash, WorkerPool, WorkerTimeout, WorkerUnavailable

SECONDS = 5.0  # the time limit of one comparison in a worker


def math_answer(example: Example, completion: str) -> RewardResult:
    """The final answer is equivalent to the gold answer; the rules are in `answers.extraction` and `.equivalence`.

    A gold answer that is the letter of a choice is compared by `choice.letter`. The reasons of a 0.0 are
    unclosed_think, no_answer and those of `grade_answer`. Raises ValueError where the gold answer is empty.
    """
    gold = gold_answer(example.answer)
    if after_reasoning(completion, example.prompt_opens_think) is None:
        return 0.0, "unclosed_think"
    kind = kind_of(gold)
    if kind == "choice":
        return letter(dataclasses.replace(example, answer=gold), completion)
    answer = extract_answer(completion, prompt_opens_think=example.prompt_opens_think, kind=kind)
    return (0.0, "no_answer") if answer is None else grade_answer(answer, gold)


def no_gold(example: Example, completion: str) -> RewardResult:
    """None: a task without gold answers has no accuracy."""
    return None, "no_gold"


def grade_answer(answer: str, gold: str) -> RewardResult:
    """Whether an answer is equivalent to the gold answer.

    Two expressions that are not written alike are compared by math-verify in a worker. The reasons of a 0.0 are
    timeout (after SECONDS), crash and unreadable; where no worker can start, the result is None and unavailable.
    """
    unproved: list[str] = []  # what a computer algebra system has to compare
    same = same_answer(answer, gold, lambda *pair: bool(unproved.extend(pair)))
    if same or not unproved:
        return float(same)
    try:
        return float(_workers().call(answer, gold))
    except WorkerUnavailable:
        return None, "unavailable"
    except (WorkerTimeout, WorkerCrash, ValueError) as error:  # ValueError: the computer algebra system raised an error
        return 0.0, {WorkerTimeout: "timeout", WorkerCrash: "crash"}.get(type(error), "unreadable")


@functools.cache
def _workers() -> WorkerPool:
    return WorkerPool("r1jax.rewards.math_worker:same", timeout=SECONDS)
