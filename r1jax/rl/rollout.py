"""Prompts → samples → rewards: `roll_out` for given prompts, `collect` for a training step.

    sampling = Sampling(mesh, tokenizer, sampler, rewards, timers)
    rollout, transcript = roll_out(sampling, weights, prompts, total, key)

Letters: P prompts, G samples per prompt, B = P·G sequences, S prompt positions, T completion positions.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from r1jax.config.experiment import DistillStage, GrpoStage
from r1jax.data.batches import Batches, Prompts
from r1jax.data.packing import Layout, lay_out
from r1jax.parallel.mesh import gather, own_rows, row_shards, to_global, to_host, to_local
from r1jax.rewards.example import Completion, Example, Reward
from r1jax.rewards.grading import Grades, grade, reason_shares, reward_shares
from r1jax.rl.types import Rollout
from r1jax.sampling.sampler import Samples
from r1jax.text.tokenizer import Tokenizer
from r1jax.training.state import microbatches_of

LONGEST_REASON = 32  # characters
Timers = Callable[[str], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Sampling:
    """How prompts become graded samples; everything but the weights, which change from step to step.

    `sampler` is a function of `sampling.sampler.make_sampler`; `timers("grade")` times a block under that name.
    """

    mesh: Mesh
    tokenizer: Tokenizer
    sampler: Callable[..., Samples]
    rewards: Mapping[str, Reward]
    timers: Timers = lambda name: contextlib.nullcontext()


@dataclass(frozen=True)
class Transcript:
    """This process's samples as text, with their rewards: what people read. Text b answers example b // G."""

    examples: list[Example]
    texts: list[Completion]
    grades: Grades

    def rows(self, **columns: np.ndarray) -> list[dict[str, Any]]:
        """A JSON-able dict for each sample; `r1jax reward` reads them. `columns` are added to them by name."""
        grades = self.grades
        examples = [example for example in self.examples for _ in range(len(self.texts) // len(self.examples))]
        return [
            {
                "prompt": example.prompt,
                "answer": example.answer,
                "completion": text,
                "rewards": {
                    name: None if np.isnan(scores[b]) else float(scores[b])
                    for name, scores in grades.scores.items()
                    if grades.applies[name][b]
                },
                "reasons": {name: words[b] for name, words in grades.reasons.items() if words[b]},
                **{name: values[b].item() for name, values in columns.items()},
                "length": text.length,
                "truncated": text.truncated,
                "question": example.question,
                "prompt_opens_think": example.prompt_opens_think,
                "part": example.part,
                "data": dict(example.data),
            }
            for b, (example, text) in enumerate(zip(examples, self.texts, strict=True))
        ]


@dataclass(frozen=True)
class Collected:
    """A training step's rollout, this process's part of it as text, its metrics, and how many batches were consumed.

    A batch is `prompts_per_step` prompts: one a step, except with dynamic sampling.
    """

    rollout: Rollout
    transcript: Transcript
    metrics: dict[str, float]
    batches: int = 1


def roll_out(
    sampling: Sampling, weights: Any, prompts: Prompts, total: int, key: jax.Array
) -> tuple[Rollout, Transcript]:
    """Samples a group for each of `total` prompts, of which this process owns `prompts`, and grades its own samples."""
    mesh, arrays = sampling.mesh, (prompts.prompt_PS, prompts.prompt_length_P, prompts.id_P)
    prompt_PS, prompt_length_P, id_P = to_global(mesh, arrays, total)
    samples = sampling.sampler(weights, prompt_PS, prompt_length_P, id_P, key)
    with sampling.timers("sample"):
        samples = until_stop_texts(mesh, jax.block_until_ready(samples), sampling.tokenizer)
        texts = completion_texts(samples, sampling.tokenizer)
    with sampling.timers("grade"):
        grades = grade(prompts.examples, texts, sampling.rewards)
    rewards, applies = to_global(mesh, (grades.scores, grades.applies), samples.length_B.shape[0])
    every_P = to_global(mesh, np.ones(len(prompts.id_P), bool), total)
    rollout = Rollout(prompt_PS, prompt_length_P, id_P, samples, rewards, applies, every_P)
    return rollout, Transcript(prompts.examples, texts, grades)


def collect(
    sampling: Sampling, batches: Batches, stage: GrpoStage | DistillStage, weights: Any, start: int, key: jax.Array
) -> Collected:
    """The rollout of a training step on the `prompts_per_step` training examples from position `start` on."""
    P = stage.prompts_per_step
    prompts = batches.prompts("train", start, own_rows(sampling.mesh, P))
    rollout, transcript = roll_out(sampling, weights, prompts, P, key)
    grades = all_grades(sampling.mesh, transcript.grades, P * stage.group_size)
    shares = reward_shares(grades, sampling.rewards) | reason_shares(grades)
    return Collected(rollout, transcript, shares | grades.times())


def sequence_lengths(rollout: Rollout) -> np.ndarray:
    """[B], the tokens of each prompt with its completion, of all processes' samples."""
    prompt_length_P, length_B = to_host((rollout.prompt_length_P, rollout.samples.length_B))
    return np.repeat(prompt_length_P, len(length_B) // len(prompt_length_P)) + length_B


def packed_rows(mesh: Mesh, length_B: np.ndarray, stage: GrpoStage | DistillStage, joined: int) -> Layout:
    """How sequences of these lengths, each in a row of `joined` positions, lie in the stage's packed rows."""
    laid_out = lay_out(
        length_B,
        shards=row_shards(mesh),
        microbatches=microbatches_of(len(length_B), stage.microbatch, mesh),
        joined=joined,
        width=stage.pack_length or 0,
    )
    return Layout(*(to_global(mesh, x[own_rows(mesh, len(x))], len(x)) for x in laid_out))


def all_grades(mesh: Mesh, grades: Grades, rows: int) -> Grades:
    """The grades of all processes' samples, each reason at most LONGEST_REASON characters."""
    if jax.process_count() == 1:
        return grades
    text = f"U{LONGEST_REASON}"
    shape = (-1, LONGEST_REASON)
    letters = {name: np.array(words, text).view(np.uint32).reshape(shape) for name, words in grades.reasons.items()}
    everything = grades.scores, grades.applies, letters, grades.seconds
    scores, applies, letters, seconds = gather(mesh, everything, rows)
    reasons = {name: array.view(text).ravel().tolist() for name, array in letters.items()}
    return Grades(scores, applies, reasons, seconds)


def until_stop_texts(mesh: Mesh, samples: Samples, tokenizer: Tokenizer) -> Samples:
    """The samples, each ended by the token that completes the first of the tokenizer's stop texts in it."""
    if not tokenizer.stop_texts:
        return samples
    local = to_local(samples)
    tokens_BT, length_B, truncated_B = local.completion_BT, local.length_B.copy(), local.truncated_B.copy()
    for b, (tokens, length) in enumerate(zip(tokens_BT, length_B, strict=True)):
        whole = tokens[:length].tolist()
        if _stop_text(tokenizer.decode(whole), tokenizer) is not None:
            # The fewest tokens whose text has one: it stays in the text as tokens are added.
            length_B[b] = (
                bisect.bisect_left(
                    range(1, length), True, key=lambda n: _stop_text(tokenizer.decode(whole[:n]), tokenizer) is not None
                )
                + 1
            )
            truncated_B[b] = False
    past_BT = np.arange(tokens_BT.shape[1])[None] >= length_B[:, None]
    cut = Samples(
        completion_BT=np.where(past_BT, 0, tokens_BT),  # pyright: ignore[reportArgumentType]
        length_B=length_B,  # pyright: ignore[reportArgumentType]
        logp_BT=np.where(past_BT, np.float32(0), local.logp_BT),  # pyright: ignore[reportArgumentType]
        truncated_B=truncated_B,  # pyright: ignore[reportArgumentType]
        support_BTI=None if local.support_BTI is None else np.where(past_BT[..., None], -1, local.support_BTI),  # pyright: ignore
    )
    return to_global(mesh, cut, samples.length_B.shape[0])


def _stop_text(text: str, tokenizer: Tokenizer) -> int | None:
    """Where the first stop text in a text begins."""
    found = [place for stop in tokenizer.stop_texts if (place := text.find(stop)) >= 0]
    return min(found, default=None)


def completion_texts(
    samples: Samples, tokenizer: Tokenizer, fetch: Callable[[Any], Any] = to_local
) -> list[Completion]:
    """The text of each sample up to its stop token or stop text, without it.

    They are this process's own samples, or with `to_host` as `fetch` all samples, on every process.
    """
    fetched = fetch((samples.completion_BT, samples.length_B, samples.truncated_B))
    completions = []
    for tokens, length, truncated in zip(*fetched, strict=True):
        stopped = int(tokens[length - 1]) in tokenizer.stop_ids and not truncated
        text = tokenizer.decode(tokens[: length - 1 if stopped else length].tolist())
        end = _stop_text(text, tokenizer)
        completions.append(Completion(text[:end], length=int(length), truncated=bool(truncated) and end is None))
    return completions
