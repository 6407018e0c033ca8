"""Prompts × group → samples → rewards → advantages: one pytree, ready for the update.

Letters: P prompts, G samples a prompt, B = P·G sequences, S prompt positions, T completion positions.
"""

from __future__ import annotations

import functools
import math
import warnings
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
from r1jax.mesh import own_rows, sharding, to_global, to_local
from r1jax.models.completions import Completions
from r1jax.objectives import group_advantages
from r1jax.rewards.example import Example, Reward
from r1jax.run import Run
from r1jax.sampler import Samples
from r1jax.tokenizer import Tokenizer


@flax.struct.dataclass
class Rollout:
    """Global arrays over all B sequences; `graded_B` is False where a reward was None: out of the loss."""

    completions: Completions
    logp_BT: jax.Array
    advantage_B: jax.Array
    graded_B: jax.Array


@dataclass(frozen=True)
class Transcript:
    """What a person looks at: this process's samples as text, with their rewards and lengths."""

    examples: list[Example]
    texts: list[str]
    rewards: Mapping[str, np.ndarray]
    samples: Samples

    def rows(self, advantage_B: np.ndarray | None = None) -> list[dict[str, Any]]:
        """One JSON-able dict a sample."""
        group = len(self.texts) // len(self.examples)
        return [
            {
                "prompt": self.examples[i // group].prompt,
                "answer": self.examples[i // group].answer,
                "completion": text,
                "rewards": {name: _number(values[i]) for name, values in self.rewards.items()},
                **({} if advantage_B is None else {"advantage": float(advantage_B[i])}),
                "length": int(self.samples.length_B[i]),
                "truncated": bool(self.samples.truncated_B[i]),
            }
            for i, text in enumerate(self.texts)
        ]


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
) -> tuple[tuple[jax.Array, jax.Array], Samples, Transcript]:
    """Samples a group for each of `total` prompts, of which `prompts` are this process's, and grades its own rows.

    Returns the global (prompt_PS, prompt_length_P), the global Samples, and the local Transcript.
    """
    sampler = run.sampler(group_size=group_size, temperature=temperature)
    prompt_PS, prompt_length_P, id_P = to_global(
        run.mesh, (prompts.prompt_PS, prompts.prompt_length_P, prompts.id_P), total
    )
    with run.timers("sample"):
        samples = jax.block_until_ready(sampler(weights, prompt_PS, prompt_length_P, id_P, key))
    local = to_local(samples)
    with run.timers("grade"):
        texts = completion_texts(local, run.tokenizer)
        graded = grade(prompts.examples, texts, {name: run.task.rewards[name] for name in rewards})
    return (prompt_PS, prompt_length_P), samples, Transcript(prompts.examples, texts, graded, local)


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
    )
    rewards = to_global(run.mesh, dict(transcript.rewards), stage.prompts_per_step * stage.group_size)
    finish = _assembler(run.mesh, tuple(sorted(stage.rewards.items())), stage.group_size)
    rollout, metrics = finish(prompt_PS, prompt_length_P, samples, rewards)
    return rollout, metrics, transcript


@functools.cache
def _assembler(mesh: Mesh, weights: tuple[tuple[str, float], ...], group_size: int) -> Callable[..., Any]:
    places = (sharding(mesh, "B"), sharding(mesh, ""))
    return jax.jit(functools.partial(assemble, weights=weights, group_size=group_size), out_shardings=places)


def assemble(
    prompt_PS: jax.Array,
    prompt_length_P: jax.Array,
    samples: Samples,
    rewards: Mapping[str, jax.Array],
    *,
    weights: Sequence[tuple[str, float]],
    group_size: int,
) -> tuple[Rollout, dict[str, jax.Array]]:
    """Weighted sum of the rewards, group advantages, and the metrics of both, over the whole batch."""
    total_B = sum(weight * rewards[name] for name, weight in weights)
    total_PG = jnp.asarray(total_B).reshape(-1, group_size)
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


def completion_texts(samples: Samples, tokenizer: Tokenizer) -> list[str]:
    """The text of each sample up to its stop token, without it."""
    return [
        tokenizer.decode(tokens[: length if truncated else length - 1].tolist())
        for tokens, length, truncated in zip(samples.completion_BT, samples.length_B, samples.truncated_B, strict=True)
    ]


def grade(examples: Sequence[Example], texts: Sequence[str], rewards: Mapping[str, Reward]) -> dict[str, np.ndarray]:
    """Each reward of each text (row b answers example b // G), float32; NaN stands for None, could not be graded.

    A reward that raises could not grade that text: it is warned about, and touches no other text.
    """
    group = len(texts) // len(examples)

    def score(name: str, example: Example, text: str) -> float:
        try:
            value = rewards[name](example, text)
        except Exception as error:
            warnings.warn(f"reward {name} failed on {example.prompt!r}: {error!r}", stacklevel=2)
            value = None
        return math.nan if value is None else value

    return {
        name: np.array([score(name, examples[i // group], text) for i, text in enumerate(texts)], np.float32)
        for name in rewards
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
