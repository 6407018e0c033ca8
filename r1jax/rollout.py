"""Prompts × group → samples → rewards → advantages: one pytree, ready for the update.

Letters: P prompts, G samples a prompt, B = P·G sequences, S prompt positions, T completion positions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from r1jax.config import GrpoStage
from r1jax.data import Prompts
from r1jax.mesh import gather, own_rows, row_shards, sharding, to_global, to_local
from r1jax.models.completions import Completions
from r1jax.objectives import group_advantages
from r1jax.rewards.example import Completion, Example
from r1jax.rewards.grading import Grades, grade, joined, reason_shares
from r1jax.run import Run
from r1jax.sampler import Samples
from r1jax.tokenizer import Tokenizer

LONGEST_REASON = 32  # characters


@flax.struct.dataclass
class Rollout:
    """Global arrays over all B sequences; `graded_B` is False where a reward was None: out of the loss."""

    completions: Completions
    logp_BT: jax.Array
    advantage_B: jax.Array
    graded_B: jax.Array


@dataclass(frozen=True)
class Transcript:
    """What a person looks at: this process's samples as text, with their rewards."""

    examples: list[Example]
    texts: list[Completion]
    grades: Grades

    def rows(self, advantage_B: np.ndarray | None = None) -> list[dict[str, Any]]:
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


def sample_and_grade(
    run: Run,
    weights: Any,
    prompts: Prompts,
    total: int,
    rewards: Sequence[str],
    *,
    group_size: int,
    temperature: float,
    key: jax.Array,
    parts: int = 1,
) -> tuple[tuple[jax.Array, jax.Array], Samples, Transcript]:
    """Samples a group for each of `total` prompts, of which `prompts` are this process's, and grades its own rows.

    In several parts, of which the devices sample the later ones while the earlier are graded; time/grade is that of the
    last, which nothing hides, and time/grade_hidden that of the others. What a sample is does not depend on its part.
    Returns the global (prompt_PS, prompt_length_P), the global Samples, and the local Transcript.
    """
    sampler = run.sampler(group_size=group_size, temperature=temperature)
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
            local = to_local(jax.block_until_ready(samples))
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
) -> tuple[Rollout, dict[str, jax.Array], Transcript]:
    """The rollout on the training examples from `start` on, its metrics, and this process's transcript."""
    prompts = run.batches.prompts("train", start, own_rows(run.mesh, stage.prompts_per_step))
    (prompt_PS, prompt_length_P), samples, transcript = sample_and_grade(
        run,
        weights,
        prompts,
        stage.prompts_per_step,
        tuple(stage.rewards),
        group_size=stage.group_size,
        temperature=stage.temperature,
        key=key,
        parts=stage.rollout_parts,
    )
    rewards = to_global(run.mesh, transcript.grades.scores, stage.prompts_per_step * stage.group_size)
    finish = _assembler(run.mesh, tuple(sorted(stage.rewards.items())), stage.group_size, stage.truncated)
    rollout, metrics = finish(prompt_PS, prompt_length_P, samples, rewards)
    reasons = _reasons(run.mesh, transcript.grades, stage.prompts_per_step * stage.group_size)
    return rollout, metrics | reason_shares(reasons) | transcript.grades.times(), transcript


def _reasons(mesh: Mesh, grades: Grades, rows: int) -> dict[str, list[str]]:
    """The reasons of all processes' rows."""
    letters = {
        name: np.array(words, f"S{LONGEST_REASON}").view(np.uint8).reshape(-1, LONGEST_REASON)
        for name, words in grades.reasons.items()
    }
    return {
        name: [word.decode("ascii", "replace") for word in array.view(f"S{LONGEST_REASON}").ravel()]
        for name, array in gather(mesh, letters, rows).items()
    }


@functools.cache
def _assembler(
    mesh: Mesh, weights: tuple[tuple[str, float], ...], group_size: int, truncated: str
) -> Callable[..., Any]:
    places = (sharding(mesh, "B"), sharding(mesh, ""))
    settings = {"weights": weights, "group_size": group_size, "truncated": truncated}
    return jax.jit(functools.partial(assemble, **settings), out_shardings=places)


def assemble(
    prompt_PS: jax.Array,
    prompt_length_P: jax.Array,
    samples: Samples,
    rewards: Mapping[str, jax.Array],
    *,
    weights: Sequence[tuple[str, float]],
    group_size: int,
    truncated: str = "keep",
) -> tuple[Rollout, dict[str, jax.Array]]:
    """Weighted sum of the rewards, group advantages, and the metrics of both, over the whole batch.

    A sample that never stopped keeps its sum ("keep"), or has at most 0 ("zero"; penalties stay, or not stopping would
    pay), or counts as not graded ("mask").
    """
    total_B = jnp.asarray(sum(weight * rewards[name] for name, weight in weights))
    if truncated != "keep":
        instead_B = jnp.minimum(total_B, 0.0) if truncated == "zero" else jnp.nan
        total_B = jnp.where(samples.truncated_B, instead_B, total_B)
    total_PG = total_B.reshape(-1, group_size)
    advantage_PG, graded_PG = group_advantages(total_PG)
    length_B = samples.length_B
    std_P = jnp.nanstd(total_PG, axis=1, ddof=1)
    metrics = {
        "reward": jnp.nanmean(total_PG),
        "reward_std": jnp.nanmean(std_P),
        "frac_reward_zero_std": (jnp.abs(advantage_PG).max(axis=1) == 0).mean(),
        "frac_reward_none": 1 - graded_PG.mean(),
        "completions/mean_length": length_B.mean(),
        "completions/min_length": length_B.min(),
        "completions/max_length": length_B.max(),
        "completions/clipped_ratio": samples.truncated_B.mean(),
        "num_tokens": length_B.sum(),
    }
    for name, _ in weights:
        metrics[f"rewards/{name}/mean"] = jnp.nanmean(rewards[name])
        metrics[f"rewards/{name}/std"] = jnp.nanstd(rewards[name])
    completions = Completions(
        prompt_BS=jnp.repeat(prompt_PS, group_size, axis=0),
        prompt_length_B=jnp.repeat(prompt_length_P, group_size),
        completion_BT=samples.completion_BT,
        length_B=length_B,
    )
    return Rollout(completions, samples.logp_BT, advantage_PG.reshape(-1), graded_PG.reshape(-1)), metrics


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
