"""Dynamic sampling (DAPO 2503.14476, section 3.2): sample until all groups of a step have non-zero reward variance.

Letters: P prompts, G samples per prompt, B = P·G sequences.
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
from r1jax.parallel.mesh import own_rows, sharding, to_host, to_local
from r1jax.rewards.grading import Grades, reason_shares, reward_shares
from r1jax.rl.advantages import differ, limited, total_rewards
from r1jax.rl.rollout import Collected, Sampling, Transcript, all_grades, completion_texts, roll_out
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
    sampled: list[Grades] = []  # of each batch, from all processes
    totals: list[np.ndarray] = []
    found = tokens = 0
    while found < P and len(sampled) < stage.dynamic_sampling.max_batches:
        prompts = batches.prompts("train", start + len(sampled) * P, own_rows(mesh, P))
        new, transcript = roll_out(sampling, weights, prompts, P, key)
        grades = all_grades(mesh, transcript.grades, P * G)
        truncated_B = to_host(new.samples.truncated_B)
        sampled.append(grades)
        totals.append(np.asarray(total_rewards(grades.scores, grades.applies, truncated_B, stage)))
        tokens += int(new.samples.length_B.sum())
        varied_P = has_variance(stage, grades.scores, grades.applies, truncated_B)
        # p < P is the group p so far, P + p that of the new batch.
        taken = P + np.flatnonzero(varied_P)[: P - found]
        rest = P + np.flatnonzero(~varied_P) if rollout is None else np.arange(found + len(taken), P)
        source_P = np.concatenate([np.arange(found), taken, rest])
        found += len(taken)
        rollout = _chooser(mesh)(new if rollout is None else rollout, new, source_P, found)
    assert rollout is not None
    # These are of everything that was sampled: the groups that were chosen have a mean near one half by choice.
    grades = _joined(sampled)
    metrics: dict[str, float] = {
        "dynamic_sampling/batches": len(sampled),
        "dynamic_sampling/groups": found,
        "num_tokens": tokens,
        "reward": _mean_and_std(np.concatenate(totals))[0],
    }
    for name, scores in grades.scores.items():
        mean, std = _mean_and_std(scores)
        metrics |= {f"rewards/{name}/mean": mean, f"rewards/{name}/std": std}
    metrics |= grades.times() | reward_shares(grades, sampling.rewards) | reason_shares(grades)
    return Collected(rollout, _transcript(sampling, batches, rollout, grades.reasons, start), metrics, len(sampled))


def has_variance(
    stage: GrpoStage,
    scores: Mapping[str, np.ndarray],
    applies: Mapping[str, np.ndarray],
    truncated_B: np.ndarray,
) -> np.ndarray:
    """[P], whether the graded samples of a group differ, and one of them at least is in the loss.

    They differ by the reward that `dynamic_sampling.reward` names, or, without a name and where that reward does not
    apply, by the weighted sum.
    """
    assert stage.dynamic_sampling is not None
    by_B = total_B = np.asarray(total_rewards(scores, applies, truncated_B, stage))
    if (name := stage.dynamic_sampling.reward) is not None:
        by_B = np.where(applies[name], np.asarray(limited(scores[name], truncated_B, stage)), total_B)
    graded_B = ~np.isnan(total_B) & ~np.isnan(by_B)
    in_loss_B = graded_B & ~truncated_B if stage.truncated == "mask" else graded_B
    by_PG = np.where(graded_B, by_B, np.nan).reshape(-1, stage.group_size)
    return np.asarray(differ(by_PG, axis=1)) & in_loss_B.reshape(by_PG.shape).any(axis=1)


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
    sampling: Sampling, batches: Batches, rollout: Rollout, reasons: Mapping[str, list[str]], start: int
) -> Transcript:
    """What this process holds of a rollout whose groups may have come from other processes.

    `reasons` are those of all samples of the prompts from position `start` on.
    """
    id_P = to_local(rollout.prompt_id_P)
    scores, applies = to_local((rollout.rewards, rollout.applies))
    G = rollout.samples.length_B.shape[0] // rollout.prompt_id_P.shape[0]
    sample_B = ((id_P - start)[:, None] * G + np.arange(G)).ravel()
    own_reasons = {name: [words[b] for b in sample_B] for name, words in reasons.items()}
    return Transcript(
        [batches.example("train", int(position)) for position in id_P],
        completion_texts(rollout.samples, sampling.tokenizer),
        Grades(scores=dict(scores), applies=dict(applies), reasons=own_reasons, seconds={}),
    )


def _joined(batches: Sequence[Grades]) -> Grades:
    """The grades of several batches, one after the other."""

    def column(field: str, name: str) -> np.ndarray:
        return np.concatenate([getattr(batch, field)[name] for batch in batches])

    names = batches[0].scores
    scores, applies, seconds = ({n: column(field, n) for n in names} for field in ("scores", "applies", "seconds"))
    return Grades(
        scores, applies, {n: [word for batch in batches for word in batch.reasons[n]] for n in names}, seconds
    )


def _mean_and_std(values: np.ndarray) -> tuple[float, float]:
    """Mean and sample standard deviation of what is not NaN; NaN where there are too few."""
    graded = values[~np.isnan(values)]
    return float(graded.mean()) if len(graded) else math.nan, float(graded.std(ddof=1)) if len(graded) > 1 else math.nan
