"""Models of run folders and of Hugging Face folders load without task, data or log."""

import json
import shutil

import jax
import numpy as np
import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.programs.pipeline import train
from r1jax.run.loading import find_checkpoint, find_finished, load_model


@pytest.fixture(scope="module")
def without_data(tmp_path_factory):
    """A run on a JSONL file and with a reward function of a file, both of which are gone."""
    from tiny import TINY

    folder = tmp_path_factory.mktemp("gone")
    rows = [{"question": f"{i}+1=", "answer": str(i + 1), "worked": str(i + 1)} for i in range(40)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.py").write_text("def short(example, completion): return -float(len(completion))\n")
    text = TINY.format(folder=folder / "run").splitlines()
    task = f"task: {{jsonl: {folder}/sums.jsonl, completion: worked}}"
    lines = [task if line.startswith("task:") else line for line in text]
    (folder / "tiny.yaml").write_text("\n".join(lines))
    rewards = f"stages.rl.rewards={{accuracy: 1.0, short: {{function: '{folder}/mine.py:short'}}}}"
    train(load_config(folder / "tiny.yaml", ["stages.cold_start.steps=1", "stages.rl.steps=1", rewards]))
    for gone in ("sums.jsonl", "mine.py"):
        (folder / gone).unlink()
    return folder / "run"


@pytest.mark.slow
def test_a_run_is_used_after_its_data_is_gone(without_data, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from r1jax.cli import app

    monkeypatch.setattr("r1jax.tasks.make_task", lambda *_, **__: pytest.fail("a task was made"))
    result = CliRunner().invoke(app, ["sample", str(without_data), "1+1=", "-n", "2", "--max-tokens", "4"])
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2, result.output
    result = CliRunner().invoke(app, ["export", str(without_data), str(tmp_path / "out"), "--dtype", "float32"])
    assert result.exit_code == 0, result.output
    ours, theirs = load_model(str(without_data)).model, load_model(str(tmp_path / "out")).model
    assert ours.tokenizer.encode("1+1=") == theirs.tokenizer.encode("1+1=")
    rows = ours.tokenizer.size  # rows that pad the vocabulary are not exported
    for ours_leaf, theirs_leaf in zip(*(jax.tree.leaves(model.weights) for model in (ours, theirs)), strict=True):
        np.testing.assert_array_equal(np.asarray(ours_leaf)[:rows], np.asarray(theirs_leaf)[:rows])
    result = CliRunner().invoke(app, ["chat", str(without_data)])
    assert result.exit_code == 2 and "its tokenizer has no chat template, so it cannot chat; use " in result.stderr


def test_the_settings_are_those_of_the_checkpoints_stage(trained):
    loaded = load_model(str(trained[1]), ["evaluate.samples=3"], checkpoint="cold_start")
    assert loaded.name == "cold_start-3" and loaded.config.stages == []
    assert (loaded.config.evaluate.problems, loaded.config.evaluate.samples) == (12, 3)
    assert loaded.config.max_completion_length == 32 and loaded.config.task.name == "arithmetic"


def test_checkpoints_by_name(trained, tmp_path):
    folder, stages = trained[1], ["cold_start", "rl"]
    assert find_checkpoint(folder, stages) == ("rl", 3)
    for name, found in {"2": ("rl", 2), "cold_start": ("cold_start", 3), "cold_start-2": ("cold_start", 2)}.items():
        assert find_checkpoint(folder, stages, name) == found
    with pytest.raises(ConfigError, match="has no checkpoint '7'; there are cold_start-2, cold_start-3, rl-2, rl-3"):
        find_checkpoint(folder, stages, "7")
    shutil.copytree(folder, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(ConfigError, match=r"has no checkpoint yet; train it with: r1jax train .*config\.yaml"):
        load_model(str(tmp_path / "run"))


def test_what_cannot_be_loaded(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is no such run and no such model folder"):
        load_model("runs/nope")
    with pytest.raises(ConfigError, match="model, tokenizer and stages of a trained run are fixed"):
        load_model(str(trained[1]), ["stages.rl.steps=3"])
    with pytest.raises(ConfigError, match=r"^model: 'gs://bucket/run' is an address"):
        load_model("gs://bucket/run")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=f"^{tmp_path}/empty is neither a run folder"):
        load_model("~/empty")


def test_no_earlier_checkpoint_takes_the_place_of_a_finished_stage(trained, tmp_path):
    config, folder = trained
    assert find_finished(folder, config, "cold_start") == ("cold_start", 3)
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "cold_start" / "3")
    assert find_checkpoint(tmp_path / "run", ["cold_start"]) == ("cold_start", 2)
    with pytest.raises(
        ConfigError, match="has no checkpoint of step 3, the last one of stage cold_start, whose weights"
    ):
        find_finished(tmp_path / "run", config, "cold_start")
