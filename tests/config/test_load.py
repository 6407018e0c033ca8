"""A config file read and written: overrides, line numbers, whether file or command line is to blame, what is meant."""

from pathlib import Path

import pytest
import yaml
from small_config import FILE

from r1jax.config.base import ConfigError
from r1jax.config.load import dump_config, load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
FOUR = """\
run_dir: runs/four
model: {family: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
        num_key_value_heads: 2, head_dim: 8}
task: {name: arithmetic}
prompt: {template: r1, chat: true}
max_prompt_length: 16
max_completion_length: 32
evaluate: {problems: 64, temperature: 0.6}
rewards:
  accuracy: 1.0
  short: {name: overlong, cache: 4, weight: 0.1}
stages:
  - {name: zero, program: grpo, init_from: base, steps: 2, prompts_per_step: 4, group_size: 4,
     prompt: {template: r1_zero, chat: false}, rewards: {accuracy: 1, format: 1}, optimizer: {learning_rate: 1e-3}}
  - {name: cold_start, program: sft, init_from: base, steps: 2, prompts_per_step: 4, max_prompt_length: 20,
     task: {jsonl: cold_start.jsonl, completion: text}, optimizer: {learning_rate: 1e-3}}
  - {name: rl, program: grpo, steps: 2, prompts_per_step: 4, group_size: 4, optimizer: {learning_rate: 1e-3},
     task: {name: countdown}, max_completion_length: 64, evaluate: {samples: 4, top_k: 5}}
  - {name: last, program: grpo, init_from: cold_start, steps: 2, prompts_per_step: 4, group_size: 4,
     rewards: {accuracy: 1, exact: {name: exact, weight: 0.5}, short: 0.2}, optimizer: {learning_rate: 1e-3},
     task: {mixture: [{weight: 3, task: {name: countdown}}, {weight: 1, task: {name: arithmetic}}]}}
"""


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_configs_round_trip(file, load):
    config = load_config(file)
    assert load(dump_config(config)) == config
    assert dump_config(load(dump_config(config))) == dump_config(config)


def test_four_stages_round_trip(load):
    config = load(FOUR)
    text = dump_config(config)
    again = load(text)
    assert again == config and dump_config(again) == text
    assert [again.stages[i] for i in range(4)] == [config.stages[i] for i in range(4)]
    last = config.stages[3]
    assert last.reward_weights == {"accuracy": 1, "exact": 0.5, "short": 0.2}
    assert set(last.reward_definitions) == {"exact", "short"}
    assert config.stages[2].reward_weights == {"accuracy": 1.0, "short": 0.1}
    assert config.stages[0].prompt.template == "r1_zero" and not config.stages[0].prompt.chat


def test_a_dumped_stage_has_only_its_own_settings(load):
    """So that an override at the top level of the dump reaches the stages, as it does in the file it came from."""
    tree = yaml.safe_load(dump_config(load(FOUR)))
    zero, cold_start, rl, _ = tree["stages"]
    assert list(tree)[:2] == ["run_dir", "seed"] and next(iter(zero)) == "name"
    assert zero["prompt"] == {"template": "r1_zero", "chat": False}
    assert "prompt" not in cold_start and "evaluate" not in cold_start and "rewards" not in cold_start
    assert rl["evaluate"] == {"samples": 4, "top_k": 5}
    again = load(dump_config(load(FOUR)), "evaluate.problems=8", "prompt.system=Hello")
    assert again.stages[2].evaluate.problems == 8 and again.stages[2].evaluate.samples == 4
    assert again.stages[0].prompt.system == "Hello" and again.stages[0].prompt.template == "r1_zero"


def test_numbers_and_references_of_yaml(load):
    text = FILE.replace("runs/x", "runs/${seed}").replace("task:", "seed: 3\ntask:", 1)
    config = load(text)
    assert config.run_dir == "runs/3" and config.stages[0].optimizer.learning_rate == 1e-3


