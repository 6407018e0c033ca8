"""Batches by step number: which examples a step has, and their tokens. There is no other state of the data.

    batches = Batches(task, tokenizer, prompt=stage.prompt, seed=0, max_prompt_length=256, max_completion_length=512)
    prompts = batches.prompts("train", step * 128, np.arange(128))

Letters: P prompts, S prompt positions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from r1jax.config.sampling import PromptSettings
from r1jax.rewards.example import Example
from r1jax.tasks import Mixture, Task
from r1jax.tasks.split import Split
from r1jax.text.prompt import encode_prompt, make_prompt, with_start
from r1jax.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from grain import MapDataset

SPLITS: tuple[Split, ...] = ("train", "test")
ENDLESS = 2**31 - 1  # positions have 32 bits
CHUNK = 1024  # texts that are tokenised at once


@dataclass(frozen=True)
class Prompts:
    """Examples and their tokens, right-padded with 0; `id_P` are their positions in the split."""

    examples: list[Example]
    prompt_PS: np.ndarray
    prompt_length_P: np.ndarray
    id_P: np.ndarray


@dataclass(eq=False)
class Batches:
    """The prompts of a task as token arrays of fixed width, and its demonstrations as token ids.

    Every example of a finite task is tokenised once, here. An example whose prompt is longer than max_prompt_length is
    dropped, never truncated; with `needs_completions`, for SFT, so is a training example whose demonstration is longer
    than max_completion_length. `dropped` counts them by split, and a warning says why. In a task without end such an
    example is an error once a step needs it.

    Training examples are shuffled in every epoch, by the seed; test examples keep their order, and start over after the
    last. Both orders are functions of the position, so that any step can be asked for directly. The parts of a mixture
    take turns in proportion to their weights, each in its own order.

    `width` is what the prompts of a split are padded to: the longest one, or max_prompt_length in a task without end.
    """

    task: Task | Mixture
    tokenizer: Tokenizer
    _: KW_ONLY
    prompt: PromptSettings
    seed: int
    max_prompt_length: int
    max_completion_length: int
    needs_completions: bool = False

    def __post_init__(self) -> None:
        task = self.task
        self.parts = task.parts if isinstance(task, Mixture) else (task,)
        self.weights = task.weights if isinstance(task, Mixture) else (1.0,)
        self.dropped: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self.width: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self._lengths: dict[tuple[Split, int], np.ndarray] = {}
        self._kept: dict[Split, list[np.ndarray | None]] = {}
        self._orders: dict[Split, MapDataset[Any]] = {}
        for split in SPLITS:
            self._kept[split] = [self._fitting(split, part) for part in range(len(self.parts))]
            self._orders[split] = self._order(split)

    def size(self, split: Split) -> int | None:
        """How many examples an epoch has; None where the task has no end.

        An epoch of a mixture ends when its first part starts over, and has the other parts' examples up to there.
        """
        from grain import MapDataset

        kept = self._kept[split]
        if all(indices is None for indices in kept):
            return None
        sizes = [ENDLESS if indices is None else len(indices) for indices in kept]
        return sizes[0] if len(sizes) == 1 else len(MapDataset.mix([MapDataset.range(n) for n in sizes], self.weights))

    def example(self, split: Split, position: int) -> Example:
        """The example at a position of the split's order, with its prompt."""
        order: Any = self._orders[split]
        part, place = order[position]
        indices = self._kept[split][part]
        return self._rendered(split, part, place if indices is None else int(indices[place]))

    def prompt_lengths(self, split: Split, count: int) -> np.ndarray:
        """The lengths of the first `count` prompts of a split, in tokens; computed once."""
        if (split, count) not in self._lengths:
            prompts = (self.example(split, i).prompt for i in range(count))
            self._lengths[split, count] = np.array([len(self.encode_prompt(prompt)) for prompt in prompts])
        return self._lengths[split, count]

    def prompts(self, split: Split, start: int, rows: np.ndarray, width: int | None = None) -> Prompts:
        """The prompts at positions start + rows, padded to `width` (None: the split's). ValueError over the limit."""
        examples = [self.example(split, start + int(row)) for row in rows]
        prompt_PS, length_P = padded([self.encode_prompt(e.prompt) for e in examples], width or self.width[split])
        return Prompts(examples, prompt_PS, length_P, (start + rows).astype(np.int32))

    def demonstrations(self, start: int, rows: np.ndarray) -> list[tuple[list[int], list[int]]]:
        """Ids of prompt and demonstration, stop token included, of the training examples at positions start + rows."""
        demonstrations = []
        for row in rows:
            example = self.example("train", start + int(row))
            ids = [*self.tokenizer.encode(_demonstration(example)), self.tokenizer.stop_ids[0]]
            if len(ids) > self.max_completion_length:
                raise ValueError(
                    f"the demonstration of {example.prompt!r} has {len(ids)} tokens and max_completion_length is "
                    f"{self.max_completion_length}; raise it"
                )
            demonstrations.append((self.encode_prompt(example.prompt), ids))
        return demonstrations

    def encode_prompt(self, prompt: str) -> list[int]:
        """A prompt's ids. Raises ValueError over the limit."""
        ids = encode_prompt(self.tokenizer, prompt)
        if not 0 < len(ids) <= self.max_prompt_length:
            raise ValueError(
                f"the prompt {prompt!r} has {len(ids)} tokens; max_prompt_length allows 1 to {self.max_prompt_length}"
            )
        return ids

    def _rendered(self, split: Split, part: int, index: int) -> Example:
        example = self.parts[part].example(split, index)
        prompt, opens_think = make_prompt(example.question, self.prompt, self.tokenizer)
        return dataclasses.replace(example, prompt=prompt, prompt_opens_think=opens_think, part=part)

    def _fitting(self, split: Split, part: int) -> np.ndarray | None:
        """Indices of a part's examples that are within the limits; None where the part is endless."""
        size = self.parts[part].size(split)
        if size is None:
            self.width[split] = self.max_prompt_length
            return None
        prompt_lengths, completion_lengths = np.zeros((2, size), np.int32)
        for indices in itertools.batched(range(size), CHUNK):
            examples = [self._rendered(split, part, index) for index in indices]
            prompts = self.tokenizer.encode_batch([example.prompt for example in examples])
            prompt_lengths[list(indices)] = [len(with_start(self.tokenizer, ids)) for ids in prompts]
            if self.needs_completions and split == "train":
                targets = self.tokenizer.encode_batch([_demonstration(example) for example in examples])
                completion_lengths[list(indices)] = [len(ids) + 1 for ids in targets]  # the stop token
        prompt_fits = (prompt_lengths > 0) & (prompt_lengths <= self.max_prompt_length)
        fits = np.flatnonzero(prompt_fits & (completion_lengths <= self.max_completion_length)).astype(np.int32)
        in_prompt = size - int(prompt_fits.sum())
        dropped = size - len(fits)
        why = (
            f"{in_prompt} have prompts over max_prompt_length {self.max_prompt_length}, {dropped - in_prompt} "
            f"have demonstrations over max_completion_length {self.max_completion_length}"
        )
        if not len(fits):
            raise ValueError(f"none of {size} {split} examples can be used: {why}; raise the limits")
        if dropped:
            warnings.warn(f"dropped {dropped} of {size} {split} examples: {why}", stacklevel=3)
        self.dropped[split] += dropped
        self.width[split] = max(self.width[split], int(prompt_lengths[fits].max()))
        return fits

    def _order(self, split: Split) -> MapDataset[Any]:
        """(part, index among the examples of that part that are within the limits), by position."""
        from grain import MapDataset  # here, since grain loads jax

        orders = []
        for part, indices in enumerate(self._kept[split]):
            order = MapDataset.range(ENDLESS if indices is None else len(indices))
            if indices is not None:
                if split == "train":
                    # Grain adds the epoch to the seed: neighbouring seeds would have the same orders, an epoch apart.
                    digest = hashlib.blake2b(f"{self.seed}/{part}".encode(), digest_size=4).digest()
                    order = order.shuffle(int.from_bytes(digest))
                order = order.repeat()
            orders.append(order.map(lambda place, part=part: (part, place)))
        return orders[0] if len(orders) == 1 else MapDataset.mix(orders, self.weights)


def _demonstration(example: Example) -> str:
    """The example's demonstration as a continuation of its prompt, which may have opened `<think>` already."""
    if example.demonstration is None:
        raise ValueError(
            f"the task has no demonstration for {example.prompt!r:.200}, and sft trains on demonstrations; name the "
            f"column that has them in task.completion"
        )
    if not example.prompt_opens_think:
        return example.demonstration
    rest = example.demonstration.removeprefix("<think>")
    return rest.removeprefix("\n") if example.prompt.endswith("\n") else rest


def padded(tokens: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids → ([rows, width] right-padded with 0, [rows] lengths), int32."""
    array = np.zeros((len(tokens), width), np.int32)
    for row, ids in zip(array, tokens, strict=True):
        row[: len(ids)] = ids
    return array, np.array([len(ids) for ids in tokens], np.int32)
