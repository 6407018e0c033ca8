"""Four stages, each with a task, lengths, prompt, rewards and beginning of its own; killed in each of them."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from killed import train_killed

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.programs.pipeline import train
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings
from r1jax.run.run import build_run

STAGES = """
run_dir: {folder}/run
task: {{name: arithmetic, min_digits: 1, max_digits: 1, direct_share: 0.5}}
model: {{family: qwen3, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 8,
         num_key_value_heads: 2, head_dim: 4, dtype: float32}}
max_prompt_length: 8
max_completion_length: 32
evaluate: {{problems: 8}}
completions_every: 1
keep_checkpoints: 1
stages:
  - {{name: cold_start, program: sft, steps: 3, prompts_per_step: 8, optimizer: {{learning_rate: 1e-2}}, save_every: 1}}
  - name: zero
    program: grpo
    init_from: base
    task: {{name: countdown, numbers: 2, max_number: 9}}
    prompt: {{template: "({{question}})"}}
    max_prompt_length: 10
    max_completion_length: 12
    evaluate: {{samples: 2}}
    rewards: {{accuracy: 1.0, format: 0.5}}
    steps: 3
    prompts_per_step: 8
    group_size: 2
    optimizer: {{learning_rate: 1e-3}}
    save_every: 1
  - name: rl
    program: grpo
    init_from: cold_start
    task: {{jsonl: {folder}/sums.jsonl, test: {folder}/sums.jsonl, columns: [digits]}}
    max_completion_length: 16
    rewards: {{accuracy: {{name: exact}}, digits: {{function: "{folder}/mine.py:digits", weight: 0.1}}}}
    steps: 3
    prompts_per_step: 8
    group_size: 4
    minibatches: 2
    kl: {{coef: 0.01}}
    optimizer: {{learning_rate: 1e-3}}
    save_every: 1
  - {{name: last, program: sft, init_from: rl, steps: 2, prompts_per_step: 16, pack_length: 80,
      task: {{name: arithmetic, max_digits: 2}}, max_completion_length: 40, optimizer: {{learning_rate: 1e-2}}}}
"""


@pytest.fixture(scope="module")
def config_of(tmp_path_factory):
    """The config in folders of their own, with the same data."""

    def make(name, *overrides):
        folder = tmp_path_factory.mktemp(name)
        rows = [{"question": f"{i % 7}+{i % 5}=", "answer": str(i % 7 + i % 5), "digits": i % 3} for i in range(24)]
        (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "mine.py").write_text("def digits(example, completion): return float(example.data['digits'])\n")
        (folder / "stages.yaml").write_text(STAGES.format(folder=folder))
        return load_config(folder / "stages.yaml", overrides)

    return make


@pytest.fixture(scope="module")
def left_alone(config_of):
    config = config_of("left_alone")
    train(config)
    return config


def rows_of(config):
    return [without_timings(row) for row in read_metrics(Path(config.run_dir))]


@pytest.mark.slow
def test_each_stage_has_its_own_task_lengths_prompt_and_rewards(left_alone):
    rows = {stage: [row for row in rows_of(left_alone) if row["stage"] == stage] for stage in ("zero", "rl", "last")}
    (zero, *_), (rl, *_) = ([row for row in rows[stage] if "reward" in row] for stage in ("zero", "rl"))
    for row, rewards in ((zero, {"accuracy", "format"}), (rl, {"accuracy", "digits"})):
        assert {name.split("/")[1] for name in row if name.startswith("rewards/")} == rewards
    assert zero["completions/max_length"] <= 12 and rl["completions/max_length"] <= 16
    assert "eval/pass@2" in rows["zero"][0] and "eval/pass@2" not in rows["rl"][0]
    # What is new about a stage is evaluated before it: other weights, or another task.
    assert [rows[stage][0]["step"] for stage in rows] == [0, 0, 0]
    for stage, prompt in (("zero", r"("), ("rl", "")):
        file = next(iter(sorted((Path(left_alone.run_dir) / "completions").glob(f"{stage}-*.jsonl"))))
        assert json.loads(file.read_text().splitlines()[0])["prompt"].startswith(prompt)


def test_stages_begin_with_the_weights_that_init_from_names(left_alone):
    run = build_run(left_alone)
    run.close()
    with run.devices():
        begun = {stage.settings.name: jax.tree.map(np.asarray, run.stage_weights(stage)) for stage in run.stages}
        base = jax.tree.map(np.asarray, run.initial_weights())
    cold_start, rl = (load_model(left_alone.run_dir, checkpoint=name).model.weights for name in ("cold_start", "rl"))
    for name, expected in {"cold_start": base, "zero": base, "rl": cold_start, "last": rl}.items():
        jax.tree.map(np.testing.assert_array_equal, begun[name], jax.tree.map(np.asarray, expected))


@pytest.mark.slow
def test_killed_in_each_stage_it_resumes_to_the_same_bytes(left_alone, config_of):
    config = config_of("killed")
    train_killed(config, ("cold_start", 2), ("zero", 1), ("zero", 3), ("rl", 2), ("last", 1))
    assert rows_of(config) == rows_of(left_alone)
    for name in ("cold_start", "zero", "rl", "last"):
        ours, theirs = (load_model(c.run_dir, checkpoint=name).model.weights for c in (config, left_alone))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    for file in (Path(left_alone.run_dir) / "completions").iterdir():
        assert (Path(config.run_dir) / "completions" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_a_stage_begins_with_another_run(left_alone, tmp_path):
    """From a run folder; one of another architecture or with another tokenizer is refused before any work."""
    last = left_alone.stages[3].model_copy(update={"init_from": left_alone.run_dir})

    def beginning(*before, model=left_alone.model):
        stages = [*(left_alone.stages[number].model_copy(update={"steps": 1}) for number in before), last]
        return left_alone.model_copy(update={"run_dir": str(tmp_path / "run"), "stages": stages, "model": model})

    with pytest.raises(ConfigError, match=r"stages\.last\.init_from: the model of .* has vocab_size=26, this one"):
        train(beginning())  # without countdown the alphabet is smaller
    with pytest.raises(ConfigError, match=r"stages\.last\.init_from: the tokenizer of .* is another one: id \d+"):
        train(beginning(1))  # the same alphabet in another order
    wider = left_alone.model.model_copy(update={"intermediate_size": 64})
    with pytest.raises(ConfigError, match=r"stages\.last\.init_from: the model of .* has intermediate_size=32"):
        train(beginning(0, 1, model=wider))
    assert not (tmp_path / "run").exists()
    run = train(beginning(0, 1))
    with run.devices():
        begun = run.stage_weights(run.stages[2])
    jax.tree.map(np.testing.assert_array_equal, begun, load_model(left_alone.run_dir).model.weights)


@pytest.mark.slow
def test_killed_in_a_stage_of_each_program_it_resumes_to_the_same_bytes(tmp_path):
    pipeline = Path(__file__).parents[1] / "five_programs.yaml"
    whole, killed = (load_config(pipeline, [f"run_dir={tmp_path / name}"]) for name in ("whole", "killed"))
    train(whole)
    train_killed(killed, *((stage.name, min(stage.steps, 5)) for stage in killed.stages))
    assert len({stage.program for stage in killed.stages}) == 5
    assert rows_of(killed) == rows_of(whole)
    assert (tmp_path / "killed/data/samples.jsonl").read_bytes() == (tmp_path / "whole/data/samples.jsonl").read_bytes()
    for stage in (stage.name for stage in killed.stages if stage.makes_policy):
        ours, theirs = (load_model(c.run_dir, checkpoint=stage).model.weights for c in (killed, whole))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
