"""A reward function of the user's own, in r1jax's form or in TRL's, called in child processes or in this one.

    def score(example, completion): ...               # r1jax's form → float, None, or a tuple of either and a reason
    def score(prompts, completions, **columns): ...   # TRL's form, called with lists of length one → [float or None]

Both forms may be async. A function in TRL's form gets the question, the answer and the columns of the task by name;
where the question is chat messages, its completion is a list of one assistant message. What TRL passes from its trainer
(completion_ids, trainer_state) does not exist here, so a function that requires it is refused.
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
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from r1jax.rewards.example import Completion, Example, Reward, RewardResult
from r1jax.sandbox.workers import WorkerCrash, WorkerPool, WorkerTimeout, WorkerUnavailable

WORKER = "r1jax.rewards.function:run_in_worker"
MEMORY_MB = 4096  # of a child process


def subprocess_function(path: str, *, columns: Sequence[str], seconds: float) -> Reward:
    """The function "file.py:name" or "package.module:name", called in a pool of child processes.

    A call that takes longer than `seconds`, or ends its process, gives None and affects no other call. Raises
    ValueError for a function that cannot be loaded or cannot be called with the task's `columns`.
    """
    # A worker loads the function, and what that imports, before the time of a call is counted.
    pool = WorkerPool(WORKER, timeout=seconds, memory_mb=MEMORY_MB, setup=(path, None, list(columns)))
    try:
        pool.start()
    except WorkerUnavailable as error:
        message = str(error).removeprefix(f"{WORKER} cannot be loaded: ")
        raise ValueError(message if path in message else f"the reward {path}: {message}") from None

    def reward(example: Example, completion: str) -> RewardResult:
        tokens = [completion.length, completion.truncated] if isinstance(completion, Completion) else []
        try:
            result = pool.call(path, dataclasses.asdict(example), [completion, *tokens])
        except WorkerTimeout:
            return None, "timeout"
        except WorkerCrash:
            return None, "crash"
        return tuple(result) if isinstance(result, list) else result  # JSON has no tuples

    return reward


def in_process_function(function: Callable[..., Any], *, columns: Sequence[str]) -> Reward:
    """A callable of this process, such as a lambda in a notebook, called by the threads that grade completions.

    Several threads call it at the same time, and nothing ends a call that hangs: what may hang or crash belongs in a
    file. Raises ValueError for a callable that cannot be called with the task's `columns`.
    """
    name = getattr(function, "__name__", repr(function))
    check_signature(name, function, columns)
    return functools.partial(call, name, function)


def run_in_worker(path: str, example: dict[str, Any] | None, arguments: list[Any]) -> RewardResult:
    """What a child process runs. Without an example it only checks the function; `arguments` are then the columns."""
    function = load(path)
    if example is None:
        return check_signature(path, function, arguments)
    text, *tokens = arguments
    completion = Completion(text, length=tokens[0], truncated=tokens[1]) if tokens else text
    return call(path, function, Example(**example), completion)


def call(name: str, function: Callable[..., Any], example: Example, completion: str) -> RewardResult:
    """The function's score, with its reason where it gives one.

    Raises ValueError for a score that is not finite, and for what the function raises, with its file and line.
    """
    try:
        return _call(name, function, example, completion)
    except MemoryError:
        raise
    except Exception as error:
        own = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", None)
        lines = [line for line in traceback.extract_tb(error.__traceback__) if line.filename == own]
        what = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise ValueError(f"{what} ({own}, line {lines[-1].lineno})" if lines else what) from None


def _call(name: str, function: Callable[..., Any], example: Example, completion: str) -> RewardResult:
    parameters = inspect.signature(function).parameters
    if "completions" not in parameters:
        result = _awaited(function(example, completion))
        return (_checked(name, result[0]), str(result[1])) if isinstance(result, tuple) else _checked(name, result)
    chat = not isinstance(example.question, str)
    columns = {"question": example.question, "answer": example.answer, **example.data}
    columns["prompts"] = example.question if chat else example.prompt
    columns["completions"] = [{"role": "assistant", "content": completion}] if chat else completion
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        columns = {name: columns[name] for name in parameters if name in columns}
    (score,) = _awaited(function(**{name: [value] for name, value in columns.items()}))
    return _checked(name, score)


def _awaited(result: Any) -> Any:
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def _checked(name: str, score: Any) -> float | None:
    if score is None:
        return None
    try:
        value = float(score)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the reward {name} gave {score!r:.80}; a score is a finite number or None")
    return value


def check_signature(name: str, function: Callable[..., Any], columns: Sequence[str]) -> None:
    """Raises ValueError for a function that cannot be called in r1jax's form, or in TRL's with these columns."""
    signature = inspect.signature(function)
    if "completions" not in signature.parameters:
        try:
            signature.bind("example", "completion")
        except TypeError:
            raise ValueError(
                f"the reward {name} takes {signature}; it has to take (example, completion), or, as TRL's do, a "
                f"parameter named completions"
            ) from None
        return
    available = {"prompts", "completions", "question", "answer", *columns}
    for parameter in signature.parameters.values():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and parameter.name not in available:
            raise ValueError(
                f"the reward {name} needs {parameter.name!r}; available are {', '.join(sorted(available))}, and "
                f"task.columns adds further columns of the data set"
            )


@functools.cache
def load(path: str) -> Callable[..., Any]:
    """The function "file.py:name" or "package.module:name". Raises ValueError where there is none."""
    source, _, name = path.rpartition(":")
    if not source or not name:
        raise ValueError(f"a reward's function is written file.py:name or package.module:name, got {path!r}")
    if source.endswith(".py"):
        file = Path(source)
        module_name = f"r1jax_reward_{file.stem}"  # a file may be called math.py
        spec = importlib.util.spec_from_file_location(module_name, file) if file.is_file() else None
        if spec is None or spec.loader is None:
            raise ValueError(f"the reward {path}: there is no file {source}, neither here nor beside the config")
        sys.path.append(str(file.resolve().parent))  # so that it can import its neighbours
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
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
