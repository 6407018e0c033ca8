"""A trained reward model as a reward.

    reward = RewardModel(load_scorer, scale=1.0)  # a function that loads the `Scorer`, when it is first needed
    reward.batch(examples, completions)  # from 0 to 1

Letters: B sequences, W positions of prompt and response.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.models import Model, values
from r1jax.parallel.mesh import constrain, own_rows, row_shards, to_global, to_local
from r1jax.parallel.processes import greatest
from r1jax.rewards.example import BatchReward, Example, RewardResult
from r1jax.rewards.reading import Reading
from r1jax.sampling.loaded_model import LoadedModel

ROWS = 32  # sequences at once on each device, where the stage has no microbatch


@functools.partial(jax.jit, static_argnums=0)
def last_scores(model: Model, params: Any, token_BW: jax.Array, length_B: jax.Array) -> jax.Array:
    """The scores of sequences, [B], which a reward model gives at their last tokens."""
    score_BW = values(model, params, token_BW)
    return constrain(jnp.take_along_axis(score_BW, length_B[:, None] - 1, axis=1)[:, 0], "B")


@dataclass(frozen=True)
class Scorer:
    """A loaded reward model, whose weights have a head, and how it reads. All calls have arrays of one shape."""

    loaded: LoadedModel
    reading: Reading
    rows: int = ROWS

    def __call__(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """The score of each of this process's sequences. Every process has to call it, with as many or other ones."""
        mesh = self.loaded.mesh
        rows = self.rows * row_shards(mesh)
        own = len(own_rows(mesh, rows))
        scores = []
        for chunk in range(max(1, greatest(math.ceil(len(sequences) / max(own, 1))))):  # the first call compiles
            token_BW, length_B = np.zeros((own, self.reading.width), np.int32), np.ones(own, np.int32)
            for row, ids in enumerate(sequences[chunk * own : (chunk + 1) * own]):
                token_BW[row, : len(ids)], length_B[row] = ids, len(ids)
            given = to_global(mesh, (token_BW, length_B), rows)
            scores.append(to_local(last_scores(self.loaded.model, self.loaded.weights, *given)))
        return np.concatenate([*scores, np.zeros(0, np.float32)])[: len(sequences)]


class RewardModel(BatchReward):
    """sigmoid(score / scale); 0.0 with the reason no_summary where the model has nothing to read.

    None with the reasons too_long_to_read, for a text of more tokens than the model reads, and unreadable, for one that
    its tokenizer does not cover.
    """

    is_vital = True  # where it fails, it fails for all completions of all steps

    def __init__(self, load: Callable[[], Scorer], scale: float) -> None:
        self.scale = scale
        self._load = functools.cache(load)

    def batch(self, examples: Sequence[Example], completions: Sequence[str]) -> list[RewardResult]:
        scorer = self._load()
        results: list[RewardResult] = [(0.0, "no_summary")] * len(completions)
        sequences: dict[int, list[int]] = {}
        for row, (example, completion) in enumerate(zip(examples, completions, strict=True)):
            opened = "<think>" if example.prompt_opens_think else ""
            try:  # every process has to come to the scorer, whatever it was given
                read = scorer.reading.ids(example.question, opened + completion)
            except ValueError:
                results[row] = None, "unreadable"
                continue
            if read is None:
                continue
            prompt, response = read
            if getattr(completion, "truncated", False):
                response = response[:-1]  # it did not stop
            if scorer.reading.fits(prompt, response):
                sequences[row] = [*prompt, *response]
            else:
                results[row] = None, "too_long_to_read"
        for row, score in zip(sequences, scorer([*sequences.values()]), strict=True):
            results[row] = float(1 / (1 + np.exp(-np.float64(score) / self.scale)))
        return results
