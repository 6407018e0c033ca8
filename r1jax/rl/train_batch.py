"""From a rollout to what updates train on: old and reference log-probs, advantages, constant factors of tokens.

    batch, metrics = prepare(state, rollout, layout, model=model, stage=stage, microbatches=1)

Letters: P prompts, G samples per prompt, B = P·G sequences, T completion positions, R rewards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from r1jax.config.experiment import GrpoStage
from r1jax.data.packing import Layout
from r1jax.models import Model
from r1jax.rl.advantages import advantages, differ, gae, standardised, total_rewards
from r1jax.rl.logprobs import completion_log_probs, completion_values
from r1jax.rl.losses import importance_weights, kl_terms, length_mask, top_entropy_mask
from r1jax.rl.types import Rollout, TrainBatch
from r1jax.training.state import TrainState, in_microbatches

LARGEST_RETURN = 1e6  # of a sample, for a value model, whose error is squared


def prepare(
    state: TrainState,
    rollout: Rollout,
    layout: Layout | None = None,
    *,
    model: Model,
    stage: GrpoStage,
    microbatches: int,
    group_size: int = 1,
) -> tuple[TrainBatch, dict[str, jax.Array]]:
    """What updates train on, and the rollout's metrics: the forwards that the stage needs, then `build_batch`.

    In a forward each `group_size` sequences in turn share their prompt's computation.
    """
    batch = joined(rollout, stage.group_size)

    def forwards(batch: TrainBatch) -> dict[str, jax.Array]:
        def log_probs(params: Any) -> tuple[jax.Array, jax.Array]:
            return completion_log_probs(model, params, batch, temperature=stage.temperature, group_size=group_size)

        outputs = {}
        if _needs_own_log_probs(stage):
            outputs["logp_BT"], outputs["entropy_BT"] = log_probs(state.params)
        if state.reference is not None:
            outputs["reference_logp_BT"], _ = log_probs(state.reference)
        if state.value is not None:
            outputs["value_BT"] = completion_values(model, state.value.params, batch)
        return outputs

    packed = dataclasses.replace(batch, layout=layout)
    return build_batch(rollout, batch, in_microbatches(forwards, packed, microbatches, group_size), stage)


def needs_forwards(stage: GrpoStage) -> bool:
    """Whether `prepare` runs any model."""
    return _needs_own_log_probs(stage) or stage.kl.coef > 0 or stage.value is not None


def _needs_own_log_probs(stage: GrpoStage) -> bool:
    """Whether the old log-probs are the trainer's, or only the tokens of the highest entropy have a loss."""
    return stage.old_log_probs == "trainer" or stage.loss.top_entropy_quantile < 1


def joined(rollout: Rollout, group_size: int) -> TrainBatch:
    """Each sample with its prompt."""
    return TrainBatch(
        prompt_BS=jnp.repeat(rollout.prompt_PS, group_size, axis=0),
        prompt_length_B=jnp.repeat(rollout.prompt_length_P, group_size),
        completion_BT=rollout.samples.completion_BT,
        length_B=rollout.samples.length_B,
        support_BTI=rollout.samples.support_BTI,
        sampler_logp_BT=rollout.samples.logp_BT,
    )