OVERRIDES = {
    "seed=3": lambda c: c.seed == 3,
    "stages.rl.steps=5": lambda c: c.stages[1].steps == 5,
    "stages.1.steps=5": lambda c: c.stages[1].steps == 5,
    "stages[1].steps=5": lambda c: c.stages[1].steps == 5,
    "stages.rl.optimizer.learning_rate=2e-5": lambda c: c.stages[1].optimizer.learning_rate == 2e-5,
    "stages[1].rewards.accuracy=0.5": lambda c: c.stages[1].reward_weights == {"accuracy": 0.5},
    "stages.rl.rewards.short=0.5": lambda c: c.stages[1].reward_weights == {"accuracy": 1.0, "short": 0.5},
    "stages.rl.kl={coef: 0.1}": lambda c: c.stages[1].kl.coef == 0.1,
    "stages.rl.kl.coef=0.1": lambda c: c.stages[1].kl.coef == 0.1,
    "stages.rl.prompt.template=plain": lambda c: c.stages[1].prompt.template == "plain",
    "prompt.system=one=two": lambda c: c.prompt.system == "one=two",
    "evaluate.problems=null": lambda c: c.evaluate.problems is None,
    "stages.rl.evaluate.problems=null": lambda c: (
        c.stages[1].evaluate.problems is None and c.stages[0].evaluate.problems
    ),
    "stages.rl.init_from=base": lambda c: c.stages[1].init_from == "base",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_overrides(override, load):
    assert OVERRIDES[override](load(FILE, override))


def test_the_last_override_wins(load):
    assert load(FILE, "seed=1", "seed=2").seed == 2
    assert load(FILE, "stages.rl.kl={coef: 0.1}", "stages[1].kl.coef=0.2").stages[1].kl.coef == 0.2


WRONG_OVERRIDES = {
    "seed": "'seed': an override is written key=value",
    "=3": "'=3': an override is written key=value",
    "stages[x].steps=3": "'stages[x].steps=3': an override is written key=value, as in seed=1",
    ".seed=3": "'.seed=3': an override is written key=value",
    "task={name: x": "command line: task: '{name: x' is not valid YAML; text goes in quotes",
    "stages.sft.steps=3": "command line: stages.sft.steps: no entry 'sft'; there are cold_start, rl (or 0 to 1)",
    "stages[2].steps=3": "command line: stages[2].steps: no entry '2'; there are cold_start, rl (or 0 to 1)",
    "run_dir.x=3": "command line: run_dir.x: there is nothing called x in a str",
    "run_dir[0]=3": "command line: run_dir[0]: there is nothing called 0 in a str",
    # In errors of checks a stage goes by its name.
    "stages.rl.group_sise=4": "command line: stages.rl.group_sise: unknown key; did you mean 'group_size'?",
    "stages.1.group_sise=4": "command line: stages.rl.group_sise: unknown key; did you mean 'group_size'?",
    "stages[1].group_sise=4": "command line: stages.rl.group_sise: unknown key; did you mean 'group_size'?",
    "stages[1].kl={coeff: 1}": "command line: stages.rl.kl.coeff: unknown key; did you mean 'coef'?",
    "stages[1].kl=0.1": "command line: stages.rl.kl: got 0.1 (a float); need a mapping with some of coef",
    "stages[1].minibatches=5": "command line: stages.rl: minibatches 5 does not divide",
    "stages[1].rewards={}": "command line: stages.rl: rewards has none with a weight",
    "stages[1].init_from=rl": "command line: stages.rl.init_from: stage rl does not come before this one",
    "stages.rl.evaluate.temperature=hot": "command line: stages.rl.evaluate.temperature: got 'hot' (a str)",
    "evaluate.temperature=-1": "command line: evaluate.temperature: got -1 (a int); input should be greater",
    "model.head_dim=7": "command line: model: head_dim 7 is odd",
    "rewards.short.cash=5": "command line: rewards.short.cash: unknown key; did you mean 'cache'?",
    "rewards.short.name=overlog": "command line: rewards.short.name: got 'overlog'; need one of",
    "rewards.short=much": "command line: rewards.short: got 'much' (a str)",
    "rewards.short={weight: 1}": "command line: rewards.short: nothing is named; need one of function, math",
    "stages.rl.rewards.accuracy=.nan": "command line: stages.rl.rewards.accuracy: got nan; need a finite number",
    "task={}": "command line: task: nothing is named; need one of arithmetic, countdown",
    "task.name=arithmatic": "did you mean 'arithmetic'?",
}


@pytest.mark.parametrize("override", WRONG_OVERRIDES)
def test_wrong_overrides(override, message):
    assert WRONG_OVERRIDES[override] in message(FILE, override)


@pytest.mark.parametrize("text", ["", "- a\n"])
def test_a_file_that_is_no_mapping(text, message):
    assert "need a mapping of settings" in message(text)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="no such config file; see configs/"):
        load_config(tmp_path / "none.yaml")
