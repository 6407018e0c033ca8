"""Objectives that would not do what they say are refused, with the key that is to change first in the message."""

import pytest
from pydantic import ValidationError

from r1jax.config.experiment import GrpoStage


def stage(**settings):
    fixed = {"name": "rl", "program": "grpo", "steps": 2, "prompts_per_step": 4, "group_size": 4}
    fixed |= {"rewards": {"accuracy": 1.0, "format": 0.2}, "optimizer": {"learning_rate": 1e-3}}
    return GrpoStage.model_validate(fixed | settings)


KL_IN_REWARD = {"kl": {"coef": 0.1, "place": "reward"}}
TRAINER = {"old_log_probs": "trainer"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rewards": {}}, "rewards has none with a weight"),
        ({"rewards": {"accuracy": 0.0}}, "rewards has none with a weight"),
        ({"rewards": {"accuracy": float("nan")}}, "finite number"),
        ({"rewards": {"accuracy": float("inf")}}, "finite number"),
        ({"group_size": 1}, "group_size is 1"),
        ({"minibatches": 3}, "minibatches 3 does not divide"),
        ({"minibatches": 2, "loss": {"kind": "reinforce"}}, "minibatches 2 need a ratio"),
        ({"top_p": 0.9}, "top_p 0.9 needs top_k"),
        ({"min_p": 0.1}, "min_p 0.1 needs top_k"),
        ({"top_k": 1}, "top_k 1 is greedy"),
        ({"temperature": 0}, "temperature 0 is greedy"),
        ({"temperature": -1.0}, "greater than or equal to 0"),
        ({"loss": {"kind": "reinforce", "clip_low": 0.2}}, "kind reinforce has no clip"),
        ({"loss": {"kind": "sapo", "clip_high": 0.2}}, "kind sapo has no clip"),
        ({"loss": {"kind": "cispo", "dual_clip": 3.0}}, "kind cispo has no dual_clip"),
        ({"loss": {"kind": "gspo", "top_entropy_quantile": 0.2}}, "loss.kind gspo has one ratio"),
        (TRAINER | {"loss": {"kind": "gspo"}, "importance_sampling": {}}, "loss.kind gspo has one ratio"),
        ({"importance_sampling": {}}, "importance_sampling needs"),
        (TRAINER | {"importance_sampling": {"low": 2.0, "high": 1.5}}, "low 2.0 to high 1.5 does not contain 1"),
        (TRAINER | {"importance_sampling": {"low": 1.5}}, "low 1.5 to high 2.0 does not contain 1"),
        (TRAINER | {"importance_sampling": {"high": 0.2}}, "low 0.0 to high 0.2 does not contain 1"),
        (KL_IN_REWARD, "kl.place is reward"),
        ({"kl": {"coef": 0.1, "estimator": "k1"}}, "estimator k1 has an expected gradient of zero"),
        ({"kl": {"coef": 0.1, "place": "reward", "estimator": "k3_k2"}}, "estimator k3_k2 differs"),
        ({"dynamic_sampling": {"reward": "length"}}, "dynamic_sampling.reward is 'length'"),
        ({"dynamic_sampling": {}, "advantage": {"per_reward": True}}, "dynamic_sampling.reward is null"),
        (
            KL_IN_REWARD | {"advantage": {"per_reward": True, "scale": "none"}},
            "advantage.per_reward does not form the sum",
        ),
        ({"truncated": "zero", "advantage": {"per_reward": True}}, "advantage.per_reward does not form the sum"),
        ({"value": {}}, "advantage.scale is group"),
        (
            {"value": {}, "advantage": {"scale": "none", "baseline": "leave_one_out"}},
            "advantage.baseline and per_reward are about",
        ),
        (
            {"value": {}, "advantage": {"scale": "none"}, "loss": {"kind": "gspo"}},
            "loss.kind gspo needs one advantage a sequence",
        ),
        (
            {"value": {}, "advantage": {"scale": "none"}, "off_policy_mask_threshold": 0.5},
            "off_policy_mask_threshold needs",
        ),
        ({"optimizer": {"learning_rate": 1e-3, "b2": 1.0}}, "less than 1"),
        ({"optimizer": {"learning_rate": 1e-3, "b2": 1.0}}, "less than 1"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(ValidationError) as error:
        stage(**settings)
    (said,) = error.value.errors()
    assert said["msg"].removeprefix("Value error, ").startswith(message) or message in said["msg"]


@pytest.mark.parametrize(
    "settings",
    [
        TRAINER | {"loss": {"kind": "gspo"}, "importance_sampling": {"level": "sequence"}},
        TRAINER | {"loss": {"kind": "gspo_token", "top_entropy_quantile": 0.2}, "importance_sampling": {}},
        {"kl": {"coef": 0.0, "place": "reward", "estimator": "k3_k2"}, "advantage": {"per_reward": True}},
        {"rewards": {"accuracy": 1.0, "monitor": 0.0}},
    ],
)
def test_what_is_not(settings):
    assert stage(**settings)
