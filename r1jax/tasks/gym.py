"""A problem generator of reasoning-gym (2505.24760): `Gym(GymTask(gym="chain_sum"), seed=0)`."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import warnings
from collections.abc import Mapping
from typing import Any

from r1jax.answers.extraction import extract_answer, kind_of
from r1jax.config.tasks import GymTask
from r1jax.rewards.example import Example, RewardResult
from r1jax.rewards.format import think_answer
from r1jax.sandbox.workers import WorkerCrash, WorkerPool, WorkerTimeout
from r1jax.tasks.listed import ListedTask
from r1jax.tasks.split import ATTEMPTS, Split, split_of

SECONDS = 10.0  # the time limit of scoring one answer, most of which the worker needs to make the problem again
CHECKED = 4  # problems that are made again in the worker before a run begins


class Gym(ListedTask):
    """`size` problems to train on and a sixteenth as many, at least one, to test on, all made when the task is made.

    `split_of` assigns a problem to a split by its question, so that the two never share one. The generator's seed is a
    hash of the run's seed, because generators add the problem's index to it, so that neighbouring seeds would share
    nearly all problems.

    The accuracy reward is the generator's own score of the extracted answer, from 0 to 1, with partial credit. It is
    computed in a child process, because scorers parse the answer. One that takes longer than SECONDS scores 0; one that
    ends the process scores None, since the answer may not be the cause. Some scorers evaluate the answer as code, and
    the child process is limited in time and memory only, not in its access to files and the network.
    """

    def __init__(self, settings: GymTask, seed: int) -> None:
        self.name, size = settings.gym, settings.size
        digest = hashlib.blake2b(f"{seed}".encode(), digest_size=8).digest()
        # Generators seed with this plus the index, some of them numpy, whose seeds have 32 bits.
        self.arguments = settings.arguments | {"seed": int.from_bytes(digest) % 2**31, "size": 2 * size + ATTEMPTS}
        self._workers = WorkerPool("r1jax.rewards.gym_worker:score", timeout=SECONDS)
        examples = self._make(make_dataset(settings, self.arguments), size)
        super().__init__(examples, {"accuracy": self.score, "format": think_answer})
        for example in examples["train"][:CHECKED]:
            try:
                self._score_in_worker(example, example.answer)  # raises where another process makes another problem
            except (WorkerTimeout, WorkerCrash) as error:
                raise ValueError(f"task.gym: {self.name} cannot be scored: {error}; choose another generator") from None

    def _make(self, dataset: Any, size: int) -> dict[Split, list[Example]]:
        wanted: dict[Split, int] = {"train": size, "test": max(1, size // 16)}
        examples: dict[Split, list[Example]] = {"train": [], "test": []}
        for index in range(len(dataset)):
            problem = dataset[index]  # made anew at each access
            split = split_of(problem["question"])
            if len(examples[split]) < wanted[split]:
                answer = "" if problem["answer"] is None else str(problem["answer"])
                examples[split].append(Example(problem["question"], answer, data={"index": index}))
            if sum(map(len, examples.values())) == sum(wanted.values()):
                return examples
        raise ValueError(
            f"task.gym: {len(dataset)} problems of {self.name} gave {len(examples['train'])} of {size} to train on and "
            f"{len(examples['test'])} of {wanted['test']} to test on: it has too few; widen task.arguments"
        )

    def score(self, example: Example, completion: str) -> RewardResult:
        """The reward, with the reasons no_answer, timeout and crash. ValueError where the worker's problem differs."""
        opens, kind = example.prompt_opens_think, kind_of(example.answer)
        answer = extract_answer(completion, prompt_opens_think=opens, kind=kind)
        if answer is None:
            return 0.0, "no_answer"
        try:
            value = self._score_in_worker(example, answer)
        except WorkerTimeout:
            return 0.0, "timeout"
        except WorkerCrash as error:
            warnings.warn(f"an answer to {example.question!r:.200} could not be scored: {error}", stacklevel=2)
            return None, "crash"
        return value if math.isfinite(value) else None

    def _score_in_worker(self, example: Example, answer: str) -> float:
        return self._workers.call(self.name, self.arguments, example.data["index"], example.question, answer)


def make_dataset(settings: GymTask, arguments: Mapping[str, Any]) -> Any:
    """The generator with `arguments`: the user's, the seed and the size. Raises ValueError for bad ones."""
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ImportError:
        raise ValueError('task.gym needs reasoning-gym; install it with: pip install "r1jax[gym]"') from None
    name = settings.gym
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=3, cutoff=0.4)
        raise ValueError(f"task.gym: reasoning-gym has no {name!r}; the nearest are {', '.join(near) or 'none'}")
    valid = [field.name for field in dataclasses.fields(DATASETS[name][1]) if field.name not in ("seed", "size")]
    if unknown := [argument for argument in settings.arguments if argument not in valid]:
        raise ValueError(f"task.arguments: {name} has no {unknown[0]!r}; it takes {', '.join(valid)}")
    try:
        return create_dataset(name, **arguments)
    except (AssertionError, TypeError, ValueError, AttributeError) as error:
        reason = error or type(error).__name__
        raise ValueError(f"task.arguments: {name} refuses {settings.arguments}: {reason}") from None
