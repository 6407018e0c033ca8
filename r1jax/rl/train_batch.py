"""From graded samples to what updates learn from: old and reference log-probs, advantages, constant weights of tokens.

    prepare = make_preparer(model, mesh, stage)
    rollout, metrics = prepare(state, experience)

Letters: P prompts, G samples a prompt, B = P·G sequences, T completion positions, R rewards.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from r1jax.config.experiment import GrpoStage
from r1jax.data.packing import Layout
from r1jax.models import Model
from r1jax.parallel.mesh import sharding
from r1jax.rl.advantages import advantages, gae, token_advantages, total_rewards
from r1jax.rl.logprobs import Completions, completion_log_probs, completion_values
from r1jax.rl.losses import importance_weights, kl_terms, length_mask, top_entropy_mask
from r1jax.rl.rollout import Experience
from r1jax.training.state import TrainState, in_microbatches, microbatches_of

LARGEST_RETURN = 1e6  # of a sample, for a value model; its error is squared


@flax.struct.dataclass
class Forwards:
    """What the models say of an experience, before any update; None where a stage does without."""

    logp_BT: jax.Array | None = None
    entropy_BT: jax.Array | None = None
    reference_logp_BT: jax.Array | None = None
    value_BT: jax.Array | None = None


@flax.struct.dataclass
class Rollout:
    """What updates learn from, global arrays over all B sequences.

    `counted_B` is False where a sample is out of the loss. `factor_BT` are constant factors of the policy terms.
    """

    completions: Completions
    sampler_logp_BT: jax.Array
    old_logp_BT: jax.Array
    reference_logp_BT: jax.Array | None
    advantage_BT: jax.Array
    factor_BT: jax.Array
    counted_B: jax.Array
    value_BT: jax.Array | None = None
    return_BT: jax.Array | None = None


def make_preparer(
    model: Model, mesh: Mesh, stage: GrpoStage
) -> Callable[[TrainState, Experience, Layout | None], tuple[Rollout, dict[str, jax.Array]]]:
    """`prepare` as one jitted function of state, experience and the layout of its sequences in packed rows."""
    microbatches = microbatches_of(stage.prompts_per_step * stage.group_size, stage.microbatch, mesh)
    places = (sharding(mesh, "B"), sharding(mesh, ""))
    return jax.jit(
        functools.partial(prepare, model=model, stage=stage, microbatches=microbatches), out_shardings=places
    )


def prepare(
    state: TrainState,
    experience: Experience,
    layout: Layout | None = None,
    *,
    model: Model,
    stage: GrpoStage,
    microbatches: int,
) -> tuple[Rollout, dict[str, jax.Array]]:
    """What the updates need beside the samples, once a rollout: forwards of the models, if any, then `assemble`.

    The trainer's own log-probs and entropies where the stage asks for old ones or for the highest entropies, the
    reference's log-probs, and the value model's values.
    """
    completions = completions_of(experience, stage.group_size)
    needs_own = _needs_own(stage)

    def forwards(completions: Completions) -> Forwards:
        def log_probs(params: Any) -> tuple[jax.Array, jax.Array]:
            return completion_log_probs(model, params, completions, temperature=stage.temperature)

        logp_BT, entropy_BT = log_probs(state.params) if needs_own else (None, None)
        return Forwards(
            logp_BT=logp_BT,
            entropy_BT=entropy_BT,
            reference_logp_BT=None if state.reference is None else log_probs(state.reference)[0],
            value_BT=None if state.value is None else completion_values(model, state.value.params, completions),
        )

    laid_out = dataclasses.replace(completions, layout=layout)
    return assemble(experience, completions, in_microbatches(forwards, laid_out, microbatches), stage)


def needs_forwards(stage: GrpoStage) -> bool:
    """Whether `prepare` has any model to run."""
    return _needs_own(stage) or stage.kl.coef > 0 or stage.value is not None


def _needs_own(stage: GrpoStage) -> bool:
    return stage.old_log_probs == "trainer" or stage.loss.top_entropy_share < 1


def completions_of(experience: Experience, group_size: int) -> Completions:
    """The rows that every loss reads."""
    return Completions(
        prompt_BS=jnp.repeat(experience.prompt_PS, group_size, axis=0),
        prompt_length_B=jnp.repeat(experience.prompt_length_P, group_size),
        completion_BT=experience.samples.completion_BT,
        length_B=experience.samples.length_B,
        support_BTI=experience.samples.support_BTI,
    )


def assemble(
    experience: Experience, completions: Completions, forwards: Forwards, stage: GrpoStage
) -> tuple[Rollout, dict[str, jax.Array]]:
    """The weighted sum of the rewards, advantages, constant weights of tokens, and the metrics of all of the batch.

    A sample that could not be graded is in no baseline and not in the loss; one that never stopped is in its group's
    baseline, and with `truncated` "mask" not in the loss.
    """
    samples, G = experience.samples, stage.group_size
    sampler_logp_BT = samples.logp_BT
    lengths_BT = length_mask(samples.length_B, sampler_logp_BT.shape[1])
    old_logp_BT: Any = sampler_logp_BT if stage.old_log_probs == "sampler" else forwards.logp_BT
    total_B = total_rewards(experience.rewards, samples.truncated_B, stage)
    graded_B = ~jnp.isnan(total_B) & jnp.repeat(experience.counted_P, G)
    counted_B = graded_B & ~samples.truncated_B if stage.truncated == "mask" else graded_B
    mask_BT = lengths_BT * counted_B[:, None]
    penalty_BT = jnp.zeros_like(mask_BT)
    if stage.kl.place == "reward" and forwards.reference_logp_BT is not None:
        kl_BT = kl_terms(old_logp_BT, forwards.reference_logp_BT, lengths_BT, estimator=stage.kl.estimator)
        penalty_BT = stage.kl.coef * kl_BT
    value_BT = return_BT = None
    if stage.value is None:
        rewards_RB, weights = (total_B - penalty_BT.sum(axis=1))[None], [1.0]
        if stage.advantage.per_reward:
            rewards_RB, weights = jnp.stack([experience.rewards[n] for n in stage.rewards]), [*stage.rewards.values()]
        rewards_RPG = jnp.where(graded_B[None], rewards_RB, jnp.nan).reshape(len(rewards_RB), -1, G)
        advantage_PG = advantages(rewards_RPG, jnp.array(weights, jnp.float32), **stage.advantage.model_dump())
        advantage_BT = advantage_PG.reshape(-1, 1) * mask_BT
    else:
        assert forwards.value_BT is not None
        value_BT = forwards.value_BT * mask_BT
        reward_BT = _last_token(jnp.where(counted_B, total_B, 0.0), samples.length_B, mask_BT) - penalty_BT
        advantage_BT, return_BT = gae(
            reward_BT, value_BT, mask_BT, discount=stage.value.discount, gae_lambda=stage.value.gae_lambda
        )
        advantage_BT = token_advantages(advantage_BT, mask_BT, scale=stage.advantage.scale, clip=stage.advantage.clip)
    metrics = _metrics(experience, total_B.reshape(-1, G))
    factor_BT, count = mask_BT, jnp.maximum(mask_BT.sum(), 1)
    if stage.correction is not None:
        factor_BT = mask_BT * importance_weights(old_logp_BT, sampler_logp_BT, mask_BT, stage.correction)
        metrics["correction/weight/mean"] = factor_BT.sum() / count
        metrics["correction/masked"] = ((factor_BT == 0) * mask_BT).sum() / count
    if forwards.entropy_BT is not None and stage.loss.top_entropy_share < 1:
        top_BT = top_entropy_mask(forwards.entropy_BT, mask_BT, share=stage.loss.top_entropy_share)
        factor_BT *= top_BT
        metrics["low_entropy_masked"] = (mask_BT - top_BT).sum() / count
    rollout = Rollout(
        completions=completions,
        sampler_logp_BT=sampler_logp_BT,
        old_logp_BT=old_logp_BT,
        reference_logp_BT=forwards.reference_logp_BT,
        advantage_BT=advantage_BT,
        factor_BT=factor_BT,
        counted_B=counted_B,
        value_BT=value_BT,
        return_BT=return_BT,
    )
    if value_BT is not None and return_BT is not None:
        metrics |= _value_metrics(value_BT, return_BT, mask_BT)
    return rollout, metrics


def _last_token(reward_B: jax.Array, length_B: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """A sample's reward, within ±LARGEST_RETURN, at its last token: [B, T]."""
    last_BT = jnp.arange(mask_BT.shape[1])[None] == length_B[:, None] - 1
    return jnp.where(last_BT, jnp.clip(reward_B, -LARGEST_RETURN, LARGEST_RETURN)[:, None], 0.0)


