"""A GRPO stage's loss on a training batch, from the terms of `losses`, and the metrics that come with it.

Letters: B sequences, T completion positions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from r1jax.config.experiment import GrpoStage
from r1jax.models import Model
from r1jax.rl.logprobs import completion_log_probs, completion_values
from r1jax.rl.losses import clipped_sides, kl_terms, log_ratio, off_policy_mask, policy_terms, value_terms
from r1jax.rl.types import TrainBatch

VALUE_CLIP = 0.2  # how far the updates of one rollout may move a value (PPO2's own)
LOGP_DIFFERENCE = "sampling/sampling_logp_difference/mean"


def loss_and_sums(
    params: tuple[Any, Any],
    rows: tuple[TrainBatch, jax.Array, jax.Array],
    *,
    model: Model,
    stage: GrpoStage,
    group_size: int = 1,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What some rows of a batch add to the loss and to the sums that become metrics.

    `params` are the policy's and the value model's. `rows` is (batch, weights that sum terms to the loss, weights that
    sum them to means over tokens); both weights come from the whole batch, so that any split of it gives the same. Each
    `group_size` rows in turn have one prompt.
    """
    (policy, value), (batch, weight_BT, token_BT) = params, rows
    mask_BT = (token_BT > 0).astype(jnp.float32)
    logp_BT, entropy_BT = completion_log_probs(
        model, policy, batch, temperature=stage.temperature, group_size=group_size
    )
    entropy_BT = jnp.where(mask_BT > 0, entropy_BT, 0.0)
    old_logp_BT, advantage_BT = batch.old_logp_BT, batch.advantage_BT
    policy_BT, ratio_BT = policy_terms(
        logp_BT, old_logp_BT=old_logp_BT, advantage_BT=advantage_BT, mask_BT=mask_BT, settings=stage.loss
    )
    factor_BT = batch.factor_BT
    if stage.off_policy_mask_threshold is not None:
        keep_BT = off_policy_mask(
            logp_BT, batch.sampler_logp_BT, advantage_BT, mask_BT, threshold=stage.off_policy_mask_threshold
        )
        factor_BT = factor_BT * keep_BT
    terms_BT = policy_BT * factor_BT
    if stage.loss.entropy_coef > 0:  # the entropy's gradient takes a fifth of the head's time
        terms_BT -= stage.loss.entropy_coef * entropy_BT
    moved_BT = log_ratio(logp_BT, old_logp_BT, mask_BT)
    difference_BT = jnp.abs(log_ratio(logp_BT, batch.sampler_logp_BT, mask_BT))
    per_token: dict[str, Any] = {
        "entropy": entropy_BT,
        "approx_kl": jnp.expm1(moved_BT) - moved_BT,
        LOGP_DIFFERENCE: difference_BT,
    }
    has_ratio = stage.loss.kind != "reinforce"
    if has_ratio:
        per_token["ratio/mean"] = ratio_BT
    if stage.loss.clip_low is not None:
        # A token without a policy term has nothing to clip.
        low_BT, high_BT = (side_BT & (factor_BT > 0) for side_BT in clipped_sides(ratio_BT, advantage_BT, stage.loss))
        per_token |= {
            "clip_ratio/low_mean": low_BT,
            "clip_ratio/high_mean": high_BT,
            "clip_ratio/region_mean": low_BT | high_BT,
        }
    if stage.off_policy_mask_threshold is not None:
        per_token["off_policy_masked"] = 1 - keep_BT
    if batch.reference_logp_BT is not None:
        kl_BT = kl_terms(
            logp_BT, batch.reference_logp_BT, mask_BT, estimator=stage.kl.estimator, old_logp_BT=old_logp_BT
        )
        per_token["kl"] = kl_BT
        if stage.kl.place == "loss":
            terms_BT += stage.kl.coef * kl_BT
    loss = jnp.sum(weight_BT * terms_BT)
    sums: dict[str, Any] = {name: jnp.sum(token_BT * x_BT) for name, x_BT in per_token.items()} | {
        "loss": loss,
        "sampling/sampling_logp_difference/max": jnp.max(difference_BT),
    }
    if has_ratio:
        sums["ratio/max"] = jnp.max(mask_BT * ratio_BT)
    if batch.value_BT is not None and batch.return_BT is not None and stage.value is not None:
        value_BT = value_terms(
            completion_values(model, value, batch),
            old_value_BT=batch.value_BT,
            return_BT=batch.return_BT,
            mask_BT=mask_BT,
            clip=VALUE_CLIP,
        )
        sums["value/loss"] = jnp.sum(token_BT * value_BT)
        loss += sums["value/loss"]
    return loss, sums
