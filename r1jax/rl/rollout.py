"""Prompts × group → samples → rewards, and with dynamic sampling as many as it takes to have mixed groups.

Letters: P prompts, G samples a prompt, B = P·G sequences, S prompt positions, T completion positions.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from r1jax.config.experiment import GrpoStage
from r1jax.data.batches import Prompts
from r1jax.parallel.mesh import gather, own_rows, row_shards, sharding, to_global, to_local
from r1jax.rewards.example import Completion, Example
from r1jax.rewards.grading import Grades, grade, joined, reason_shares
from r1jax.rl.advantages import limited, total_rewards
from r1jax.run.run import Run
from r1jax.sampling.sampler import Samples
from r1jax.text.tokenizer import Tokenizer

LONGEST_REASON = 32  # characters


@flax.struct.dataclass
class Experience:
    """Samples of P prompts and their rewards, NaN for None; only the groups of `counted_P` are learnt from.

    `id_P` are the prompts' positions in the training split.
    """

    prompt_PS: jax.Array
    prompt_length_P: jax.Array
    id_P: jax.Array
    samples: Samples
    rewards: dict[str, jax.Array]
    counted_P: jax.Array


@dataclass(frozen=True)
class Transcript:
    """What a person looks at: this process's samples as text, with their rewards."""

    examples: list[Example]
    texts: list[Completion]
    grades: Grades

    def rows(self, advantage_B: np.ndarray | None = None, in_loss_B: np.ndarray | None = None) -> list[dict[str, Any]]:
        """One JSON-able dict a sample; `r1jax reward` reads it."""
        group, grades = len(self.texts) // len(self.examples), self.grades
        rows = []
        for i, text in enumerate(self.texts):
            example = self.examples[i // group]
            rows.append(
                {
                    "prompt": example.prompt,
                    "answer": example.answer,
                    "completion": text,
                    "rewards": {name: _number(scores[i]) for name, scores in grades.scores.items()},
                    "reasons": {name: words[i] for name, words in grades.reasons.items() if words[i]},
                    **({} if advantage_B is None else {"advantage": float(advantage_B[i])}),
                    **({} if in_loss_B is None else {"in_loss": bool(in_loss_B[i])}),
                    "length": text.length,
                    "truncated": text.truncated,
                    "question": example.question,
                    "prompt_opens_think": example.prompt_opens_think,
                    "part": example.part,
                    "data": dict(example.data),
                }
            )
        return rows


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


class Drawing(Protocol):
    """How tokens are drawn; a stage and the evaluation's settings both say so."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int | None: ...
    @property
    def top_p(self) -> float: ...


def sample_and_grade(
    run: Run,
    weights: Any,
    prompts: Prompts,
    total: int,
    rewards: Sequence[str],
    *,
    group_size: int,
    settings: Drawing,
    key: jax.Array,
    parts: int = 1,
) -> tuple[tuple[jax.Array, jax.Array], Samples, Transcript]:
    """Samples a group for each of `total` prompts, of which `prompts` are this process's, and grades its own rows.

    In several parts, of which the devices sample the later ones while the earlier are graded; time/grade is that of the
    last, which nothing hides, and time/grade_hidden that of the others. What a sample is does not depend on its part.
    Returns the global (prompt_PS, prompt_length_P), the global Samples, and the local Transcript.
    """
    sampler = run.sampler(
        group_size=group_size, temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p
    )
    arrays = (prompts.prompt_PS, prompts.prompt_length_P, prompts.id_P)
    P, G = len(prompts.examples), group_size
    # Each part takes the same share of every device's rows, so that putting them together moves nothing.
    blocks = P * row_shards(run.mesh) // total
    row_KP = np.arange(P).reshape(blocks, parts, -1).swapaxes(0, 1).reshape(parts, -1)
    sampled = [
        sampler(weights, *to_global(run.mesh, tuple(x[row_P] for x in arrays), total // parts), key) for row_P in row_KP
    ]
    texts: list[Any] = [None] * (P * G)
    graded = []
    for part, (row_P, samples) in enumerate(zip(row_KP, sampled, strict=True), start=1):
        with run.timers("sample"):
            local = to_local(dataclasses.replace(jax.block_until_ready(samples), support_BTI=None))
        with run.timers("grade" if part == parts else "grade_hidden"):
            row_B = (row_P[:, None] * G + np.arange(G)).ravel()
            part_texts = completion_texts(local, run.tokenizer)
            for row, text in zip(row_B, part_texts, strict=True):
                texts[row] = text
            examples = [prompts.examples[row] for row in row_P]
            graded.append((row_B, grade(examples, part_texts, {name: run.task.rewards[name] for name in rewards})))
    prompt_PS, prompt_length_P = to_global(run.mesh, arrays[:2], total)
    transcript = Transcript(prompts.examples, texts, joined(graded))
    samples = sampled[0] if parts == 1 else _joiner(run.mesh)(sampled)
    return (prompt_PS, prompt_length_P), samples, transcript


@functools.cache
def _joiner(mesh: Mesh) -> Callable[[list[Samples]], Samples]:
    """Puts parts together, block by block of each device's rows."""
    shards = row_shards(mesh)

    def join(*parts: jax.Array) -> jax.Array:
        blocks = [x.reshape(shards, -1, *x.shape[1:]) for x in parts]
        return jnp.concatenate(blocks, axis=1).reshape(-1, *parts[0].shape[1:])

    return jax.jit(lambda parts: jax.tree.map(join, *parts), out_shardings=sharding(mesh, "B"))


def collect(
    run: Run, stage: GrpoStage, weights: Any, start: int, key: jax.Array
) -> tuple[Experience, dict[str, Any], Transcript, int]:
    """Samples on the training examples from `start` on, graded, their metrics, this process's transcript.

    The last is how many batches of prompts they took: one, or with dynamic sampling as many as it needed.
    """
    P, G = stage.prompts_per_step, stage.group_size

    def batch(number: int) -> tuple[Experience, Transcript]:
        prompts = run.batches.prompts("train", start + number * P, own_rows(run.mesh, P))
        (prompt_PS, prompt_length_P), samples, transcript = sample_and_grade(
            run,
            weights,
            prompts,
            P,
            tuple(stage.rewards),
            group_size=G,
            settings=stage,
            key=key,
            parts=stage.rollout_parts,
        )
        id_P = to_global(run.mesh, prompts.id_P, P)
        rewards = to_global(run.mesh, transcript.grades.scores, P * G)
        every_P = to_global(run.mesh, np.ones(len(prompts.id_P), bool), P)
        return Experience(prompt_PS, prompt_length_P, id_P, samples, rewards, every_P), transcript

    if stage.dynamic_sampling is None:
        experience, transcript = batch(0)
        reasons = _reasons(run.mesh, transcript.grades, P * G)
        return experience, reason_shares(reasons) | transcript.grades.times(), transcript, 1
    return _mixed_groups(run, stage, batch)


def _mixed_groups(
    run: Run, stage: GrpoStage, batch: Callable[[int], tuple[Experience, Transcript]]
) -> tuple[Experience, dict[str, Any], Transcript, int]:
    """Batches until they have as many mixed groups as one has groups (DAPO 2503.14476, section 3.2), and no further."""
    assert stage.dynamic_sampling is not None
    P, G, settings = stage.prompts_per_step, stage.group_size, stage.dynamic_sampling
    buffer: Experience | None = None
    reasons: dict[str, np.ndarray] = {}
    full, number, tokens = 0, 0, 0
    sampled: list[Mapping[str, np.ndarray]] = []
    totals: list[np.ndarray] = []
    all_said: dict[str, list[str]] = {}
    times: list[dict[str, float]] = []
    while full < P and number < settings.max_batches:
        new, transcript = batch(number)
        number += 1
        said = {name: np.array(words, object) for name, words in _reasons(run.mesh, transcript.grades, P * G).items()}
        scores = gather(run.mesh, transcript.grades.scores, P * G)
        sampled.append(scores)
        all_said = {name: [*all_said.get(name, ()), *words] for name, words in said.items()}
        tokens += int(new.samples.length_B.sum())
        times.append(transcript.grades.times())
        cut_B = gather(run.mesh, to_local(new.samples.truncated_B), P * G)
        totals.append(np.asarray(total_rewards(scores, cut_B, stage)))
        mixed_P = mixed_groups(stage, scores, cut_B)
        source_P = np.arange(P)  # p < P is the buffer's group, P + p the new batch's
        if buffer is None:
            buffer, reasons = new, said
            source_P = np.argsort(~mixed_P, kind="stable")
            full = int(mixed_P.sum())
        else:
            found = np.flatnonzero(mixed_P)[: P - full]
            source_P[full : full + len(found)] = P + found
            full += len(found)
        source_B = (source_P[:, None] * G + np.arange(G)).ravel()
        reasons = {name: np.concatenate([reasons[name], said[name]])[source_B] for name in said}
        buffer = _chooser(run.mesh)(buffer, new, source_P, full)
    assert buffer is not None
    transcript = _transcript(run, buffer, reasons)
    metrics: dict[str, float] = {
        "dynamic_sampling/batches": number,
        "dynamic_sampling/mixed_groups": full,
        "num_tokens": tokens,
    }
    # Of all that was sampled: what was chosen is half right by choice.
    metrics["reward"], _ = _mean_and_std(totals)
    for name in stage.rewards:
        mean, std = _mean_and_std([scores[name] for scores in sampled])
        metrics |= {f"rewards/{name}/mean": mean, f"rewards/{name}/std": std}
    metrics |= {name: float(np.mean([each[name] for each in times])) for name in times[0]}
    return buffer, metrics | reason_shares(all_said), transcript, number


def _mean_and_std(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Of what is not NaN; NaN where that is too little."""
    every = np.concatenate(parts)
    known = every[~np.isnan(every)]
    return float(known.mean()) if len(known) else math.nan, float(known.std(ddof=1)) if len(known) > 1 else math.nan


def sequence_lengths(mesh: Mesh, experience: Experience, group_size: int) -> np.ndarray:
    """Tokens of each prompt with its completion, of all processes' samples."""
    prompt_length_P, length_B = to_local((experience.prompt_length_P, experience.samples.length_B))
    local = np.repeat(prompt_length_P, group_size) + length_B
    return gather(mesh, local, experience.samples.length_B.shape[0])


def mixed_groups(stage: GrpoStage, scores: Mapping[str, np.ndarray], truncated_B: np.ndarray) -> np.ndarray:
    """[P], whether the samples of a group that were graded differ: see `objective_settings.DynamicSampling`."""
    assert stage.dynamic_sampling is not None
    by_B = total_B = np.asarray(total_rewards(scores, truncated_B, stage))
    if stage.dynamic_sampling.by is not None:
        by_B = np.asarray(limited(scores[stage.dynamic_sampling.by], truncated_B, stage))
    known_B = ~np.isnan(total_B) & ~np.isnan(by_B)
    in_loss_B = known_B & ~truncated_B if stage.truncated == "mask" else known_B
    highest_P = np.where(known_B, by_B, -np.inf).reshape(-1, stage.group_size).max(axis=1)
    lowest_P = np.where(known_B, by_B, np.inf).reshape(-1, stage.group_size).min(axis=1)
    return (highest_P > lowest_P) & in_loss_B.reshape(-1, stage.group_size).any(axis=1)


@functools.cache
def _chooser(mesh: Mesh) -> Callable[..., Experience]:
    """Takes the groups `source_P` of two experiences, one after the other, and counts the first `full` of them."""

    def choose(one: Experience, other: Experience, source_P: jax.Array, full: jax.Array) -> Experience:
        P = one.prompt_PS.shape[0]

        def take(a: jax.Array, b: jax.Array) -> jax.Array:
            grouped = (x.reshape(P, -1, *x.shape[1:]) for x in (a, b))
            return jnp.concatenate(list(grouped))[source_P].reshape(a.shape)

        chosen = jax.tree.map(take, one, other)
        return dataclasses.replace(chosen, counted_P=jnp.arange(P) < full)

    return jax.jit(choose, out_shardings=sharding(mesh, "B"))


def _transcript(run: Run, experience: Experience, reasons: Mapping[str, np.ndarray]) -> Transcript:
    """What this process holds of an experience whose groups may have come from others."""
    local: Any = to_local(
        dataclasses.replace(experience, samples=dataclasses.replace(experience.samples, support_BTI=None))
    )
    examples = [run.batches.example("train", int(position)) for position in local.id_P]
    own = own_rows(run.mesh, len(next(iter(reasons.values()))))
    grades = Grades(
        scores=dict(local.rewards), reasons={name: list(words[own]) for name, words in reasons.items()}, seconds={}
    )
    return Transcript(examples, completion_texts(local.samples, run.tokenizer), grades)


def _reasons(mesh: Mesh, grades: Grades, rows: int) -> dict[str, list[str]]:
    """The reasons of all processes' rows."""
    if jax.process_count() == 1:
        return grades.reasons
    letters = {
        name: np.array([w.encode("ascii", "replace") for w in words], f"S{LONGEST_REASON}")
        .view(np.uint8)
        .reshape(-1, LONGEST_REASON)
        for name, words in grades.reasons.items()
    }
    return {
        name: [word.decode("ascii", "replace") for word in array.view(f"S{LONGEST_REASON}").ravel()]
        for name, array in gather(mesh, letters, rows).items()
    }


def completion_texts(samples: Samples, tokenizer: Tokenizer) -> list[Completion]:
    """The text of each sample up to its stop token, without it."""
    return [
        Completion(
            tokenizer.decode(tokens[: length if truncated else length - 1].tolist()),
            length=int(length),
            truncated=bool(truncated),
        )
        for tokens, length, truncated in zip(samples.completion_BT, samples.length_B, samples.truncated_B, strict=True)
    ]
