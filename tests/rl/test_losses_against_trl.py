"""Losses and advantages against what TRL 1.16 itself computed from the same numbers (scripts/trl_references.py).

A case is r1jax's settings and, under `trl`, what has to be changed in them to get TRL's definition where it is another:
with that both agree, without it they must not.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.objective import AdvantageSettings, ImportanceSamplingSettings, LossSettings
from r1jax.rl.advantages import advantages
from r1jax.rl.losses import (
    importance_weights,
    kl_terms,
    length_mask,
    off_policy_mask,
    policy_terms,
    reduction_weights,
    top_entropy_mask,
)

REFERENCES = dict(np.load(Path(__file__).parents[1] / "references" / "trl_losses.npz"))
TOLERANCE = 1e-5

CLIPS = {"clip_low": 0.2, "clip_high": 0.28}
GRPO = {"loss": CLIPS}
DAPO = {"loss": CLIPS | {"reduce": "token_mean"}}
DR_GRPO = {"loss": CLIPS | {"reduce": "constant_length"}}
GSPO = {"loss": {"kind": "gspo", "clip_low": 0.1, "clip_high": 0.15}}
LOSSES = {
    "grpo": GRPO,
    "dapo": DAPO,
    "dr_grpo": DR_GRPO,
    "cispo": {"loss": {"kind": "cispo", "reduce": "token_mean", "clip_low": 1.0, "clip_high": 4.0}},
    "sapo": {"loss": {"kind": "sapo"}},
    "gspo": GSPO,
}
KL = {"kl": 0.1}
ENTROPY = {"entropy_coef": 0.05}
EMPTY = {"lengths": "lengths_empty"}
CASES = (
    LOSSES
    | {f"{name}_kl": case | KL for name, case in LOSSES.items()}
    | {
        # TRL weighs the KL by its own ratio, which is the sequence's in GSPO; k3_ratio by the token's always.
        "grpo_kl_ratio": GRPO | KL | {"estimator": "k3_ratio"},
        "gspo_kl_ratio": GSPO | KL | {"estimator": "k3_ratio", "trl": {"estimator": "k3_sequence"}},
        # TRL's bonus is the mean of the entropy over tokens, however the policy's terms are summed.
        "dapo_entropy": DAPO | ENTROPY,
        "grpo_entropy": GRPO | ENTROPY | {"trl": {"entropy_reduce": "token_mean"}},
        "dr_grpo_entropy": DR_GRPO | ENTROPY | {"trl": {"entropy_reduce": "token_mean"}},
        # To TRL a sequence without a token is a sequence.
        "dapo_empty": DAPO | EMPTY,
        "grpo_empty": GRPO | EMPTY | {"trl": {"scale": 5 / 6}},
        "dr_grpo_empty": DR_GRPO | EMPTY | {"trl": {"scale": 5 / 6}},
        # TRL's two accumulated halves are the whole batch's loss.
        "grpo_halves": GRPO,
        "dapo_halves": DAPO,
        "dr_grpo_halves": DR_GRPO,
        # TRL divides by its generation budget of 12, r1jax by the positions of the arrays, here 9.
        "dr_grpo_budget": DR_GRPO | {"trl": {"scale": 9 / 12}},
        "grpo_delta": {"loss": CLIPS | {"dual_clip": 2.0}},
        "gspo_delta": {"loss": GSPO["loss"] | {"dual_clip": 1.3}},
        "grpo_off_policy": GRPO | KL | {"threshold": 0.1},
        # With q of N tokens TRL takes those from a quantile up, floor(q N + 1 - q) of them; r1jax ceil(q N). Of 32:
        # 7 and 7 for 0.2, but 22 and 23 for 0.7.
        "grpo_top": GRPO | KL | {"share": 0.2},
        "grpo_top_many": GRPO | {"share": 0.7, "trl": {"share": 22 / 32}},
        # TRL's bonus has only the tokens that the policy's terms have.
        "dapo_top_entropy": DAPO | ENTROPY | {"share": 0.2, "trl": {"entropy_of": "top"}},
    }
    | {
        f"grpo_{level}_{mode}": GRPO | KL | {"correction": {"level": level, "mode": mode, "low": 0.5}}
        for level in ("token", "sequence")
        for mode in ("truncate", "mask")
    }
)


def composed(
    x, loss, kl=0.0, estimator="k3", entropy_coef=0.0, entropy_reduce=None, entropy_of="all", threshold=None,
    share=1.0, correction=None, lengths="lengths", scale=1.0,
):  # fmt: skip
    """The loss of the arrays x, with its gradients with respect to log-probs and entropies."""
    settings = LossSettings(**loss)
    mask = length_mask(jnp.array(x[lengths]), x["logp"].shape[1])
    weights = scale * reduction_weights(mask, settings.reduce)
    old, sampler, reference = (jnp.array(x[name]) for name in ("old_logp", "sampler_logp", "reference_logp"))
    advantage = jnp.broadcast_to(x["advantage"][:, None], mask.shape)

    def value(logp, entropy):
        terms, _ = policy_terms(logp, old_logp_BT=old, advantage_BT=advantage, mask_BT=mask, settings=settings)
        top = top_entropy_mask(entropy, mask, share=share)
        terms *= top
        if threshold is not None:
            terms *= off_policy_mask(logp, sampler, advantage, mask, threshold=threshold)
        if correction is not None:
            terms *= importance_weights(old, sampler, mask, ImportanceSamplingSettings(**correction))
        if kl and estimator == "k3_sequence":
            change = ((logp - old) * mask).sum(1, keepdims=True) / mask.sum(1, keepdims=True)
            terms += kl * jnp.exp(change) * kl_terms(logp, reference, mask)
        elif kl:
            terms += kl * kl_terms(logp, reference, mask, estimator=estimator, old_logp_BT=old)
        counted = mask * top if entropy_of == "top" else mask
        bonus = (reduction_weights(counted, entropy_reduce or settings.reduce) * entropy).sum()
        return (weights * terms).sum() - entropy_coef * bonus

    value, gradients = jax.value_and_grad(value, (0, 1))(jnp.array(x["logp"]), jnp.array(x["entropy"]))
    return np.asarray(value), *map(np.asarray, gradients)


def differences(name, ours):
    """The largest of loss, of gradient by log-probs and by entropies, each relative to TRL's largest."""
    nothing = np.zeros_like(ours[2])
    theirs = [REFERENCES.get(f"{name}/{part}", nothing) for part in ("loss", "logp_gradient", "entropy_gradient")]
    return [np.abs(a - b).max() / (np.abs(b).max() or 1.0) for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_those_of_trl(name):
    case = CASES[name].copy()
    change = case.pop("trl", {})
    assert max(differences(name, composed(REFERENCES, **case | change))) <= TOLERANCE
    if change:
        assert max(differences(name, composed(REFERENCES, **case))) > 0.01


def test_a_delta_below_the_upper_clip():
    """TRL's delta limits r before the clip's min: below 1 + high it bounds r for A > 0 and does nothing for A < 0."""
    assert max(differences("grpo_low_delta", composed(REFERENCES, CLIPS | {"dual_clip": 1.1}))) > 0.01
    gain, cost = np.maximum(REFERENCES["advantage"], 0), np.minimum(REFERENCES["advantage"], 0)
    gains = composed(REFERENCES | {"advantage": gain}, CLIPS | {"clip_high": 0.1})
    costs = composed(REFERENCES | {"advantage": cost}, CLIPS | {"dual_clip": 1.28})
    assert max(differences("grpo_low_delta", [a + b for a, b in zip(gains, costs, strict=True)])) <= TOLERANCE


def test_log_ratios_are_limited():
    """TRL's are not: a token of log-ratio 25 and negative advantage is all of its loss."""
    far = REFERENCES["old_logp"].copy()
    far[4, 2] = REFERENCES["logp"][4, 2] - 25
    loss, gradient, _ = composed(REFERENCES | {"old_logp": far}, CLIPS)
    np.testing.assert_allclose(REFERENCES["grpo_far/loss"] / loss, np.exp(25 - 20), rtol=1e-4)
    assert gradient[4, 2] == 0 and REFERENCES["grpo_far/logp_gradient"][4, 2] > 1e8


@pytest.mark.parametrize("name", ["group", "batch", "none", "per_reward"])
def test_advantages_are_those_of_trl(name):
    settings = {"per_reward": True} if name == "per_reward" else {"scale": name}

    def ours(rewards):
        given = jnp.array(REFERENCES[rewards]), jnp.array(REFERENCES["weights"])
        return advantages(*given, AdvantageSettings(**settings))

    np.testing.assert_allclose(ours("rewards"), REFERENCES[f"{name}/rewards"], atol=TOLERANCE)
    # A sample that one of two rewards could not grade has none here; TRL goes by the other's alone.
    advantage = ours("partly_graded_rewards")
    theirs = REFERENCES[f"{name}/partly_graded_rewards"]
    assert advantage[2, 1] == 0 and abs(theirs[2, 1]) > 0.1
