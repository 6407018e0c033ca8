"""What is wrong with a config is one line: where it is, whether file or command line is to blame, what was meant."""

import pytest
import yaml
from small_config import FILE

from r1jax.config.base import ConfigError
from r1jax.config.load import parse_config

WRONG_FILES = {
    ("seed", "task:", "sed: 1\ntask:"): "config.yaml:2: sed: unknown key; did you mean 'seed'?",
    ("deep", "head_dim: 8", "head_dim: 8.5"): "config.yaml:10: model.head_dim: got 8.5 (a float)",
    ("stage", "group_size: 4", "groupsize: 4"): (
        "config.yaml:26: stages.rl.groupsize: unknown key; did you mean 'group_size'? (and 1 more)"
    ),
    ("key of another program", "    steps: 2\n", "    steps: 2\n    group_size: 4\n"): (
        "config.yaml:20: stages.cold_start.group_size: unknown key; only stages of program grpo have group_size"
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
        "config.yaml:23: stages.rl.program: got 'gpro', need one of 'sft', 'grpo'; did you mean 'grpo'?"
    ),
    (
        "no kind",
        "    program: grpo\n",
        "",
    ): "config.yaml:22: stages.rl.program: this key is required; give one of sft, grpo",
    ("reward's key", "cache: 4", "cash: 4"): "config.yaml:13: rewards.short.cash: unknown key; did you mean 'cache'?",
    ("reward named like another", "short: {name: overlong, cache: 4}", "code: {name: format, stile: think_answer}"): (
        "config.yaml:13: rewards.code.stile: unknown key; did you mean 'style'?"
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
