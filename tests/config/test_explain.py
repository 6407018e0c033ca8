"""What is wrong with a config is one line: where it is, whether file or command line is to blame, what was meant."""

import pytest
import yaml
from small_config import FILE
from tiny import TINY

from r1jax.config.base import ConfigError
from r1jax.config.explain import places
from r1jax.config.load import parse_config

WRONG_FILES = {
    ("seed", "task:", "sed: 1\ntask:"): "config.yaml:2: sed: unknown key; did you mean 'seed'?",
    ("deep", "head_dim: 8", "head_dim: 8.5"): "config.yaml:10: model.head_dim: got 8.5 (a float)",
    ("stage", "group_size: 4", "groupsize: 4"): (
        "config.yaml:26: stages.rl.groupsize: unknown key; did you mean 'group_size'?"
    ),
    ("key of another program", "    steps: 2\n", "    steps: 2\n    group_size: 4\n"): (
        "config.yaml:20: stages.cold_start.group_size: unknown key; "
        "only stages of program grpo, distill and reject have group_size"
    ),
    ("missing", "    group_size: 4\n", ""): (
        "config.yaml:22: stages.rl.group_size: this key is required and was not given"
    ),
    (
        "missing at both levels",
        "max_prompt_length: 8\n",
        "",
    ): "stages.cold_start.max_prompt_length: this key is required",
    (
        "between keys",
        "steps: 2\n    prompts_per_step: 4\n    group_size: 4",
        "steps: 2\n    prompts_per_step: 3\n    minibatches: 5\n    group_size: 4",
    ): ("config.yaml:26: stages.rl: minibatches 5 does not divide"),
    ("kind", "program: grpo", "program: gpro"): (
        "config.yaml:23: stages.rl.program: got 'gpro'; need one of sft, grpo, distill, reject, "
    ),
    (
        "no kind",
        "    program: grpo\n",
        "",
    ): "config.yaml:22: stages.rl.program: this key is required; need one of sft, grpo, distill, reject",
    ("reward's key", "cache: 4", "cash: 4"): "config.yaml:13: rewards.short.cash: unknown key; did you mean 'cache'?",
    ("reward named like another", "short: {name: overlong, cache: 4}", "code: {name: format, stile: think_answer}"): (
        "config.yaml:13: rewards.code.stile: unknown key; did you mean 'style'?"
    ),
    ("reward model of elsewhere", "short: {name: overlong, cache: 4}", "helpful: {name: reward_model, path: m}"): (
        "config.yaml:13: rewards.helpful.path: unknown key; the model is an earlier stage of program reward_model"
    ),
    ("weight", "accuracy: 1.0", "accuracy: high"): "config.yaml:28: stages.rl.rewards.accuracy: got 'high' (a str)",
    ("merged block", "template: r1", "tempalte: r1"): (
        "config.yaml:11: prompt.tempalte: unknown key; did you mean 'template'?"
    ),
    ("later stage", "    program: sft", "    init_from: rl\n    program: sft"): (
        "config.yaml:18: stages.cold_start.init_from: stage rl does not come before this one"
    ),
    (
        "called base",
        "name: cold_start",
        "name: base",
    ): "config.yaml:17: stages.base: base is the model before any training",
    ("tabs", "  hidden_size", "\thidden_size"): "config.yaml:5: not valid YAML",
    ("reference", "runs/x", "runs/${nowhere}"): "config.yaml: Interpolation key 'nowhere' not found",
}


@pytest.mark.parametrize("case", WRONG_FILES, ids=lambda case: case[0])
def test_wrong_files(case, message):
    _, old, new = case
    assert old in FILE
    assert WRONG_FILES[case] in message(FILE.replace(old, new, 1))


def test_file_and_command_line_share_the_blame(message):
    """The override is named only where it has to do with the error."""
    wrong = FILE.replace("group_size: 4", "groupsize: 4")
    assert message(wrong, "stages.rl.steps=5").startswith("config.yaml:26: stages.rl.groupsize")
    odd = FILE.replace("head_dim: 8", "head_dim: 7")
    assert message(odd, "model.hidden_size=8").startswith("config.yaml:10: model: head_dim 7 is odd")


def test_settings_without_a_file():
    text = FILE.replace("1e-3", "0.001")
    with pytest.raises(ConfigError, match=r"^command line: seed: got 'x'"):
        parse_config(yaml.safe_load(text), ["seed=x"])
    with pytest.raises(ConfigError, match=r"^sed: unknown key"):
        parse_config(yaml.safe_load(text) | {"sed": 1})


