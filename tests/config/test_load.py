"""A config file read and written: overrides, line numbers, whether file or command line is to blame, what is meant."""

import os
from pathlib import Path

import pytest
import yaml
from small_config import FILE

from r1jax.config.base import ConfigError
from r1jax.config.load import dump_config, load_config, parse_config

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("free/*.yaml")])
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


TEXTS = [
    "Write ${answer}$ last: {question}",
    r"$\frac{1}{2}$ and \$ {question}",
    r"\${a} \\${b} \\\${ ${ {question}",
    "{question}\\",
    "{question} '\" : # - %\t\n\n",
    "{question} é 数 😀\u2028\x85",
]


@pytest.mark.parametrize("text", [*TEXTS, *(f"${{{text}" for text in TEXTS)])
def test_any_text_is_read_back_as_it_was_given(text, tmp_path, load):
    tree = yaml.safe_load(FILE.replace("1e-3", "0.001"))
    config = parse_config(tree | {"prompt": {"template": text}, "table": {"$\\frac{1}{2}$ ${x}": "rl"}})
    (tmp_path / "run.yaml").write_text(dump_config(config), encoding="utf-8")
    again = load_config(tmp_path / "run.yaml")
    assert again == config and again.prompt.template == text
    assert dump_config(again) == dump_config(config)


@pytest.mark.parametrize(
    "text", ["1e-3", "010", "null", "~", "yes", "1:30", "0x1F", "2020-01-01", "???", "1_000", ".inf"]
)
def test_a_text_that_looks_like_something_else_stays_a_text(text, tmp_path):
    config = parse_config(yaml.safe_load(FILE.replace("1e-3", "0.001")) | {"wandb_project": text})
    (tmp_path / "run.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "run.yaml").wandb_project == text


def test_references_are_resolved_once_and_overrides_are_text(load):
    text = FILE.replace("runs/x", r"runs/${seed}").replace(
        "prompt: {template: r1}", r"prompt: {template: '\${seed} {question}'}"
    )
    config = load(text + "seed: 3\n", "wandb_project='${seed}'", "table={'${x}': rl}")
    assert config.run_dir == "runs/3" and config.prompt.template == "${seed} {question}"
    assert config.wandb_project == "${seed}" and config.table == {"${x}": "rl"}
    again = load(dump_config(config))
    assert again == config
    assert load(dump_config(again)) == config


def test_a_reference_that_names_nothing_says_how_to_write_the_text(message):
    expected = r"${KEY} is another key's value, ${oc.env:NAME} an environment variable, and \${ the text"
    assert expected in message(FILE.replace("runs/x", "${nothing}"))
    assert expected in message(FILE.replace("runs/x", "${"))


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
    "stages.rl.rewards.accuracy=1e300": "command line: stages.rl.rewards.accuracy: got 1e+300; need a finite number",
    "stages.rl.rewards.accuracy=2e6": "command line: stages.rl.rewards.accuracy: got 2000000.0 (a float); input should",
    "stages.rl.temperature=.inf": "command line: stages.rl.temperature: got inf; need a finite number",
    "stages.rl.temperature=1e-9": "command line: stages.rl: temperature 1e-09 is greedy but for rounding errors",
    "stages.rl.optimizer.learning_rate=1e400": "stages.rl.optimizer.learning_rate: got inf; need a finite number",
    "stages.rl.optimizer.learning_rate=1e-300": "got 1e-300; need a finite number, 0 or of a size from 1e-30 to 1e+12",
    "stages.rl.loss.clip_high=.inf": "command line: stages.rl.loss.clip_high: got inf; need a finite number",
    "stages.rl.loss.kind=[1]": "command line: stages.rl.loss.kind: got [1] (a list)",
    "max_completion_length=10000000000": "max_completion_length: got 1e+10; need at most 10,000,000",
    "model.hidden_size=100000000": "model.hidden_size: got 1e+08; need at most 1,000,000, which no batch and no model",
    "stages.rl.group_size=100000000": "stages.rl.group_size: got 1e+08; need at most 1,000,000",
    "stages.rl.steps=10000000000": "stages.rl.steps: got 1e+10; need at most 2,147,483,647",
    "seed=4294967296": "seed: got 4.29497e+09; need at most 4,294,967,295, since larger ones repeat",
    "seed=1000000000000000000000": "seed: got 1e+21; need at most 4,294,967,295",
    "seed=010": "command line: seed: 010 is not decimal in YAML",
    "stages.rl.name=3": "command line: stages.1.name: got 3 (a int); input should be a valid string",
    "stages.rl=3": "command line: stages.1: got 3 (a int); need a mapping that names one of sft, grpo",
    "task={}": "command line: task: nothing is named; need one of arithmetic, countdown",
    "task.name=arithmatic": "did you mean 'arithmetic'?",
}


@pytest.mark.parametrize("override", WRONG_OVERRIDES)
def test_wrong_overrides(override, message):
    assert WRONG_OVERRIDES[override] in message(FILE, override)


FILES = {
    b"": "need a mapping of settings, got an empty file",
    b"# nothing\n": "need a mapping of settings, got an empty file",
    b"- a\n": "need a mapping of settings, got a list",
    b"3": "need a mapping of settings, got '3'",
    b"true": "need a mapping of settings, got 'true'",
    b"seed": "need a mapping of settings, got 'seed'",
    b"{}": "run_dir: this key is required",
    b"\xff\xfe": "not UTF-8 text (invalid start byte at byte 0); save it as UTF-8",
    "seed: 1".encode("utf-16-le"): "not valid YAML: special characters are not allowed",
    b"a: \xe9": "not UTF-8 text",
    b"a: 1\n---\nb: 2": "config.yaml:2: not valid YAML",
    b"[" * 500 + b"]" * 500: "nested too deeply to be a config",
    b"x: " + b"{a: " * 500 + b"}" * 500: "nested too deeply to be a config",
    b"run_dir: x\n1: 2": "config.yaml:2: the key '1' is not a string; put it in quotes",
    b"null: 2": "the key 'null' is not a string",
    b"rewards: {true: 2}": "the key 'true' is not a string",
    b"? [a]\n: 2": "is not a string",
    b"run_dir: x\nseed: 010": "config.yaml:2: 010 is not decimal in YAML; leave out leading zeros",
    b"seed: 1:30": "config.yaml:1: 1:30 is not decimal in YAML",
    rb'prompt: {template: "{question} \boxed{}"}': r"config.yaml:1: the text has the control character at",
    rb'prompt: {template: "{question} \theta"}': "put the text in single quotes",
    rb'prompt: {template: "{question}\rightarrow"}': "put the text in single quotes",
    rb'run_dir: "a\0b"': r"run_dir: 'a\x00b' is not a path",
    b"a: &a [*a]": "not valid YAML",
    b"seed: 1\nseed: 2": "duplicate key",
}


@pytest.mark.parametrize("content", FILES)
def test_files_that_are_no_config(content, tmp_path):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "config.yaml")
    assert FILES[content] in str(error.value) and "\n" not in str(error.value)


def test_aliases_that_would_fill_the_memory(message):
    lines = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 12))
    assert "config.yaml:" in message(f"x0: &x0 [1, 2]\n{lines}\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "config.yaml").write_text(FILE)
    (tmp_path / "config.yaml").chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_config(tmp_path / "config.yaml")


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="no such config file; see configs/"):
        load_config(tmp_path / "none.yaml")
