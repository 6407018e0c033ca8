"""A user's own reward, run in child processes: a function of a file or a package, in r1jax's form or in TRL's.

    def score(example, completion): ...               # → float, None, or (either, "reason"); a rewards.example.Example
    def score(prompts, completions, **columns): ...   # TRL's, called with lists of one → [float or None]

TRL's gets the question, the answer and the task's `columns` by name; where the question is chat messages, a completion
is a list of one assistant message. It may be async. What TRL takes from its trainer (completion_ids, trainer_state) is
not there: a function that requires it is refused.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from r1jax.rewards.example import Completion, Example, RewardResult
from r1jax.sandbox.workers import WorkerCrash, WorkerPool, WorkerTimeout, WorkerUnavailable

CALL = "r1jax.rewards.function:call"


class SubprocessFunction:
    """The reward. A call that is late or ends its process could not be graded, and touches no other.

    Raises ValueError, when it is made, for a function that cannot be loaded or called with `columns`.
    """

    def __init__(self, function: str, *, columns: Sequence[str], seconds: float, memory_mb: int) -> None:
        self.function = function
        # A worker loads the function, and what that imports, before the time of a call is counted.
        setup = (function, None, list(columns))
        self._pool = WorkerPool(CALL, timeout=seconds, memory_mb=memory_mb, setup=setup)
        try:
            self._pool.start()
        except WorkerUnavailable as error:
            message = str(error).removeprefix(f"{CALL} cannot be loaded: ")
            raise ValueError(message if function in message else f"the reward {function}: {message}") from None

    def __call__(self, example: Example, completion: str) -> RewardResult:
        tokens = [completion.length, completion.truncated] if isinstance(completion, Completion) else []
        try:
            score, reason = self._pool.call(self.function, dataclasses.asdict(example), [completion, *tokens])
            return (score, reason) if reason else score
        except WorkerTimeout:
            return None, "timeout"
        except WorkerCrash:
            return None, "crash"


def call(path: str, example: dict[str, Any] | None, arguments: list[Any]) -> tuple[float | None, str]:
    """In the child: score and reason. Without an example, only checks the function, with columns `arguments`."""
    function = load(path)
    takes_lists = "completions" in inspect.signature(function).parameters
    if example is None:
        if takes_lists:
            check_columns(path, function, arguments)
        else:
            check_pair(path, function)
        return None, ""
    text, *tokens = arguments
    completion = Completion(text, length=tokens[0], truncated=tokens[1]) if tokens else text
    made = Example(**example)
    if not takes_lists:
        verdict = function(made, completion)
        score, reason = verdict if isinstance(verdict, tuple) else (verdict, "")
        return number(path, score), str(reason)
    chat = not isinstance(made.question, str)
    columns = {"question": made.question, "answer": made.answer, **made.data}
    given: dict[str, Any] = {
        "prompts": made.question if chat else made.prompt,
        "completions": [{"role": "assistant", "content": text}] if chat else text,
    }
    lists = {name: [value] for name, value in (columns | given).items()}
    parameters = inspect.signature(function).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        lists = {p.name: lists[p.name] for p in parameters if p.name in lists}
    scores = function(**lists)
    scores = asyncio.run(scores) if inspect.isawaitable(scores) else scores
    (score,) = scores
    return number(path, score), ""


def number(path: str, score: Any) -> float | None:
    """Raises ValueError for what is no finite number and not None."""
    if score is None:
        return None
    value = float(score)
    if not math.isfinite(value):
        raise ValueError(f"the reward {path} gave {value}; a score is a finite number or None")
    return value


def check_pair(path: str, function: Callable[..., Any]) -> None:
    """Raises ValueError for what cannot be called with an example and a completion."""
    try:
        inspect.signature(function).bind("example", "completion")
    except TypeError:
        raise ValueError(
            f"the reward {path} takes {inspect.signature(function)}; it is called with (example, completion), or as "
            f"TRL does where it has a parameter completions"
        ) from None


def check_columns(path: str, function: Callable[..., Any], columns: Sequence[str]) -> None:
    """Raises ValueError for a parameter that nothing fills."""
    there = {"prompts", "completions", "question", "answer", *columns}
    for parameter in inspect.signature(function).parameters.values():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and parameter.name not in there:
            raise ValueError(
                f"the reward {path} needs {parameter.name!r}; there are {', '.join(sorted(there))}, and task.columns "
                f"adds others of the data set"
            )


@functools.cache
def load(path: str) -> Callable[..., Any]:
    """The function "file.py:name" or "package.module:name". Raises ValueError where there is none."""
    source, _, name = path.rpartition(":")
    if not source or not name:
        raise ValueError(f"a reward's function is written file.py:name or package.module:name, got {path!r}")
    if source.endswith(".py"):
        file = Path(source)
        name_of_module = f"r1jax_reward_{file.stem}"  # a file may be called math.py
        spec = importlib.util.spec_from_file_location(name_of_module, file) if file.is_file() else None
        if spec is None or spec.loader is None:
            raise ValueError(f"the reward {path}: there is no file {source}")
        sys.path.append(str(file.resolve().parent))  # so that it can import its neighbours
        module = importlib.util.module_from_spec(spec)
        sys.modules[name_of_module] = module
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(source)
        except ModuleNotFoundError as error:
            raise ValueError(f"the reward {path} cannot be loaded: {error}") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"the reward {path}: {source} has no function {name!r}")
    return function
