"""The Python API: load, generate, log-probs, train with Python functions and rows, and a step by hand."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from omegaconf import OmegaConf
from tiny import TINY

import r1jax
from r1jax.api import _settings
from r1jax.config.base import ConfigError
from r1jax.config.load import parse_config, settings_tree
from r1jax.programs.grpo import Trainer, step_metrics


def short(example, completion):
    return -len(completion) / 100


def config_of(folder, *overrides):
    tree = OmegaConf.to_container(OmegaConf.create(TINY.format(folder=folder / "run")))
    return r1jax.load_config(tree, ["stages.cold_start.steps=1", *overrides])


def test_import_is_quick_and_touches_no_device():
    code = "import sys, r1jax; dir(r1jax); print(r1jax.__version__, {'jax', 'flax', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{r1jax.__version__} set()\n"
    with pytest.raises(AttributeError, match=r"has no attribute 'lode'; it has .*load"):
        _ = r1jax.lode


@pytest.mark.slow
def test_train_with_a_python_function_and_rows(tmp_path):
    rows = [{"question": f"{i % 7}+{i % 9}=", "answer": str(i % 7 + i % 9), "completion": "1"} for i in range(64)]
    config, seen = config_of(tmp_path, "stages.rl.steps=2", "stages.rl.rewards={accuracy: 1.0}"), []
    config = config.model_copy(update={"tokenizer": None})
    run = r1jax.train(config, rewards={"short": short}, data=rows, on_log=seen.append)
    table = run.metrics
    assert [(row["stage"], row["step"]) for row in table.rows] == [
        ("cold_start", 0), ("cold_start", 1), ("rl", 1), ("rl", 2)
    ]  # fmt: skip
    assert len(seen) == 6  # the evaluations of cold_start 1 and rl 2 are rows of their own in the file
    assert "eval/accuracy" in table.rows[1] and "loss" in table.rows[1]
    assert table.stage("rl")["rewards/short/mean"].max() <= 0
    (kept, *_) = run.completions()
    assert kept["stage"] == "rl" and kept["step"] == 1 and kept["rewards"].keys() == {"accuracy", "short"}
    assert kept["question"] in {row["question"] for row in rows}
    assert run.config.task.jsonl == str(run.folder / "data.jsonl")
    assert len(run.model().generate("1+2=", samples=2)) == 2
    again = r1jax.train(config, rewards={"short": short}, data=rows)
    assert again.metrics.rows == table.rows
    with pytest.raises(ConfigError, match="was started with other data"):
        r1jax.train(config, rewards={"short": short}, data=rows[:32])


def test_with_rows_a_config_needs_no_task(tmp_path):
    tree = OmegaConf.to_container(OmegaConf.create(TINY.format(folder=tmp_path / "run")))
    del tree["task"]
    rows = [{"question": f"{i}+1=", "answer": i + 1, "completion": "1"} for i in range(64)]
    run = r1jax.prepare(tree, data=rows)
    run.close()
    assert run.stage("rl").batches.example("train", 0).question in {row["question"] for row in rows}
    with pytest.raises(ConfigError, match="task: this key is required"):
        r1jax.prepare(tree)


@pytest.mark.slow
def test_rows_stand_in_for_the_tasks_of_stages_too(tmp_path):
    rows = [{"question": f"{i}+1=", "answer": i + 1, "completion": "1"} for i in range(64)]
    config = config_of(tmp_path, "stages.rl.task={name: countdown}", "stages.rl.max_prompt_length=20")
    trained = r1jax.train(config, data=rows, overrides=["stages.rl.steps=1"])
    run = r1jax.prepare(config, data=rows)
    run.close()
    for built in (trained, run):
        assert built.config.stages[1].task == built.config.task
    assert trained.completions()[0]["question"] in {row["question"] for row in rows}
    assert run.stage("rl").first_example == 16


def test_rows_that_cannot_be_used_are_not_written(tmp_path):
    rows = [{"question": f"{i}+1=", "answer": i + 1, "completion": "1"} for i in range(64)]
    with pytest.raises(ConfigError, match="data, row 3: no column 'answer'"):
        r1jax.train(config_of(tmp_path), data=[*rows[:2], {"question": "3+1=", "completion": "1"}, *rows[3:]])
    assert not (tmp_path / "run").exists()


def test_a_function_that_no_stage_names_has_weight_one(tmp_path):
    config = config_of(tmp_path, "stages.rl.rewards={accuracy: 1.0, named: 0.25}")
    run = r1jax.prepare(config, rewards={"short": short, "named": short})
    run.close()
    assert run.stage("rl").settings.reward_weights == {"accuracy": 1.0, "named": 0.25, "short": 1.0}
    assert not (tmp_path / "run").exists()


def test_a_reward_that_is_only_defined_stays_without_a_weight(tmp_path):
    config = config_of(tmp_path, "rewards={repeated: {name: repetition}, language: {name: language, weight: 0.5}}")
    named = _settings(config, {"short": short}, None, ())
    assert named.stages[1].reward_weights == {"accuracy": 1.0, "format": 0.2, "short": 1.0}
    assert parse_config(settings_tree(named)) == named  # as a run reads it from its folder
    shared = parse_config(settings_tree(config), ["stages.rl.rewards=null"])
    named = _settings(shared, {"short": short, "repeated": short}, None, ())
    assert named.stages[1].reward_weights == {"language": 0.5, "short": 1.0, "repeated": 1.0}
    assert parse_config(settings_tree(named)) == named


def test_overrides_of_a_config_reach_stages_with_blocks_of_their_own(tmp_path):
    config = config_of(tmp_path, "stages.rl.evaluate={samples: 4}")
    run = r1jax.prepare(config, overrides=["evaluate.problems=3"])
    run.close()
    evaluate = run.stage("rl").settings.evaluate
    assert (evaluate.problems, evaluate.samples) == (3, 4)


@pytest.mark.slow
def test_a_step_by_hand_is_the_step_of_a_run(tmp_path):
    """GRPO without a run folder: the same rollout and the same weights as `train`, bit for bit."""
    from r1jax.training.state import init_state

    config = config_of(tmp_path, "stages.rl.steps=1")
    run = r1jax.prepare(config)
    stage = run.stage("rl")
    trained = r1jax.train(config)
    with run.devices():
        begun = r1jax.load(tmp_path / "run", checkpoint="cold_start").model.weights
        trainer = Trainer(run, stage)
        state = init_state(trainer.abstract, trainer.optimizers, begun)
        collected = trainer.collect(state, step=1)
        order, layouts = trainer.minibatches(collected, step=1)
        batch, prepared = trainer.prepare(state, collected, layouts[0])
        updates = []
        for index, (rows_B, layout) in enumerate(zip(order, layouts[1:], strict=True)):
            state, metrics = trainer.update(state, batch, rows_B, layout, index, collected.batches)
            updates.append(metrics)
    run.close()
    expected = trained.metrics.stage("rl").rows[0]
    for name, value in step_metrics(prepared, collected.metrics, updates).items():
        if not name.startswith("time/"):
            assert np.isnan(value) or value == expected[name], name
    jax.tree.map(np.testing.assert_array_equal, state.params, trained.model().model.weights)