def _metrics(experience: Experience, total_PG: jax.Array) -> dict[str, jax.Array]:
    """Of the groups that count, but that `frac_reward_zero_std` has those that only fill the batch too."""
    samples, counted_P1 = experience.samples, experience.counted_P[:, None]
    graded_PG = ~jnp.isnan(total_PG) & counted_P1
    highest_P = jnp.where(graded_PG, total_PG, -jnp.inf).max(axis=1)
    lowest_P = jnp.where(graded_PG, total_PG, jnp.inf).min(axis=1)

    def counted(x_B: jax.Array) -> jax.Array:
        return jnp.where(counted_P1, x_B.reshape(total_PG.shape), jnp.nan)

    length_PG = counted(samples.length_B)
    metrics = {
        "reward": jnp.nanmean(counted(total_PG)),
        "reward_std": jnp.nanmean(jnp.nanstd(counted(total_PG), axis=1, ddof=1)),
        "frac_reward_zero_std": 1 - (highest_P > lowest_P).mean(),
        "frac_reward_none": jnp.nanmean(counted(jnp.isnan(total_PG))),
        "completions/mean_length": jnp.nanmean(length_PG),
        "completions/min_length": jnp.nanmin(length_PG),
        "completions/max_length": jnp.nanmax(length_PG),
        "completions/clipped_ratio": jnp.nanmean(counted(samples.truncated_B)),
        "num_tokens": samples.length_B.sum(),
    }
    for name, scores in experience.rewards.items():
        metrics[f"rewards/{name}/mean"] = jnp.nanmean(scores)
        metrics[f"rewards/{name}/std"] = jnp.nanstd(scores, ddof=1)
    return metrics


def _value_metrics(value_BT: jax.Array, return_BT: jax.Array, mask_BT: jax.Array) -> dict[str, jax.Array]:
    def mean(x_BT: jax.Array) -> jax.Array:
        return jnp.sum(mask_BT * x_BT) / jnp.maximum(mask_BT.sum(), 1)

    def variance(x_BT: jax.Array) -> jax.Array:
        return mean(jnp.square(x_BT - mean(x_BT)))

    return {
        "value/mean": mean(value_BT),
        "value/explained_variance": 1 - variance(return_BT - value_BT) / jnp.maximum(variance(return_BT), 1e-8),
    }
