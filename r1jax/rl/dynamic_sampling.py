"""Dynamic sampling (DAPO 2503.14476, section 3.2): sample until all groups of a step have non-zero reward variance.

Letters: P prompts, G samples a prompt, B = P·G sequences.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from r1jax.config.experiment import GrpoStage
from r1jax.data.batches import Batches
from r1jax.parallel.mesh import gather, own_rows, sharding, to_local
from r1jax.rewards.grading import Grades, reason_shares
from r1jax.rl.advantages import limited, total_rewards
from r1jax.rl.rollout import Collected, Sampling, Transcript, all_reasons, completion_texts, roll_out
from r1jax.rl.types import Rollout


def collect(
    sampling: Sampling, batches: Batches, stage: GrpoStage, weights: Any, start: int, key: jax.Array
) -> Collected:
    """A training step's rollout of `prompts_per_step` groups that all have non-zero reward variance.

    Samples batch after batch from position `start` on, at most `max_batches`; the step then continues with the groups
    that it has, and others fill the rollout without being included in the loss.
    """
    assert stage.dynamic_sampling is not None
    mesh, P, G = sampling.mesh, stage.prompts_per_step, stage.group_size
    rollout: Rollout | None = None
    reasons: dict[str, np.ndarray] = {}
    found, number, tokens = 0, 0, 0
    all_scores: list[Mapping[str, np.ndarray]] = []
    all_totals: list[np.ndarray] = []
    every_reason: dict[str, list[str]] = {}
    times: list[dict[str, float]] = []
    while found < P and number < stage.dynamic_sampling.max_batches:
        prompts = batches.prompts("train", start + number * P, own_rows(mesh, P))
        new, transcript = roll_out(sampling, weights, prompts, P, key)
        number += 1
        given = all_reasons(mesh, transcript.grades, P * G)
        new_reasons = {name: np.array(words, object) for name, words in given.items()}
        every_reason = {name: [*every_reason.get(name, ()), *words] for name, words in given.items()}
        scores = gather(mesh, transcript.grades.scores, P * G)
        truncated_B = gather(mesh, to_local(new.samples.truncated_B), P * G)
        all_scores.append(scores)
        all_totals.append(np.asarray(total_rewards(scores, truncated_B, stage)))
        tokens += int(new.samples.length_B.sum())
        times.append(transcript.grades.times())
        varied_P = has_variance(stage, scores, truncated_B)
        source_P = np.arange(P)  # p < P is the group p so far, P + p that of the new batch
        if rollout is None:
            rollout, reasons = new, new_reasons
            source_P = np.argsort(~varied_P, kind="stable")
            found = int(varied_P.sum())
        else:
            taken = np.flatnonzero(varied_P)[: P - found]
            source_P[found : found + len(taken)] = P + taken
            found += len(taken)
        source_B = (source_P[:, None] * G + np.arange(G)).ravel()
        reasons = {name: np.concatenate([reasons[name], new_reasons[name]])[source_B] for name in new_reasons}
        rollout = _chooser(mesh)(rollout, new, source_P, found)
    assert rollout is not None
    metrics: dict[str, float] = {
        "dynamic_sampling/batches": number,
        "dynamic_sampling/groups": found,
        "num_tokens": tokens,
    }
    # These are of everything that was sampled: the groups that were chosen have a mean near one half by choice.
    metrics["reward"], _ = _mean_and_std(all_totals)
    for name in all_scores[0]:
        mean, std = _mean_and_std([scores[name] for scores in all_scores])
        metrics |= {f"rewards/{name}/mean": mean, f"rewards/{name}/std": std}
    metrics |= {name: float(np.mean([each[name] for each in times])) for name in times[0]}
    return Collected(
        rollout, _transcript(sampling, batches, rollout, reasons), metrics | reason_shares(every_reason), number
    )


def has_variance(stage: GrpoStage, scores: Mapping[str, np.ndarray], truncated_B: np.ndarray) -> np.ndarray:
    """[P], whether the graded samples of a group differ, and one of them at least is in the loss.

    They differ by the reward that `dynamic_sampling.reward` names, or by the weighted sum.
    """
    assert stage.dynamic_sampling is not None
    by_B = total_B = np.asarray(total_rewards(scores, truncated_B, stage))
    if stage.dynamic_sampling.reward is not None:
        by_B = np.asarray(limited(scores[stage.dynamic_sampling.reward], truncated_B, stage))
    graded_B = ~np.isnan(total_B) & ~np.isnan(by_B)
    in_loss_B = graded_B & ~truncated_B if stage.truncated == "mask" else graded_B
    highest_P = np.where(graded_B, by_B, -np.inf).reshape(-1, stage.group_size).max(axis=1)
    lowest_P = np.where(graded_B, by_B, np.inf).reshape(-1, stage.group_size).min(axis=1)
    return (highest_P > lowest_P) & in_loss_B.reshape(-1, stage.group_size).any(axis=1)


@functools.cache
def _chooser(mesh: Mesh) -> Callable[..., Rollout]:
    """A jitted function that takes the groups `source_P` of two rollouts and includes the first `found` of them."""

    def choose(one: Rollout, other: Rollout, source_P: jax.Array, found: jax.Array) -> Rollout:
        P = one.prompt_PS.shape[0]

        def take(a: jax.Array, b: jax.Array) -> jax.Array:
            grouped = (x.reshape(P, -1, *x.shape[1:]) for x in (a, b))
            return jnp.concatenate(list(grouped))[source_P].reshape(a.shape)

        return dataclasses.replace(jax.tree.map(take, one, other), included_P=jnp.arange(P) < found)

    return jax.jit(choose, out_shardings=sharding(mesh, "B"))


def _transcript(
    sampling: Sampling, batches: Batches, rollout: Rollout, reasons: Mapping[str, np.ndarray]
) -> Transcript:
    """What this process holds of a rollout whose groups may have come from other processes."""
    id_P, scores = to_local((rollout.prompt_id_P, rollout.rewards))
    own = own_rows(sampling.mesh, rollout.samples.length_B.shape[0])
    return Transcript(
        [batches.example("train", int(position)) for position in id_P],
        completion_texts(rollout.samples, sampling.tokenizer),
        Grades(scores=dict(scores), reasons={n: list(words[own]) for n, words in reasons.items()}, seconds={}),
    )


def _mean_and_std(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean and sample standard deviation of what is not NaN; NaN where there are too few."""
    values = np.concatenate(parts)
    graded = values[~np.isnan(values)]
    return float(graded.mean()) if len(graded) else math.nan, float(graded.std(ddof=1)) if len(graded) > 1 else math.nan
