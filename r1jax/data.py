"""Batches by step number: which examples a step sees, and their tokens. The step number is the whole data state.

Letters: P prompts, B sequences, S prompt positions, T completion positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1jax.rewards.example import Example
from r1jax.tasks import Task
from r1jax.tasks.split import Split
from r1jax.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompts:
    """Examples and their tokens, right-padded with 0; `id_P` are their indices in the split."""

    examples: list[Example]
    prompt_PS: np.ndarray
    prompt_length_P: np.ndarray
    id_P: np.ndarray


class Batches:
    """The prompts of a task as token arrays of fixed width; rows are those that this process makes."""

    def __init__(self, task: Task, tokenizer: Tokenizer, *, max_prompt_length: int, max_completion_length: int) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self.max_prompt_length = max_prompt_length
        self.max_completion_length = max_completion_length

    def prompts(self, split: Split, start: int, rows: np.ndarray) -> Prompts:
        """The examples start + rows. Raises ValueError for a prompt over the limit."""
        examples = [self.task.example(split, start + int(row)) for row in rows]
        tokens = [self.encode_prompt(example.prompt) for example in examples]
        prompt_PS, length_P = padded(tokens, self.max_prompt_length)
        return Prompts(examples, prompt_PS, length_P, (start + rows).astype(np.int32))

    def demonstrations(self, start: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Training examples start + rows with their worked completions, stop token included."""
        prompts = self.prompts("train", start, rows)
        tokens = []
        for example in prompts.examples:
            if example.demonstration is None:
                raise ValueError(f"the task has no worked completion for {example.prompt!r}; sft needs one")
            ids = [*self.tokenizer.encode(example.demonstration), self.tokenizer.stop_ids[0]]
            if len(ids) > self.max_completion_length:
                raise ValueError(
                    f"the worked completion of {example.prompt!r} has {len(ids)} tokens and max_completion_length is "
                    f"{self.max_completion_length}; raise it"
                )
            tokens.append(ids)
        completion_BT, length_B = padded(tokens, self.max_completion_length)
        return {
            "prompt_BS": prompts.prompt_PS,
            "prompt_length_B": prompts.prompt_length_P,
            "completion_BT": completion_BT,
            "length_B": length_B,
        }

    def encode_prompt(self, prompt: str) -> list[int]:
        """A prompt's ids, with the start token where the tokenizer has one. Raises ValueError over the limit."""
        ids = self.tokenizer.encode(prompt)
        if self.tokenizer.bos_id is not None:
            ids = [self.tokenizer.bos_id, *ids]
        if not 0 < len(ids) <= self.max_prompt_length:
            raise ValueError(
                f"the prompt {prompt!r} has {len(ids)} tokens; max_prompt_length allows 1 to {self.max_prompt_length}"
            )
        return ids


def padded(tokens: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids → ([rows, width] right-padded with 0, [rows] lengths), int32."""
    array = np.zeros((len(tokens), width), np.int32)
    for row, ids in zip(array, tokens, strict=True):
        row[: len(ids)] = ids
    return array, np.array([len(ids) for ids in tokens], np.int32)
