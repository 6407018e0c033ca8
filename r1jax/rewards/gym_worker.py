"""Scores answers to reasoning-gym problems, made again from their index, in the worker processes of `tasks.gym`.

Only that process imports this module, so that loading the library does not count as time of a call.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from reasoning_gym.factory import create_dataset


def score(name: str, settings: dict[str, Any], index: int, question: str, answer: str) -> float:
    """The generator's own score. Raises ValueError where problem `index` is not `question`."""
    dataset, problem = _problem(name, json.dumps(settings), index)
    if problem["question"] != question:
        raise ValueError(
            f"task.gym: {name} makes other problems in another process, so they can neither be scored nor made again "
            f"after a restart; choose another generator"
        )
    try:
        return float(dataset.score_answer(answer, problem))
    except MemoryError:
        raise
    except Exception:
        return 0.0  # the scorer cannot read this answer


@functools.lru_cache(maxsize=64)
def _problem(name: str, settings: str, index: int) -> tuple[Any, dict[str, Any]]:
    dataset = _dataset(name, settings)
    return dataset, dataset[index]


@functools.lru_cache(maxsize=4)
def _dataset(name: str, settings: str) -> Any:
    return create_dataset(name, **json.loads(settings))
