"""What TRL's GRPO says of random numbers, saved for the tests: losses with their gradients, advantages.

Runs in an environment of its own with torch and TRL 1.16, for r1jax needs neither: `pip install torch trl==1.16.0`.

    python scripts/trl_references.py tests/references/trl_losses.npz

Losses are those of `GRPOTrainer._compute_loss` itself, on a trainer without a model whose log-probs and entropies are
given, in float64. Importance ratios and advantages are computed in the midst of a method that also generates: its own
lines for them are run here by themselves.

Letters: B sequences, T positions, R rewards, P prompts, G samples a prompt.
"""

import inspect
import sys
import textwrap
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import grpo_trainer

LENGTHS = (9, 1, 5, 3, 8, 6)
LENGTHS_EMPTY = (9, 1, 0, 3, 8, 6)  # the third masked as truncated
POSITIONS = max(LENGTHS)
FAR = (4, 2)  # a token of a sequence with a negative advantage, in the variant that moves its old log-prob far off
CLIPS = {"epsilon": 0.2, "epsilon_high": 0.28}
LOSSES = {
    "grpo": {"loss_type": "grpo"},
    "dapo": {"loss_type": "dapo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "sapo": {"loss_type": "sapo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.15},
}
KL = {"beta": 0.1, "use_bias_correction_kl": False}  # True is the default
VLLM = {"use_vllm": True, "vllm_importance_sampling_clip_min": 0.5, "vllm_importance_sampling_clip_max": 2.0}
VARIANTS = (
    LOSSES
    | {f"{name}_kl": s | KL for name, s in LOSSES.items()}
    | {f"{name}_kl_ratio": LOSSES[name] | KL | {"use_bias_correction_kl": True} for name in ("grpo", "gspo")}
    | {f"{name}_entropy": LOSSES[name] | {"entropy_coef": 0.05} for name in ("grpo", "dapo", "dr_grpo")}
    | {f"{name}_empty": LOSSES[name] | {"empty": True} for name in ("grpo", "dapo", "dr_grpo")}
    | {f"{name}_halves": LOSSES[name] | {"gradient_accumulation_steps": 2} for name in ("grpo", "dapo", "dr_grpo")}
    | {f"grpo_{mode}": LOSSES["grpo"] | KL | VLLM | {"vllm_importance_sampling_mode": mode}
       for mode in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")}
    | {
        "grpo_delta": LOSSES["grpo"] | {"delta": 2.0},
        "gspo_delta": LOSSES["gspo"] | {"delta": 1.3},
        "grpo_low_delta": LOSSES["grpo"] | {"delta": 1.1},
        "grpo_off_policy": LOSSES["grpo"] | KL | {"off_policy_mask_threshold": 0.1},
        "grpo_top": LOSSES["grpo"] | KL | {"top_entropy_quantile": 0.2},
        "grpo_top_many": LOSSES["grpo"] | {"top_entropy_quantile": 0.7},
        "dapo_top_entropy": LOSSES["dapo"] | {"top_entropy_quantile": 0.2, "entropy_coef": 0.05},
        "dr_grpo_budget": LOSSES["dr_grpo"] | {"max_completion_length": 12},
        "grpo_far": LOSSES["grpo"] | {"far": True},
    }
)  # fmt: skip
ADVANTAGES = {
    "group": {"scale_rewards": "group"},
    "batch": {"scale_rewards": "batch"},
    "none": {"scale_rewards": "none"},
    "per_reward": {"multi_objective_aggregation": "normalize_then_sum"},
}
OF_ARGS = (
    "loss_type", "beta", "importance_sampling_level", "max_completion_length", "off_policy_mask_threshold",
    "top_entropy_quantile", "entropy_coef", "use_adaptive_entropy", "use_vllm", "vllm_importance_sampling_correction",
    "vllm_importance_sampling_mode", "vllm_importance_sampling_clip_min", "vllm_importance_sampling_clip_max",
    "multi_objective_aggregation", "scale_rewards",
)  # fmt: skip


def draw() -> dict[str, np.ndarray]:
    """Numbers of a seed with which every clip, cap and mask takes some tokens and leaves others."""
    rng = np.random.default_rng(50)
    shape = (len(LENGTHS), POSITIONS)
    logp_BT = -rng.gamma(2.0, 1.0, shape)
    old_BT = logp_BT - rng.normal(size=shape)
    rewards_RPG = rng.normal(size=(2, 3, 4))
    rewards_RPG[:, 1, 2] = np.nan  # graded by no reward
    arrays = {
        "logp": logp_BT,
        "old_logp": old_BT,
        "sampler_logp": old_BT + 0.6 * rng.normal(size=shape),
        "reference_logp": logp_BT + 0.6 * rng.normal(size=shape),
        "entropy": rng.gamma(2.0, 0.5, shape),
        "advantage": np.array([1.3, -0.4, 0.7, -1.1, -0.6, 0.2]),
        "rewards": rewards_RPG,
        "weights": np.array([1.0, 0.6]),
    }
    arrays = {name: a.astype(np.float32) for name, a in arrays.items()}
    arrays["partly_graded_rewards"] = arrays["rewards"].copy()
    arrays["partly_graded_rewards"][0, 2, 1] = np.nan
    return arrays | {"lengths": np.array(LENGTHS), "lengths_empty": np.array(LENGTHS_EMPTY)}


def make_trainer(settings: dict) -> GRPOTrainer:
    """A trainer that never had a model, with what `__init__` would have taken from its arguments."""
    args = GRPOConfig(
        per_device_train_batch_size=6 // settings.get("gradient_accumulation_steps", 1), num_generations=3,
        use_cpu=True, bf16=False, **{"max_completion_length": POSITIONS} | CLIPS | settings
    )  # fmt: skip
    trainer = GRPOTrainer.__new__(GRPOTrainer)
    trainer.args, trainer.accelerator = args, Accelerator(cpu=True)
    for name in OF_ARGS:
        setattr(trainer, name, getattr(args, name))
    trainer.epsilon_low, trainer.epsilon_high = args.epsilon, args.epsilon_high
    trainer._entropy_bonus_enabled = args.entropy_coef != 0
    trainer.current_gradient_accumulation_steps = args.gradient_accumulation_steps
    trainer.aux_loss_enabled, trainer.model = False, SimpleNamespace(training=True)
    trainer._metrics = {"train": defaultdict(list)}
    return trainer


def run_lines(first: str, after: str, **names) -> dict:
    """What the lines of TRL's rollout, from one that begins with `first` to before one with `after`, make of names."""
    lines = inspect.getsource(GRPOTrainer._generate_and_score_completions).splitlines(True)
    begin = next(i for i, line in enumerate(lines) if line.strip().startswith(first))
    end = next(i for i, line in enumerate(lines) if i > begin and line.strip().startswith(after))
    names = vars(grpo_trainer) | {"device": "cpu"} | names
    exec(textwrap.dedent("".join(lines[begin:end])), names)
    return names


def loss_of(settings: dict, arrays: dict[str, np.ndarray]) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss with its gradients with respect to the log-probs and to the entropies."""
    settings = settings.copy()
    length_B = arrays["lengths_empty" if settings.pop("empty", False) else "lengths"]
    given = {name: torch.from_numpy(a).double() for name, a in arrays.items()}
    if settings.pop("far", False):
        given["old_logp"][FAR] = given["logp"][FAR] - 25
    mask_BT = torch.from_numpy(np.arange(POSITIONS) < length_B[:, None]).long()
    logp_BT, entropy_BT = given["logp"].requires_grad_(), given["entropy"].requires_grad_()
    trainer = make_trainer(settings)
    inputs = {
        "prompt_ids": torch.zeros_like(mask_BT[:, :1]),
        "prompt_mask": torch.ones_like(mask_BT[:, :1]),
        "completion_ids": torch.zeros_like(mask_BT),
        "completion_mask": mask_BT,
        "advantages": given["advantage"],
        "old_per_token_logps": given["old_logp"],
        "sampling_per_token_logps": given["sampler_logp"],
        "ref_per_token_logps": given["reference_logp"],
    }
    if trainer.use_vllm:
        inputs["importance_sampling_ratio"] = run_lines(
            "mask = completion_mask if", "# Compute the per-token log probabilities for the reference model",
            self=trainer, completion_mask=mask_BT, tool_mask=None,
            old_per_token_logps=given["old_logp"], sampling_per_token_logps=given["sampler_logp"],
        )["vllm_importance_sampling_ratio"]  # fmt: skip
    total = 0.0
    for rows in np.split(np.arange(len(LENGTHS)), trainer.args.gradient_accumulation_steps):
        outputs = logp_BT[rows], entropy_BT[rows], None
        trainer._get_per_token_logps_and_entropies = lambda *_, outputs=outputs, **__: outputs
        part = {name: x[rows] for name, x in inputs.items()} | {"num_items_in_batch": mask_BT.sum()}
        loss = trainer._compute_loss(None, part)
        loss.backward()
        total += loss.item()
    entropy_gradient_BT = torch.zeros_like(entropy_BT) if entropy_BT.grad is None else entropy_BT.grad
    return total, logp_BT.grad.numpy(), entropy_gradient_BT.numpy()


def advantages_of(settings: dict, rewards_RPG: np.ndarray, weights_R: np.ndarray) -> np.ndarray:
    trainer = make_trainer(settings)
    trainer.reward_weights = torch.from_numpy(weights_R).double()
    trainer.reward_funcs = [None] * len(weights_R)
    rewards_BR = torch.from_numpy(rewards_RPG).double().reshape(len(weights_R), -1).T
    names = run_lines(
        "unscorable_mask =", "# Slice to keep only the local part", self=trainer, rewards_per_func=rewards_BR,
        num_generations=rewards_RPG.shape[2],
    )  # fmt: skip
    return names["advantages"].numpy().reshape(rewards_RPG.shape[1:])


def main() -> None:
    arrays = draw()
    results = {}
    for name, settings in VARIANTS.items():
        loss, logp_gradient_BT, entropy_gradient_BT = loss_of(settings, arrays)
        results |= {f"{name}/loss": np.array(loss), f"{name}/logp_gradient": logp_gradient_BT}
        if entropy_gradient_BT.any():
            results[f"{name}/entropy_gradient"] = entropy_gradient_BT
        print(f"{name}: {loss:.6f}")
    for name, settings in ADVANTAGES.items():
        for rewards in ("rewards", "partly_graded_rewards"):
            results[f"{name}/{rewards}"] = advantages_of(settings, arrays[rewards], arrays["weights"])
    losses = [float(results[f"{name}/loss"]) for name in VARIANTS if not name.endswith("_halves")]
    if len(set(losses)) < len(losses):
        raise SystemExit("a variant changes nothing")
    np.savez_compressed(sys.argv[1], **arrays, **results)


if __name__ == "__main__":
    main()
