"""configs/objectives: every preset gives a stage its published values, and the stage's own keys win."""

from pathlib import Path

import pytest
import yaml
from tiny import TINY

from r1jax.config.base import ConfigError
from r1jax.config.load import dump_config, load_config
from r1jax.config.objective import LossSettings

FOLDER = Path(__file__).parents[2] / "configs" / "objectives"
GRPO = {"advantage.baseline": "mean", "advantage.scale": "group", "loss.kind": "grpo", "loss.reduce": "sequence_mean"}
R1 = GRPO | {
    "prompts_per_step": 512,
    "group_size": 16,
    "minibatches": 16,
    "temperature": 1.0,
    "kl.coef": 0.001,
    "kl.estimator": "k3",
    "kl.place": "loss",
    "optimizer.learning_rate": 3e-6,
    # A step of r1jax is a rollout, the papers' is one of its 16 updates.
    "kl.sync_reference_every": 400 // 16,
}
DAPO_SAMPLING = {"dynamic_sampling.reward": "accuracy", "kl.coef": 0.0}
# What is published: DeepSeekMath 4.2, R1 v2 2 and 3.2.1, DAPO 4.1, Dr. GRPO table 6, GSPO 5.1, MiniMax-M1 3.1 and 3.2,
# RLOO 2402.14740, R1 v2 A.3.
PUBLISHED = {
    "deepseekmath": GRPO
    | {
        "prompts_per_step": 1024 // 64,
        "group_size": 64,
        "minibatches": 1,
        "kl.coef": 0.04,
        "kl.estimator": "k3",
        "kl.place": "loss",
        "optimizer.learning_rate": 1e-6,
    },
    "r1_zero": R1,
    "r1_stage1": R1 | {"loss.clip_low": 10.0, "loss.clip_high": 10.0},
    "dapo": GRPO
    | DAPO_SAMPLING
    | {
        "loss.reduce": "token_mean",
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.28,
        "prompts_per_step": 512,
        "group_size": 16,
        "minibatches": 512 * 16 // 512,
        "optimizer.learning_rate": 1e-6,
        "optimizer.warmup_updates": 20 * 16,
        "optimizer.schedule": "constant",
    },
    "dr_grpo": GRPO
    | {
        "advantage.scale": "none",
        "loss.reduce": "constant_length",
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.2,
        "kl.coef": 0.0,
        "group_size": 8,
        "temperature": 1.0,
        "optimizer.learning_rate": 1e-6,
        "optimizer.schedule": "constant",
        "optimizer.b2": 0.95,
        "optimizer.weight_decay": 0.0,
        "optimizer.max_grad_norm": 1.0,
    },
    "gspo": GRPO
    | {"loss.kind": "gspo", "loss.clip_low": 3e-4, "loss.clip_high": 4e-4, "kl.coef": 0.0, "minibatches": 4},
    "cispo": GRPO
    | DAPO_SAMPLING
    | {
        "loss.kind": "cispo",
        "loss.reduce": "token_mean",
        "loss.clip_low": 1.0,  # no ratio is below 0
        "minibatches": 16,
        "optimizer.b2": 0.95,
        "optimizer.eps": 1e-15,
    },
    "rloo": {
        "advantage.baseline": "leave_one_out",
        "advantage.scale": "none",
        "loss.kind": "reinforce",
        "loss.reduce": "constant_length",
        "loss.clip_low": None,
        "loss.clip_high": None,
        "kl.estimator": "k1",
        "kl.place": "reward",
        "group_size": 4,
        "minibatches": 1,
    },
    "ppo": {
        "value.gae_lambda": 1.0,
        "loss.kind": "grpo",
        "loss.reduce": "sequence_mean",
        "kl.estimator": "k1",
        "kl.place": "reward",
    },
}
# What the papers leave open, and was chosen here; the header of each file says so.
CHOSEN = {
    "deepseekmath": {"loss.clip_low": 0.2, "loss.clip_high": 0.2, "temperature": 1.0},
    "r1_zero": {"loss.clip_low": 10.0, "loss.clip_high": 10.0},
    "r1_stage1": {},
    "dapo": {"temperature": 1.0, "dynamic_sampling.max_batches": 10},
    "dr_grpo": {},
    "gspo": {"temperature": 1.0},
    "cispo": {"loss.clip_high": 4.0, "temperature": 1.0, "dynamic_sampling.max_batches": 10},
    "rloo": {"kl.coef": 0.05, "temperature": 1.0},
    "ppo": {
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.2,
        "kl.coef": 0.001,
        "advantage.scale": "batch",
        "temperature": 1.0,
    },
}
SOURCES = {
    "deepseekmath": "2402.03300",
    "r1_zero": "2501.12948",
    "r1_stage1": "2501.12948",
    "dapo": "2503.14476",
    "dr_grpo": "2503.20783",
    "gspo": "2507.18071",
    "cispo": "2506.13585",
    "rloo": "2402.14740",
    "ppo": "2501.12948",
}