# Keys that other libraries have, that are misspelt, or that belong elsewhere: the error names what was meant.
MEANT = {
    # TRL and Hugging Face.
    "stages.rl.num_generations=4": "in r1jax it is stages.rl.group_size",
    "num_generations=4": "in r1jax it is stages.NAME.group_size",
    "stages[1].beta=0.04": "in r1jax it is stages.rl.kl.coef",
    "stages.rl.kl.beta=0.04": "in r1jax it is stages.rl.kl.coef",
    "stages.cold_start.beta=0.04": "in r1jax it is stages.NAME.kl.coef",
    "stages.rl.epsilon=0.2": "in r1jax it is stages.rl.loss.clip_low and loss.clip_high",
    "stages.rl.loss.epsilon_high=0.2": "in r1jax it is stages.rl.loss.clip_high",
    "stages.rl.delta=2": "in r1jax it is stages.rl.loss.dual_clip",
    "max_steps=5": "in r1jax it is stages.NAME.steps (a step is a rollout with all its updates)",
    "num_train_epochs=1": "in r1jax it is stages.NAME.steps (epochs are steps × prompts_per_step ÷ examples)",
    "stages.cold_start.batch_size=8": "in r1jax it is stages.NAME.prompts_per_step (a step has",
    "per_device_train_batch_size=8": "in r1jax it is stages.NAME.microbatch (it counts sequences at once on",
    "stages.rl.gradient_accumulation_steps=8": "in r1jax it is stages.rl.microbatch (how often",
    "stages.rl.num_iterations=2": "in r1jax it is stages.rl.minibatches (it counts the updates of a step",
    "max_new_tokens=10": "in r1jax it is max_completion_length",
    "model.model_name_or_path=x": "in r1jax it is model.path",
    "stages.rl.lr=1.0": "in r1jax it is stages.rl.optimizer.learning_rate",
    "warmup_steps=5": "in r1jax it is stages.NAME.optimizer.warmup_updates (it counts updates)",
    "reward_funcs=[accuracy]": "in r1jax it is rewards (by name",
    "eval_steps=5": "in r1jax it is stages.NAME.eval_every (it counts steps)",
    "logging_steps=1": "r1jax has none, because every step is logged",
    # verl.
    "actor_rollout_ref.rollout.n=8": "in r1jax it is stages.NAME.group_size",
    "actor_rollout_ref.actor.optim.lr=0.1": "in r1jax it is stages.NAME.optimizer.learning_rate",
    "actor_rollout_ref.model.path=x": "it belongs at model.path",
    "algorithm.kl_ctrl.kl_coef=0.1": "in r1jax it is stages.NAME.kl.coef",
    "data.train_batch_size=8": "in r1jax it is stages.NAME.prompts_per_step",
    # Ours, elsewhere.
    "learning_rate=0.1": "it belongs at stages.NAME.optimizer.learning_rate",
    "stages.cold_start.learning_rate=0.1": "it belongs at stages.NAME.optimizer.learning_rate",
    "stages.rl.weight_decay=0.1": "it belongs at stages.rl.optimizer.weight_decay",
    "temperature=0.7": "it belongs at evaluate.temperature or stages.NAME.temperature",
    "stages.cold_start.temperature=0.7": "it belongs at evaluate.temperature or stages.NAME.temperature or stages.NAME",
    "stages.cold_start.group_size=4": "only stages of program grpo, distill and reject have group_size",
    "stages.rl.seed=1": "it belongs at the top level",
    "stages.rl.mesh.data=1": "it belongs at mesh.data",
    "stages.rl.problems=3": "it belongs at evaluate.problems or stages.rl.evaluate.problems",
    "problems=3": "it belongs at evaluate.problems",
    "hidden_size=3": "it belongs at model.hidden_size",
    "min_digits=2": "it belongs at task.min_digits",
    "cache=3": "it belongs at rewards.NAME.cache",
    "steps=3": "it belongs at stages.NAME.steps",
    # Misspelt.
    "stages.rl.optimzer.lr=3": "did you mean 'optimizer'?",
    "stages.rl.weight_deccay=3": "valid keys here: advantage, decode_batch, dynamic_sampling",
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
    said = str(error.value)
    assert said.startswith("command line: ") and f": unknown key; {MEANT[override]}" in said
    assert override.replace("[1]", ".rl").startswith(said.removeprefix("command line: ").partition(":")[0])


def test_where_a_key_may_stand():
    assert places()["coef"] == ["stages.NAME.kl.coef"]
    assert places()["max_digits"][0] == "task.max_digits" and places()["cache"][0] == "rewards.NAME.cache"
    assert places()["pack_length"] == ["stages.NAME.pack_length"] and "num_generations" not in places()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stages": "rl"}, "stages: got 'rl' (a str)"),
        ({"stages": ["rl"]}, "stages.0: got 'rl' (a str); need a mapping that names one of sft, grpo"),
        ({"stages": [None]}, "stages.0: got None (nothing); need a mapping that names one of sft, grpo"),
        ({"stages": [{}]}, "stages.0.program: this key is required"),
        ({"task": 3}, "task: got 3 (a int); need a mapping that names one of arithmetic, countdown"),
        ({1: 2}, "1: unknown key; valid keys here: "),
        ({True: {"lr": 1}}, "True: unknown key; in r1jax it is stages.NAME.optimizer.learning_rate"),
    ],
)
def test_what_is_no_stage_and_no_key(wrong, message, tree):
    with pytest.raises(ConfigError) as error:
        parse_config(tree | wrong)
    assert str(error.value).startswith(message)
