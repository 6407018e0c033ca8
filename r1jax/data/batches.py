"""Batches by step number: which examples a step has, and their tokens. There is no other state of the data.

    batches = Batches(task, tokenizer, prompt=stage.prompt, seed=0, max_prompt_length=256, max_completion_length=512)
    prompts = batches.prompts("train", step * 128, np.arange(128))

Letters: P prompts, S prompt positions.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from r1jax.config.sampling import PromptSettings
from r1jax.data.packing import Demonstration
from r1jax.rewards.example import Example
from r1jax.rewards.reading import Reading, responses
from r1jax.tasks import Mixture, Task
from r1jax.tasks.split import Split
from r1jax.text.prompt import encode_prompt, goes_on_after_a_stop, make_prompt, with_start, with_stop
from r1jax.text.tokenizer import Tokenizer
from r1jax.text.turns import Turn, assistant_turns, continuation, earlier_turns

if TYPE_CHECKING:
    from grain import MapDataset

SPLITS: tuple[Split, ...] = ("train", "test")
ENDLESS = 2**31 - 1  # positions have 32 bits
CHUNK = 1024  # texts that are tokenised at once
WHOLE = -1  # the turn of an entry that trains all of an example's turns, in one sequence


@dataclass(frozen=True)
class Prompts:
    """Examples and their tokens, right-padded with 0; `id_P` are their positions in the split."""

    examples: list[Example]
    prompt_PS: np.ndarray
    prompt_length_P: np.ndarray
    id_P: np.ndarray


class Judged(NamedTuple):
    """The ids of a prompt, and of the better and the worse response to it, or of one with its label."""

    prompt: list[int]
    responses: list[list[int]]
    label: int


@dataclass(eq=False)
class Batches:
    """The prompts of a task as token arrays of fixed width, and its demonstrations as token ids.

    Every example of a finite task is tokenised once, here. An example whose prompt is longer than max_prompt_length is
    dropped, never truncated; with `needs_completions`, for SFT, so is a training example without a demonstration, or
    with one that is longer than max_completion_length. `dropped` counts them by split, and a warning says why. In a
    task without end such an example is an error once a step needs it.

    A conversation is one sequence, in which SFT learns all of the assistant's turns. Where the chat template rewrites
    earlier turns, each turn is an example of its own, after the prompt that it would be sampled from.

    Training examples are shuffled in every epoch, by the seed; test examples keep their order, and start over after the
    last. Both orders are functions of the position, so that any step can be asked for directly. The parts of a mixture
    take turns in proportion to their weights, each in its own order.

    With `reading`, for a reward model, the examples are those with responses that it can read, within the limits.

    `width` is what the prompts of a split are padded to: the longest one, or max_prompt_length in a task without end;
    and `least_width` at least.
    """

    task: Task | Mixture
    tokenizer: Tokenizer
    _: KW_ONLY
    prompt: PromptSettings
    seed: int
    max_prompt_length: int
    max_completion_length: int
    needs_completions: bool = False
    reading: Reading | None = None
    least_width: Mapping[Split, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        task = self.task
        self.parts = task.parts if isinstance(task, Mixture) else (task,)
        self.weights = task.weights if isinstance(task, Mixture) else (1.0,)
        self.dropped: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self.width: dict[Split, int] = dict.fromkeys(SPLITS, 0) | dict(self.least_width)
        self._cut = 0  # demonstrations that quote a stop token
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
        if all(entries is None for entries in kept):
            return None
        sizes = [ENDLESS if entries is None else len(entries) for entries in kept]
        return sizes[0] if len(sizes) == 1 else len(MapDataset.mix([MapDataset.range(n) for n in sizes], self.weights))

    def example(self, split: Split, position: int) -> Example:
        """The example at a position of the split's order, with its prompt."""
        return self._rendered(split, *self._entry(split, position)[:2])

    def part(self, split: Split, position: int) -> Task:
        """The task of the example at a position."""
        return self.parts[self._entry(split, position)[0]]

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

    def demonstrations(self, start: int, rows: np.ndarray) -> list[Demonstration]:
        """Ids of prompt and demonstration, stop token included, of the training examples at positions start + rows."""
        demonstrations = []
        for row in rows:
            part, index, turn = self._entry("train", start + int(row))
            example = self._rendered("train", part, index)
            (turns,) = self._encoded([example])
            if not turns:
                raise ValueError(_no_demonstration(example))
            prompt, ids = turns[turn]
            if len(ids) > self.max_completion_length:
                raise ValueError(
                    f"the demonstration of {example.prompt!r:.200} has {len(ids)} tokens and max_completion_length is "
                    f"{self.max_completion_length}; raise it"
                )
            self._check_prompt(example.prompt, prompt)
            earlier = earlier_turns(turns) if turn == WHOLE else None
            demonstrations.append(Demonstration(prompt, ids, earlier or ()))
        return demonstrations

    @functools.cached_property
    def responses(self) -> int:
        """How many responses an example has that a reward model is trained on: 2 in pairs, or 1 with a label."""
        return len(responses(self.example("train", 0)))

    def judged(self, split: Split, start: int, rows: np.ndarray) -> list[Judged]:
        """What a reward model reads of the examples at positions start + rows. ValueError for one over the limits."""
        assert self.reading is not None
        judged = []
        for row in rows:
            example = self.example(split, start + int(row))
            read = [self.reading.ids(example.question, text) for text in responses(example)]
            if not read or None in read or len(read) != self.responses:
                raise ValueError(_not_judged(example))
            if unfit := [ids for ids in read if ids and not self.reading.fits(*ids)]:
                raise ValueError(
                    f"a response to {example.prompt!r:.200} has {len(unfit[0][1])} tokens after a prompt of "
                    f"{len(unfit[0][0])}; max_prompt_length is {self.max_prompt_length} and max_completion_length "
                    f"{self.max_completion_length}; raise them"
                )
            label = int(example.data.get("label", 1)) if len(read) == 1 else 1
            judged.append(Judged(read[0][0], [ids[1] for ids in read if ids], label))  # pyright: ignore
        return judged

    def encode_prompt(self, prompt: str) -> list[int]:
        """A prompt's ids. Raises ValueError over the limit."""
        ids = encode_prompt(self.tokenizer, prompt, in_chat=self.prompt.chat)
        self._check_prompt(prompt, ids)
        return ids

    def _check_prompt(self, prompt: str, ids: list[int]) -> None:
        if not 0 < len(ids) <= self.max_prompt_length:
            most = self.max_prompt_length
            raise ValueError(f"the prompt {prompt!r:.200} has {len(ids)} tokens; max_prompt_length allows 1 to {most}")

    def _entry(self, split: Split, position: int) -> tuple[int, int, int]:
        """The part, the index of the example in it and its turn, at a position of the split's order."""
        order: Any = self._orders[split]
        part, place = order[position]
        entries = self._kept[split][part]
        return (part, place, WHOLE) if entries is None else (part, *entries[place].tolist())

    def _rendered(self, split: Split, part: int, index: int) -> Example:
        return self._render(self.parts[part].example(split, index), part)

    def _render(self, example: Example, part: int) -> Example:
        prompt, opens_think = make_prompt(example.question, self.prompt, self.tokenizer)
        return dataclasses.replace(example, prompt=prompt, prompt_opens_think=opens_think, part=part)

    def _turns(self, example: Example) -> list[Turn]:
        """What SFT learns of an example: the turns of a conversation, else one, or none without a demonstration."""
        if example.demonstration is None:
            return []
        if example.is_conversation and self.prompt.chat:
            return assistant_turns(example.question, example.demonstration, self.prompt, self.tokenizer)
        return [Turn(example.prompt, continuation(example.demonstration, example.prompt), self.prompt.chat)]

    def _encoded(self, examples: Sequence[Example]) -> list[list[tuple[list[int], list[int]]]]:
        """The turns of each example, as ids of prompt and target."""
        turns = [self._turns(example) for example in examples]
        flat = list(itertools.chain(*turns))
        prompts = self.tokenizer.encode_batch([turn.prompt for turn in flat])
        targets = self.tokenizer.encode_batch([turn.target for turn in flat])
        self._cut += sum(goes_on_after_a_stop(self.tokenizer, target) for target in targets)
        pairs = iter(
            (
                with_start(self.tokenizer, prompt, in_chat=turn.in_chat),
                with_stop(self.tokenizer, target, in_chat=turn.in_chat),
            )
            for turn, prompt, target in zip(flat, prompts, targets, strict=True)
        )
        return [list(itertools.islice(pairs, len(each))) for each in turns]

    def _measured(self, split: Split, part: int, size: int) -> Iterator[tuple[int, int, int, int]]:
        """The entries of a part: the example's index, its turn, and the lengths of prompt and demonstration."""
        for chunk in itertools.batched(range(size), CHUNK):
            given = {index: self.parts[part].example(split, index) for index in chunk}
            over = {index: lengths for index, example in given.items() if (lengths := self._over_by_far(example))}
            yield from ((index, WHOLE, *lengths) for index, lengths in over.items())
            indices = [index for index in chunk if index not in over]
            examples = [self._render(given[index], part) for index in indices]
            if self.reading is not None:
                for index, example in zip(indices, examples, strict=True):
                    read = [self.reading.ids(example.question, text) for text in responses(example)]
                    if read and None not in read:
                        yield index, WHOLE, len(read[0][0]), max(len(ids[1]) for ids in read)  # pyright: ignore
                continue
            if not self.needs_completions or split == "test":
                prompts = self.tokenizer.encode_batch([example.prompt for example in examples])
                for index, ids in zip(indices, prompts, strict=True):
                    yield index, WHOLE, len(with_start(self.tokenizer, ids, in_chat=self.prompt.chat)), 0
                continue
            for index, turns in zip(indices, self._encoded(examples), strict=True):
                lengths = [(len(prompt), len(target)) for prompt, target in turns]
                if turns and earlier_turns(turns) is None:
                    yield from ((index, turn, *length) for turn, length in enumerate(lengths))
                elif turns:
                    yield index, WHOLE, *lengths[-1]

    @functools.cached_property
    def _characters(self) -> int:
        """More than a token stands for: four times those of the longest, as normalisation may shorten a text."""
        return 4 * max(map(len, self.tokenizer.tokens().values()))

    def _over_by_far(self, example: Example) -> tuple[int, int] | None:
        """Lengths of prompt and demonstration over the limits where a text is so long that no tokenizer need tell.

        Tokenising takes hundreds of bytes a character. None for all other examples.
        """
        messages = [example.question] if isinstance(example.question, str) else map(str, example.question)
        if sum(map(len, messages)) > self._characters * self.max_prompt_length:
            return self.max_prompt_length + 1, 0
        targets = [example.demonstration or ""] if self.needs_completions else []
        if self.reading is not None and self.reading.reads == "everything":
            targets = responses(example)
        if max(map(len, targets), default=0) > self._characters * self.max_completion_length:
            return 1, self.max_completion_length + 1
        return None

    def _fitting(self, split: Split, part: int) -> np.ndarray | None:
        """[entries, 2]: indices and turns of a part's examples within the limits; None where the part is endless."""
        size = self.parts[part].size(split)
        if size is None:
            self.width[split] = self.max_prompt_length
            return None
        entries = np.array([*self._measured(split, part, size)], np.int32).reshape(-1, 4)
        if not len(entries):
            first = self._rendered(split, part, 0)
            raise ValueError(_not_judged(first) if self.reading else _no_demonstration(first))
        index, turn, prompt_length, length = entries.T
        without = size - len(np.unique(index))
        total = len(entries) + without
        if self._cut:
            warnings.warn(
                f"{self._cut} demonstrations have a stop token in their text, and are learned up to it alone; take it "
                f"out, or write it otherwise",
                stacklevel=3,
            )
        self._cut = 0
        if several := len(np.unique(index[turn != WHOLE])):
            warnings.warn(
                f"the chat template rewrites earlier turns of {several} conversations: each of the assistant's turns "
                f"is trained after its own prompt, and {size - without} conversations are {len(entries)} examples",
                stacklevel=3,
            )
        prompt_fits = (prompt_length > 0) & (prompt_length <= self.max_prompt_length)
        fits = prompt_fits & (length <= self.max_completion_length)
        target = "responses" if self.reading else "demonstrations"
        why = (
            f"{(~prompt_fits).sum()} have prompts over max_prompt_length {self.max_prompt_length}, "
            f"{(prompt_fits & ~fits).sum()} have {target} over max_completion_length {self.max_completion_length}"
        )
        why = f"{without} have no {target}, {why}" if without else why
        if not fits.any():
            raise ValueError(f"none of {total} {split} examples can be used: {why}; raise the limits")
        dropped = total - int(fits.sum())
        if dropped:
            warnings.warn(f"dropped {dropped} of {total} {split} examples: {why}", stacklevel=3)
        self.dropped[split] += dropped
        self.width[split] = max(self.width[split], int(prompt_length[fits].max()))
        return entries[fits, :2]

    def _order(self, split: Split) -> MapDataset[Any]:
        """(part, place among the entries of that part that are within the limits), by position."""
        from grain import MapDataset  # here, since grain loads jax

        orders = []
        for part, entries in enumerate(self._kept[split]):
            order = MapDataset.range(ENDLESS if entries is None else len(entries))
            if entries is not None:
                if split == "train":
                    # Grain adds the epoch to the seed: neighbouring seeds would have the same orders, an epoch apart.
                    digest = hashlib.blake2b(f"{self.seed}/{part}".encode(), digest_size=4).digest()
                    order = order.shuffle(int.from_bytes(digest))
                order = order.repeat()
            orders.append(order.map(lambda place, part=part: (part, place)))
        return orders[0] if len(orders) == 1 else MapDataset.mix(orders, self.weights)


def _no_demonstration(example: Example) -> str:
    return (
        f"the task has no demonstration for {example.prompt!r:.200}, and sft trains on demonstrations; name the column "
        f"that has them in task.completion, or a column of conversations in task.messages"
    )


def _not_judged(example: Example) -> str:
    if responses(example):
        return (
            f"of a response to {example.prompt!r:.200} there is nothing that the reward model could read; with reads: "
            f"summary that is what follows </think>"
        )
    return (
        f"the task has no responses to {example.prompt!r:.200} that a reward model could be trained on; name the "
        f"columns of pairs in task.chosen and task.rejected, or of labelled ones in task.response and task.label"
    )


def padded(tokens: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids → ([rows, width] right-padded with 0, [rows] lengths), int32."""
    array = np.zeros((len(tokens), width), np.int32)
    for row, ids in zip(array, tokens, strict=True):
        row[: len(ids)] = ids
    return array, np.array([len(ids) for ids in tokens], np.int32)