def flat(tree, prefix=""):
    """{a: {b: 1}} → {"a.b": 1}."""
    out = {}
    for key, value in tree.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


@pytest.fixture
def stage_file(tmp_path):
    """Writes a config with one GRPO stage of a preset and a few keys of its own; returns its path."""

    def write(preset, **own):
        config = yaml.safe_load(TINY.format(folder=tmp_path))
        stage = {"name": "rl", "program": "grpo", "steps": 2, "rewards": {"accuracy": 1.0}, "preset": str(preset)}
        config["stages"] = [stage | own]
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(config))
        return file

    return write


@pytest.fixture
def preset_file(tmp_path):
    def write(text):
        (tmp_path / "preset.yaml").write_text(text)
        return tmp_path / "preset.yaml"

    return write


def needed(name):
    """What a preset leaves to the stage and a stage has to have."""
    own = {"prompts_per_step": 16, "group_size": 4, "optimizer.learning_rate": 1e-3}
    own = {key: value for key, value in own.items() if key not in PUBLISHED[name]}
    rate = own.pop("optimizer.learning_rate", None)
    return own | ({"optimizer": {"learning_rate": rate}} if rate else {})


def test_all_presets_are_here():
    assert {file.stem for file in FOLDER.iterdir()} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_values(name, stage_file):
    config = load_config(stage_file(FOLDER / f"{name}.yaml", **needed(name)))
    stage = flat(config.stages[0].model_dump())
    expected = PUBLISHED[name] | CHOSEN[name]
    assert {key: stage[key] for key in expected} == expected
    assert (config.stages[0].dynamic_sampling is None) == (name not in ("dapo", "cispo"))
    assert (config.stages[0].value is None) == (name != "ppo")
    assert config.stages[0].importance_sampling is None
    # No line of a preset is without a value above; truncated is open everywhere.
    given = flat(yaml.load((FOLDER / f"{name}.yaml").read_text(), yaml.BaseLoader))
    assert set(given) - set(expected) == {"truncated"}
    assert stage["truncated"] == "keep"