def build_batch(
    rollout: Rollout, batch: TrainBatch, forwards: Mapping[str, jax.Array], stage: GrpoStage
) -> tuple[TrainBatch, dict[str, jax.Array]]:
    """The weighted sum of the rewards, advantages, constant factors of tokens, and the metrics of the whole rollout.

    `forwards` has what the stage needs of logp_BT, entropy_BT, reference_logp_BT and value_BT. A sample that could not
    be graded is neither in a baseline nor in the loss; a truncated one is in its group's baseline, and with `truncated`
    "mask" not in the loss.
    """
    samples, G, sampler_logp_BT = rollout.samples, stage.group_size, rollout.samples.logp_BT
    reference_logp_BT = forwards.get("reference_logp_BT")
    lengths_BT = length_mask(samples.length_B, sampler_logp_BT.shape[1])
    old_logp_BT = sampler_logp_BT if stage.old_log_probs == "sampler" else forwards["logp_BT"]
    total_B = total_rewards(rollout.rewards, rollout.applies, samples.truncated_B, stage)
    graded_B = ~jnp.isnan(total_B) & jnp.repeat(rollout.included_P, G)
    included_B = graded_B & ~samples.truncated_B if stage.truncated == "mask" else graded_B
    mask_BT = lengths_BT * included_B[:, None]
    penalty_BT = jnp.zeros_like(mask_BT)
    if stage.kl.place == "reward" and reference_logp_BT is not None:
        kl_BT = kl_terms(old_logp_BT, reference_logp_BT, lengths_BT, estimator=stage.kl.estimator)
        penalty_BT = stage.kl.coef * kl_BT
    value_BT = return_BT = None
    if stage.value is None:
        rewards_RB, weights = (total_B - penalty_BT.sum(axis=1))[None], [1.0]
        applies_RB = jnp.ones_like(rewards_RB, bool)
        if stage.advantage.per_reward:
            rewards_RB = jnp.stack([rollout.rewards[name] for name in stage.reward_weights])
            applies_RB = jnp.stack([rollout.applies[name] for name in stage.reward_weights])
            weights = list(stage.reward_weights.values())
        # NaN is None here, so a sample that is not graded has rewards that apply and are None.
        rewards_RPG = jnp.where(graded_B[None], rewards_RB, jnp.nan).reshape(len(rewards_RB), -1, G)
        applies_RPG = (applies_RB | ~graded_B[None]).reshape(rewards_RPG.shape)
        advantage_PG = advantages(rewards_RPG, jnp.array(weights, jnp.float32), stage.advantage, applies_RPG)
        advantage_BT = advantage_PG.reshape(-1, 1) * mask_BT
    else:
        value_BT = forwards["value_BT"] * mask_BT
        reward_B = jnp.clip(jnp.where(included_B, total_B, 0.0), -LARGEST_RETURN, LARGEST_RETURN)
        is_last_BT = jnp.arange(mask_BT.shape[1])[None] == samples.length_B[:, None] - 1
        reward_BT = jnp.where(is_last_BT, reward_B[:, None], 0.0) - penalty_BT
        advantage_BT, return_BT = gae(reward_BT, value_BT, mask_BT, gae_lambda=stage.value.gae_lambda)
        if stage.advantage.scale == "batch":  # over all tokens, as is usual in PPO
            advantage_BT = standardised(advantage_BT, mask_BT > 0)
    metrics = _metrics(rollout, total_B.reshape(-1, G))
    factor_BT, count = mask_BT, jnp.maximum(mask_BT.sum(), 1)
    if stage.importance_sampling is not None:
        factor_BT = mask_BT * importance_weights(old_logp_BT, sampler_logp_BT, mask_BT, stage.importance_sampling)
        metrics["importance_sampling/weight/mean"] = factor_BT.sum() / count
        metrics["importance_sampling/masked"] = ((factor_BT == 0) * mask_BT).sum() / count
    if stage.loss.top_entropy_quantile < 1:
        top_BT = top_entropy_mask(forwards["entropy_BT"], mask_BT, share=stage.loss.top_entropy_quantile)
        factor_BT *= top_BT
        metrics["low_entropy_masked"] = (mask_BT - top_BT).sum() / count
    if value_BT is not None and return_BT is not None:
        metrics |= _value_metrics(value_BT, return_BT, mask_BT)
    return dataclasses.replace(
        batch,
        old_logp_BT=old_logp_BT,
        reference_logp_BT=reference_logp_BT,
        advantage_BT=advantage_BT,
        factor_BT=factor_BT,
        included_B=included_B,
        value_BT=value_BT,
        return_BT=return_BT,
    ), metrics


def _metrics(rollout: Rollout, total_PG: jax.Array) -> dict[str, jax.Array]:
    """Metrics of the included groups; `frac_reward_zero_std` alone also counts those that only fill the batch."""
    included_P1 = rollout.included_P[:, None]

    def counted(x_B: jax.Array) -> jax.Array:
        return jnp.where(included_P1, x_B.reshape(total_PG.shape), jnp.nan)

    return {
        "reward": jnp.nanmean(counted(total_PG)),
        "reward_std": jnp.nanmean(jnp.nanstd(counted(total_PG), axis=1, ddof=1)),
        "frac_reward_zero_std": 1 - differ(counted(total_PG), axis=1).mean(),
        "frac_reward_none": jnp.nanmean(counted(jnp.isnan(total_PG))),
    } | rollout_metrics(rollout)


def rollout_metrics(rollout: Rollout) -> dict[str, jax.Array]:
    """Lengths of the completions in the included groups, and each reward of all completions."""
    samples, included_P1 = rollout.samples, rollout.included_P[:, None]

    def counted(x_B: jax.Array) -> jax.Array:
        return jnp.where(included_P1, x_B.reshape(len(included_P1), -1), jnp.nan)

    length_PG = counted(samples.length_B)
    metrics = {
        "completions/mean_length": jnp.nanmean(length_PG),
        "completions/min_length": jnp.nanmin(length_PG),
        "completions/max_length": jnp.nanmax(length_PG),
        "completions/clipped_ratio": jnp.nanmean(counted(samples.truncated_B)),
        "num_tokens": samples.length_B.sum(),
    }
    for name, scores in rollout.rewards.items():
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
