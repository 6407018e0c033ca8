"""What a GRPO stage optimises: advantages, policy loss, KL, care for stale samples, dynamic sampling, a value model.

Names mean different things in different libraries: the formulas are in `advantages` and `objectives`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from r1jax.config.base import NonNegativeFloat, PositiveFloat, PositiveInt, Settings, Share

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
OF_ONE_KIND = ("clip_low", "clip_high", "dual_clip", "sapo_temperatures")  # in another, they mean something else


class AdvantageSettings(Settings):
    """What is taken from a reward and what that is divided by: `advantages.advantages`.

    `per_reward` does so for each reward before they are summed (GDPO); `clip` limits the result to ±clip.
    """

    baseline: Literal["mean", "leave_one_out"] = "mean"
    scale: Literal["group", "batch", "none"] = "group"
    per_reward: bool = False
    clip: PositiveFloat | None = None


class LossSettings(Settings):
    """The policy's loss per token, `objectives.policy_terms`, and how terms are summed, `objectives.reduction_weights`.

    `dual_clip` bounds what a token with a negative advantage costs at that many times its advantage. The loss gets
    -`entropy_coef` times the entropy. Only the `top_entropy_share` of a rollout's tokens with the highest entropy has
    a policy term.
    """

    kind: Literal["grpo", "gspo", "gspo_token", "cispo", "sapo", "reinforce"] = "grpo"
    reduce: Literal["sequence_mean", "token_mean", "constant_length"] = "sequence_mean"
    clip_low: PositiveFloat | None = None
    clip_high: PositiveFloat | None = None
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    sapo_temperatures: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.05)
    entropy_coef: NonNegativeFloat = 0.0
    top_entropy_share: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        low, high = CLIPS.get(value.get("kind", "grpo"), (None, None))
        clips = {"clip_low": low, "clip_high": high}
        lists = {k: tuple(v) for k, v in value.items() if k == "sapo_temperatures" and isinstance(v, list)}
        return clips | {k: v for k, v in value.items() if v is not None or k not in clips} | lists

    @model_validator(mode="after")
    def _check(self) -> LossSettings:
        clips = (self.clip_low, self.clip_high) != (None, None)
        if clips and self.kind in ("sapo", "reinforce"):
            raise ValueError(f"kind {self.kind} has no clip; leave out clip_low and clip_high")
        if self.kind != "sapo" and self.sapo_temperatures != (1.0, 1.05):
            raise ValueError(f"kind {self.kind} has no sapo_temperatures; leave them out")
        if self.dual_clip is not None and self.kind not in ("grpo", "gspo", "gspo_token"):
            raise ValueError(f"kind {self.kind} has no dual_clip; leave it out")
        return self


class KlSettings(Settings):
    """`coef` times an estimate of KL(policy, reference), added to the loss or taken from the reward.

    The estimators: `losses.kl_terms`. The reference is what the stage began with; every `sync_reference_every` steps
    (R1: 400 updates, which are 25 steps of 16) it becomes `reference_mix` of the policy and the rest of itself. With
    coef 0 none is held.
    """

    coef: NonNegativeFloat = 0.0
    estimator: Literal["k1", "k2", "k3", "k3_ratio", "k3_k2"] = "k3"
    place: Literal["loss", "reward"] = "loss"
    sync_reference_every: PositiveInt | None = None
    reference_mix: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> KlSettings:
        if self.coef > 0 and self.place == "reward" and self.estimator in ("k3_ratio", "k3_k2"):
            raise ValueError(
                f"estimator {self.estimator} differs from k3 by its gradient, and a reward has none; use k3"
            )
        if self.coef > 0 and self.place == "loss" and self.estimator == "k1":
            raise ValueError("estimator k1 has no gradient on average, so in the loss it does nothing; use k2 or k3")
        if self.reference_mix < 1 and self.sync_reference_every is None:
            raise ValueError(f"reference_mix {self.reference_mix} needs sync_reference_every, for example 1")
        return self


class CorrectionSettings(Settings):
    """Weights for the trainer's old log-probs being others than the sampler's: `objectives.importance_weights`."""

    level: Literal["token", "sequence"] = "token"
    outside: Literal["truncate", "mask"] = "truncate"
    low: NonNegativeFloat = 0.0
    high: PositiveFloat = 2.0

    @model_validator(mode="after")
    def _check(self) -> CorrectionSettings:
        if not self.low <= 1 <= self.high:
            raise ValueError(f"low {self.low} to high {self.high} leaves out 1, the weight where both agree")
        return self


class DynamicSampling(Settings):
    """Samples further prompts until all groups of a step are mixed, at most `max_batches` times prompts_per_step.

    A group is mixed where the reward `by` (null: the weighted sum) differs among its samples that were graded, and one
    of them at least is in the loss. Groups over the number are dropped; where there are too few, the step goes on with
    those it has.
    """

    max_batches: Annotated[int, Field(ge=2)] = 10
    by: str | None = None


class ValueSettings(Settings):
    """A value model as large as the policy, which makes this PPO: advantages are `advantages.gae`.

    It begins as a copy of the policy with a head of zeros. `clip` limits what a value may move in a rollout's updates;
    `learning_rate` null is the policy's.
    """

    gae_lambda: Share = 1.0
    discount: Share = 1.0
    clip: PositiveFloat | None = 0.2
    learning_rate: PositiveFloat | None = None