@pytest.mark.parametrize("name", PUBLISHED)
def test_header(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    header = text[: text.index("\n", text.rindex("\n#") + 1)]
    assert SOURCES[name] in header.splitlines()[0]
    assert f"preset: configs/objectives/{name}.yaml" in header
    assert "chosen here" in header.lower()
    assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize("name", PUBLISHED)
def test_on_the_quickstart(name):
    once = ["stages.rl.minibatches=1"] if name == "rloo" else []
    config = load_config(FOLDER.parent / "quickstart.yaml", [f"stages.rl.preset={FOLDER / name}.yaml", *once])
    before, after = load_config(FOLDER.parent / "quickstart.yaml", once).stages[1], config.stages[1]
    for key in ("steps", "prompts_per_step", "group_size", "minibatches", "rewards", "eval_every"):
        assert getattr(after, key) == getattr(before, key)
    assert after.optimizer.learning_rate == 6e-4 and after.optimizer.schedule == "linear"
    assert after.loss.kind == PUBLISHED[name]["loss.kind"]
    assert config.stages[0] == load_config(FOLDER.parent / "quickstart.yaml").stages[0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_resolved_config_needs_no_preset(name, stage_file, tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text((FOLDER / f"{name}.yaml").read_text())
    config = load_config(stage_file(preset, **needed(name)))
    preset.unlink()
    text = dump_config(config)
    assert "preset" not in text.replace(str(tmp_path), "")
    (tmp_path / "resolved.yaml").write_text(text)
    assert load_config(tmp_path / "resolved.yaml") == config


def test_own_keys_win_and_nested_ones_singly(stage_file):
    own = {"loss": {"clip_high": 0.5}, "optimizer": {"learning_rate": 1.0}, "group_size": 2, "dynamic_sampling": None}
    stage = load_config(stage_file(FOLDER / "dapo.yaml", **own)).stages[0]
    assert stage.loss.clip_high == 0.5 and stage.loss.clip_low == 0.2 and stage.loss.reduce == "token_mean"
    assert stage.optimizer.learning_rate == 1.0 and stage.optimizer.warmup_updates == 320
    assert stage.group_size == 2 and stage.prompts_per_step == 512
    assert stage.dynamic_sampling is None


def test_a_loss_of_another_kind_keeps_all_but_the_clips(stage_file):
    loss = (
        load_config(stage_file(FOLDER / "dapo.yaml", **(needed("dapo") | {"loss": {"kind": "cispo"}}))).stages[0].loss
    )
    assert loss == LossSettings(kind="cispo", reduce="token_mean")
    assert loss.clip_high == 4.0


def test_the_command_line_wins(stage_file):
    file = stage_file(FOLDER / "r1_zero.yaml")
    dr_grpo = FOLDER / "dr_grpo.yaml"
    overrides = [f"stages.rl.preset={dr_grpo}", "stages.rl.loss.clip_high=0.3", "stages.rl.prompts_per_step=4"]
    stage = load_config(file, overrides).stages[0]
    assert stage.loss.reduce == "constant_length" and stage.kl.coef == 0
    assert (stage.loss.clip_low, stage.loss.clip_high, stage.prompts_per_step) == (0.2, 0.3, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group_sise: 4", "stages.rl.group_sise: unknown key; did you mean 'group_size'?"),
        ("kl: {coeff: 0.1}", "stages.rl.kl.coeff: unknown key; did you mean 'coef'?"),
        ("group_size: 4\nkl:\n  coef: -1", "preset.yaml:3: stages.rl.kl.coef: got -1"),
        ("kl: {coef: 0.1, estimator: k1}", "preset.yaml:1: stages.rl.kl: estimator k1 has an expected gradient"),
        ("preset: other.yaml", "it names a preset itself"),
        ("loss: {kind: dapo}", "stages.rl.loss.kind: got 'dapo'"),
        ("- {group_size: 4}", "preset.yaml: need a mapping of settings, got a list"),
        ("loss: [", "preset.yaml:1: not valid YAML"),
    ],
)
def test_wrong_presets(text, message, stage_file, preset_file):
    own = {"prompts_per_step": 4, "group_size": 4, "optimizer": {"learning_rate": 1e-3}}
    preset = preset_file(text)
    with pytest.raises(ConfigError) as error:
        load_config(stage_file(preset, **own))
    assert message in str(error.value)


def test_a_misspelt_key_of_a_preset_comes_before_one_that_is_missing(stage_file, preset_file):
    preset = preset_file("group_size: 4\noptimizer: {learning_rate: 1e-3}\nprompts_per_stepp: 8")
    with pytest.raises(ConfigError, match=r"preset\.yaml:3: stages\.rl\.prompts_per_stepp: unknown key; did you mean"):
        load_config(stage_file(preset))


def test_missing_file(stage_file, tmp_path):
    with pytest.raises(ConfigError, match=r"stages\.rl\.preset: no such file: .*none\.yaml; see configs/objectives/"):
        load_config(stage_file(tmp_path / "none.yaml"))


@pytest.mark.parametrize("name", ["dapo", "cispo"])
def test_dynamic_sampling_needs_accuracy(name, stage_file):
    with pytest.raises(ConfigError, match=r"dynamic_sampling\.reward is 'accuracy', and rewards has format"):
        load_config(stage_file(FOLDER / f"{name}.yaml", **(needed(name) | {"rewards": {"format": 1.0}})))
