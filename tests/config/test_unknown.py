"""Keys that other libraries have, that are misspelt, or that belong elsewhere: the error names what was meant."""

import pytest
import yaml
from tiny import TINY

from r1jax.config.base import ConfigError
from r1jax.config.load import parse_config

MEANT = {
    # TRL and Hugging Face.
    "stages.rl.num_generations=4": "in r1jax it is stages.rl.group_size",
    "num_generations=4": "in r1jax it is stages.rl.group_size",
    "stages[1].beta=0.04": "in r1jax it is stages.rl.kl.coef",
    "stages.rl.kl.beta=0.04": "in r1jax it is stages.rl.kl.coef",
    "stages.cold_start.beta=0.04": "in r1jax it is stages.rl.kl.coef",
    "stages.rl.epsilon=0.2": "in r1jax it is stages.rl.loss.clip_low and loss.clip_high",
    "stages.rl.loss.epsilon_high=0.2": "in r1jax it is stages.rl.loss.clip_high",
    "stages.rl.delta=2": "in r1jax it is stages.rl.loss.dual_clip",
    "max_steps=5": "in r1jax it is stages.rl.steps (a step is a rollout with all its updates)",
    "num_train_epochs=1": "in r1jax it is stages.rl.steps (epochs are steps × prompts_per_step ÷ examples)",
    "stages.cold_start.batch_size=8": "in r1jax it is stages.cold_start.prompts_per_step (a step has",
    "per_device_train_batch_size=8": "in r1jax it is stages.rl.microbatch (it counts sequences at once on each device)",
    "stages.rl.gradient_accumulation_steps=8": "in r1jax it is stages.rl.microbatch (how often",
    "stages.rl.num_iterations=2": "in r1jax it is stages.rl.minibatches (it counts the updates of a step",
    "max_new_tokens=10": "in r1jax it is max_completion_length",
    "model.model_name_or_path=x": "in r1jax it is model.path",
    "stages.rl.lr=1.0": "in r1jax it is stages.rl.optimizer.learning_rate",
    "warmup_steps=5": "in r1jax it is stages.rl.optimizer.warmup_updates (it counts updates)",
    "reward_funcs=[accuracy]": "in r1jax it is rewards (by name",
    "eval_steps=5": "in r1jax it is stages.rl.eval_every (it counts steps)",
    "logging_steps=1": "r1jax has none, because every step is logged",
    # verl.
    "actor_rollout_ref.rollout.n=8": "in r1jax it is stages.rl.group_size",
    "actor_rollout_ref.actor.optim.lr=0.1": "in r1jax it is stages.rl.optimizer.learning_rate",
    "actor_rollout_ref.model.path=x": "it belongs at model.path",
    "algorithm.kl_ctrl.kl_coef=0.1": "in r1jax it is stages.rl.kl.coef",
    "data.train_batch_size=8": "in r1jax it is stages.rl.prompts_per_step",
    # Ours, elsewhere.
    "learning_rate=0.1": "it belongs at stages.rl.optimizer.learning_rate",
    "stages.cold_start.learning_rate=0.1": "it belongs at stages.cold_start.optimizer.learning_rate",
    "stages.rl.weight_decay=0.1": "it belongs at stages.rl.optimizer.weight_decay",
    "temperature=0.7": "it belongs at evaluate.temperature or stages.rl.temperature",
    "stages.cold_start.temperature=0.7": "it belongs at stages.cold_start.evaluate.temperature",
    "stages.cold_start.group_size=4": "only stages of program grpo have group_size",
    "stages.rl.seed=1": "it belongs at the top level",
    "stages.rl.mesh.data=1": "it belongs at the top level",
    "stages.rl.problems=3": "it belongs at stages.rl.evaluate.problems",
    "problems=3": "it belongs at evaluate.problems",
    "hidden_size=3": "it belongs at model.hidden_size",
    "min_digits=2": "it belongs at task.min_digits",
    "cache=3": "it belongs at rewards.NAME.cache",
    "steps=3": "it belongs at stages.rl.steps",
    # Misspelt.
    "stages.rl.optimzer.lr=3": "did you mean 'optimizer'?",
    "stages.rl.weight_deccay=3": "valid keys here: advantage, dynamic_sampling",
    "max_prompt_lengths=3": "did you mean 'max_prompt_length'?",
    "sampels=3": "did you mean 'stages'?",
}


@pytest.fixture
def tree():
    return yaml.safe_load(TINY.format(folder="runs/x").replace("1e-", "1.0e-"))


@pytest.mark.parametrize("override", MEANT)
def test_what_is_meant(override, tree):
    with pytest.raises(ConfigError) as error:
        parse_config(tree, [override])
    typed = override.partition("=")[0]
    where = typed.removesuffix(".data" if "mesh" in typed else ".lr" if "optimzer" in typed else "-")
    assert str(error.value).startswith(f"command line: {where}: unknown key; {MEANT[override]}")


def test_without_stages_a_stage_is_called_name(tree):
    with pytest.raises(ConfigError, match=r"^beta: unknown key; in r1jax it is stages\.NAME\.kl\.coef$"):
        parse_config({**tree, "stages": [], "beta": 0.1})
