"""What a GRPO stage optimises: advantages, policy loss, KL, importance sampling, dynamic sampling, a value model.

Libraries mean different things by the same names: the formulas are in `rl.advantages` and `rl.losses`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from r1jax.config.base import NonNegativeFloat, Number, PositiveFloat, PositiveInt, Settings, Share

# Where `clip_low` and `clip_high` are left out. CISPO's are not published: a lower clip that never binds and the cap of
# 5 that others use.
CLIPS = {
    "grpo": (0.2, 0.2),
    "gspo": (3e-4, 4e-4),
    "gspo_token": (3e-4, 4e-4),
    "cispo": (1.0, 4.0),
    "sapo": (None, None),
    "reinforce": (None, None),
}
OF_ONE_KIND = ("clip_low", "clip_high", "dual_clip")  # a loss of another kind means something else by them


class AdvantageSettings(Settings):
    """How rewards become advantages: `rl.advantages.advantages`."""

    baseline: Literal["mean", "leave_one_out"] = "mean"
    """What is subtracted from a reward: the mean of its group (GRPO), or of the other samples of its group (RLOO)."""
    scale: Literal["group", "batch", "none"] = "group"
    """Whose standard deviation the result is divided by: the group's (GRPO), the batch's, or none (Dr. GRPO)."""
    per_reward: bool = False
    """Normalise each reward by itself before their weighted sum (GDPO)."""


class LossSettings(Settings):
    """The policy loss of a token (`rl.losses.policy_terms`), and how tokens are averaged."""

    kind: Literal["grpo", "gspo", "gspo_token", "cispo", "sapo", "reinforce"] = "grpo"
    """The loss; `reinforce` has no ratio and no clip, and `sapo` a soft gate instead of a clip."""
    reduce: Literal["sequence_mean", "token_mean", "constant_length"] = "sequence_mean"
    """Mean over the tokens of each completion, then over completions (GRPO); over all tokens of the update (DAPO); or
    the sum over a completion's tokens divided by `max_completion_length`, then the mean over completions (Dr. GRPO)."""
    clip_low: PositiveFloat | None = None
    """The ratio is clipped to at least 1 - `clip_low`. Default by kind: grpo 0.2, gspo 3e-4, cispo 1 (never binds)."""
    clip_high: PositiveFloat | None = None
    """The ratio is clipped to at most 1 + `clip_high`. Default by kind: grpo 0.2, gspo 4e-4, cispo 4."""
    dual_clip: Annotated[Number, Field(gt=1)] | None = None
    """A token with a negative advantage costs at most this many times its advantage."""
    entropy_coef: NonNegativeFloat = 0.0
    """The entropy, times this, is subtracted from the loss."""
    top_entropy_quantile: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Only this fraction of a rollout's tokens, those of the highest entropy, has a policy loss."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        low, high = CLIPS.get(str(value.get("kind", "grpo")), (None, None))
        clips = {"clip_low": low, "clip_high": high}
        return clips | {k: v for k, v in value.items() if v is not None or k not in clips}

    @model_validator(mode="after")
    def _check(self) -> LossSettings:
        clips = (self.clip_low, self.clip_high) != (None, None)
        if clips and self.kind in ("sapo", "reinforce"):
            raise ValueError(f"kind {self.kind} has no clip; leave out clip_low and clip_high")
        if self.dual_clip is not None and self.kind not in ("grpo", "gspo", "gspo_token"):
            raise ValueError(f"kind {self.kind} has no dual_clip; leave it out")
        return self


class KlSettings(Settings):
    """The penalty for moving away from a reference model: the weights that the stage began with."""

    coef: NonNegativeFloat = 0.0
    """Coefficient of the KL; with 0 no reference model is held in memory."""
    estimator: Literal["k1", "k2", "k3", "k3_ratio", "k3_k2"] = "k3"
    """How KL(policy, reference) is estimated: `rl.losses.kl_terms`."""
    place: Literal["loss", "reward"] = "loss"
    """Whether the KL is added to the loss or subtracted from the reward."""
    sync_reference_every: PositiveInt | None = None
    """The reference becomes a copy of the policy every so many steps. R1's 400 updates are 25 steps of 16."""

    @model_validator(mode="after")
    def _check(self) -> KlSettings:
        if self.coef > 0 and self.place == "reward" and self.estimator in ("k3_ratio", "k3_k2"):
            raise ValueError(
                f"estimator {self.estimator} differs from k3 only in its gradient, and a reward has none; use k3"
            )
        if self.coef > 0 and self.place == "loss" and self.estimator == "k1":
            raise ValueError(
                "estimator k1 has an expected gradient of zero, so in the loss it has no effect; use k2 or k3"
            )
        return self


class ImportanceSamplingSettings(Settings):
    """Weights that correct for the difference between the sampler's and the trainer's log-probs (TIS, IcePop)."""

    level: Literal["token", "sequence"] = "token"
    """Whether each token has its own ratio, or a sequence one ratio: the product of its tokens' ratios."""
    mode: Literal["truncate", "mask"] = "truncate"
    """What happens to a ratio outside [`low`, `high`]: it is truncated to the bound, or the token is masked."""
    low: NonNegativeFloat = 0.0
    """The lower bound."""
    high: PositiveFloat = 2.0
    """The upper bound."""

    @model_validator(mode="after")
    def _check(self) -> ImportanceSamplingSettings:
        if not self.low <= 1 <= self.high:
            raise ValueError(
                f"low {self.low} to high {self.high} does not contain 1, the ratio where sampler and trainer agree"
            )
        return self


class DynamicSamplingSettings(Settings):
    """Sample more prompts until every group of the step has rewards that differ (DAPO)."""

    reward: str | None = None
    """The reward that has to differ within a group; null: the weighted sum of all."""
    max_batches: Annotated[int, Field(ge=2)] = 10
    """At most this many times `prompts_per_step` prompts are sampled; then the step uses the groups it has."""


class ValueSettings(Settings):
    """A value model as large as the policy, which makes the stage PPO.

    It begins as a copy of the policy with a head of zeros, and has the policy's optimizer settings. Advantages are
    those of `rl.advantages.gae` with a discount of 1.
    """

    gae_lambda: Share = 1.0
    """λ of generalised advantage estimation."""
