"""From rewards to advantages: against the sample's own group (GRPO and its variants), or against a value model (PPO).

Letters: R rewards, P prompts, G samples per prompt, B = P·G sequences, T completion positions. NaN marks a reward that
could not be graded: it leaves its group's statistics, and its sample the loss. That a sample's part of a mixture lacks
a reward is marked by a mask instead: the sample is graded by its other rewards.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from r1jax.config.experiment import GrpoStage
from r1jax.config.objective import AdvantageSettings

GUARD = 1e-4  # added to every standard deviation, as in TRL


def advantages(
    rewards_RPG: jax.Array, weights_R: jax.Array, settings: AdvantageSettings, applies_RPG: ArrayLike = True
) -> jax.Array:
    """advantage_PG of the weighted sum of several rewards.

    The sum r of a sample has a `baseline` taken from it: the mean of its group (DeepSeekMath 2402.03300, 4.1.2), or of
    the others in it (RLOO 2402.14740), which is n/(n - 1) times as much for a group of n. `scale` then divides by
    std + 1e-4 of the group (GRPO), of all rewards of the batch, or not at all (Dr. GRPO 2503.20783). The papers leave
    std and guard open: std is the sample's (n - 1). A group of equal rewards gives exactly 0, and so does a group with
    a single graded sample; a sample that is not graded has 0.

    `per_reward` (GDPO 2601.05242): baseline and group's scale for each reward by itself, then the weighted sum, then
    (x - mean) / (std + 1e-4) over the batch. A sample that one reward with a weight could not grade is graded by none.
    A reward adds 0 where it does not apply, and its statistics are over the samples to which it does.
    """
    total_PG = weighted_sum(weights_R, jnp.where(applies_RPG, rewards_RPG, 0.0))
    if settings.per_reward:
        graded_PG = ~jnp.isnan(total_PG)
        counted_RPG = jnp.where(graded_PG[None] & applies_RPG, rewards_RPG, jnp.nan)
        each = [_relative(r_PG, settings) for r_PG in counted_RPG]
        advantage_PG = weighted_sum(weights_R, jnp.stack(each))
        return standardised(advantage_PG, graded_PG)
    return _relative(total_PG, settings)


def total_rewards(
    rewards: Mapping[str, ArrayLike], applies: Mapping[str, ArrayLike], truncated_B: ArrayLike, stage: GrpoStage
) -> jax.Array:
    """[B], the weighted sum of the rewards that apply to a sample; NaN where one that has a weight has no score."""
    weights_R = jnp.array(list(stage.reward_weights.values()), jnp.float32)
    rewards_RB = jnp.stack([jnp.where(applies[name], rewards[name], 0.0) for name in stage.reward_weights])
    return limited(weighted_sum(weights_R, rewards_RB), truncated_B, stage)


def limited(reward_B: ArrayLike, truncated_B: ArrayLike, stage: GrpoStage) -> jax.Array:
    """At most 0 for a truncated sample, if `truncated` is "zero"; negative rewards stay, or truncation would pay."""
    reward_B = jnp.asarray(reward_B)
    return jnp.where(truncated_B, jnp.minimum(reward_B, 0.0), reward_B) if stage.truncated == "zero" else reward_B


def weighted_sum(weights_R: jax.Array, x_R: jax.Array) -> jax.Array:
    """Σ_R w x over the first axis, 0 where w is, whatever x; no matrix product: some devices do those in fewer bits."""
    weights_R = weights_R.reshape(-1, *(1,) * (x_R.ndim - 1))
    return (weights_R * jnp.where(weights_R == 0, 0.0, x_R)).sum(axis=0)


def differ(x: ArrayLike, axis: int | None = None) -> jax.Array:
    """Whether the values along an axis, or all of them, differ; those that are NaN do not count."""
    return jnp.nanmax(x, axis=axis) > jnp.nanmin(x, axis=axis)


def _relative(r_PG: jax.Array, settings: AdvantageSettings) -> jax.Array:
    graded_PG = ~jnp.isnan(r_PG)
    centred_PG, std_P1 = _centred(r_PG, graded_PG, axis=1)
    advantage_PG = centred_PG
    if settings.baseline == "leave_one_out":
        count_P1 = graded_PG.sum(axis=1, keepdims=True)
        advantage_PG = centred_PG * (count_P1 / jnp.maximum(count_P1 - 1, 1))
    if settings.scale == "group":
        advantage_PG = advantage_PG / (std_P1 + GUARD)
    elif settings.scale == "batch":
        advantage_PG = advantage_PG / (_centred(r_PG, graded_PG, axis=None)[1] + GUARD)
    # Rounding leaves centred rewards of an equal group at 1e-8, which a small std would blow up.
    return jnp.where(differ(r_PG, axis=1)[:, None], advantage_PG, 0.0)


def _centred(x: jax.Array, counted: jax.Array, axis: int | None) -> tuple[jax.Array, jax.Array]:
    """x less the mean of what is counted, 0 elsewhere; and the standard deviation (n - 1), without squaring large x."""
    count = counted.sum(axis=axis, keepdims=True)
    known = jnp.where(counted, x, 0.0)
    centred = jnp.where(counted, known - known.sum(axis=axis, keepdims=True) / jnp.maximum(count, 1), 0.0)
    largest = jnp.maximum(jnp.abs(centred).max(axis=axis, keepdims=True), 1e-30)
    squares = jnp.square(centred / largest).sum(axis=axis, keepdims=True)
    return centred, largest * jnp.sqrt(squares / jnp.maximum(count - 1, 1))


def standardised(x: jax.Array, counted: jax.Array) -> jax.Array:
    """(x - mean) / (std + 1e-4) over all that is counted; 0 elsewhere and where all are equal."""
    centred, std = _centred(x, counted, axis=None)
    return jnp.where(differ(jnp.where(counted, x, jnp.nan)), centred / (std + GUARD), 0.0)


def gae(
    reward_BT: jax.Array, value_BT: jax.Array, mask_BT: jax.Array, *, gae_lambda: float, discount: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimates and the returns that values are fitted to (1506.02438, eq. 16): both [B, T].

    δ_t = r_t + γ V_{t+1} - V_t and A_t = δ_t + γ λ A_{t+1}, where V is 0 after a row's last token, stopped or not;
    return = A + V. Rows of the mask are ones, then zeros.
    """
    reward_BT, value_BT = (jnp.where(mask_BT > 0, x, 0.0) for x in (reward_BT, value_BT))
    next_BT = jnp.pad(value_BT[:, 1:], ((0, 0), (0, 1)))
    delta_BT = (reward_BT + discount * next_BT - value_BT) * mask_BT

    def step(after_B: jax.Array, delta_B: jax.Array) -> tuple[jax.Array, jax.Array]:
        here_B = delta_B + discount * gae_lambda * after_B
        return here_B, here_B

    _, advantage_TB = jax.lax.scan(step, jnp.zeros_like(delta_BT[:, 0]), delta_BT.T, reverse=True)
    advantage_BT = advantage_TB.T * mask_BT
    return advantage_BT, advantage_BT + value_BT
