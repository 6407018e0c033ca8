"""`r1jax eval`: scores and transcripts of a checkpoint, on its stage's task or on another one."""

import json
import warnings

import pytest

from r1jax.config.base import ConfigError
from r1jax.evaluate import evaluate_model

BARE = {"run_dir": "runs/x", "model": {"path": "x"}}


def test_scores_and_transcripts_of_a_checkpoint(trained):
    done = []
    scores, file = evaluate_model(
        str(trained[1]),
        ["evaluate.samples=4", "evaluate.problems=10"],
        checkpoint="cold_start",
        progress=lambda *counts: done.append(counts),
    )
    assert file == trained[1] / "eval" / "cold_start-3.jsonl" and done[-1] == (10, 10)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 40
    right = sum(row["rewards"]["accuracy"] for row in rows) / 40
    assert scores["eval/accuracy"] == pytest.approx(right) and "eval/cons@4" in scores
    said = json.loads(file.with_suffix(".json").read_text())
    assert said["scores"] == scores and said["evaluate"]["samples"] == 4 and said["task"]["name"] == "arithmetic"


def test_scores_are_shown_where_transcripts_cannot_be_written(trained, tmp_path):
    (tmp_path / "evals").write_text("no folder")
    with pytest.warns(UserWarning, match=r"the transcripts could not be written to .*evals/eval/rl-3\.jsonl: "):
        scores, file = evaluate_model(str(trained[1]), [f"run_dir={tmp_path / 'evals'}"])
    assert file is None and 0 <= scores["eval/accuracy"] <= 1


def test_another_task(trained, tmp_path):
    """It replaces the run's; the alphabet stays the model's own."""
    block = "{name: arithmetic, max_digits: 1}"
    (tmp_path / "task.yaml").write_text(block)
    for task in (block, str(tmp_path / "task.yaml")):
        _, file = evaluate_model(str(trained[1]), ["evaluate.problems=8"], task)
        assert all(len(json.loads(line)["question"]) == 4 for line in file.read_text().splitlines())
    with pytest.raises(ConfigError, match="is not in the alphabet"):
        evaluate_model(str(trained[1]), ["max_prompt_length=12"], "{name: countdown, numbers: 2}")
    for wrong, message in {
        "gsm9k": r"task: got 'gsm9k' .* need a mapping that names one of",
        "{a: [": "is not valid YAML",
    }.items():
        with pytest.raises(ConfigError, match=message):
            evaluate_model(str(trained[1]), task=wrong)


@pytest.mark.slow
def test_a_file_without_a_test_set_is_warned_of(trained, tmp_path):
    rows = [json.dumps({"question": f"{i % 10}+{i // 10}=", "answer": str(i % 10 + i // 10)}) for i in range(100)]
    (tmp_path / "sums.jsonl").write_text("\n".join(rows))
    overrides, file = ["evaluate.problems=null"], tmp_path / "sums.jsonl"
    with pytest.warns(UserWarning, match="--task has no `test`, so only the part of its rows is answered"):
        _, held_out = evaluate_model(str(trained[1]), overrides, f"{{jsonl: {file}}}")
    with warnings.catch_warnings(action="error"):  # nothing is trained on, so no row is trained on, too
        _, every = evaluate_model(str(trained[1]), overrides, f"{{jsonl: {file}, test: {file}}}")
    assert held_out != every
    assert [len(each.read_text().splitlines()) for each in (held_out, every)] == [14, 200]  # two samples each


def test_well_known_data_sets(trained, tmp_path, monkeypatch):
    """As scripts/get_data.py writes them."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--task gsm8k reads data.gsm8k_test.jsonl, which is not here; scripts"):
        evaluate_model(str(trained[1]), [], "gsm8k")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gsm8k_test.jsonl").write_text('{"question": "1+1=", "answer": "2"}\n' * 3)
    with warnings.catch_warnings(action="ignore"):
        scores, transcripts = evaluate_model(str(trained[1]), ["evaluate.problems=null"], "gsm8k")
    assert "eval/accuracy" in scores and len(transcripts.read_text().splitlines()) == 6
