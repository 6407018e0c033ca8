"""Pretrained models and real data through the whole program: train on each kind of data, evaluate, chat, export."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from r1jax.cli import app
from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.evaluate import evaluate_model
from r1jax.programs.pipeline import train
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics
from r1jax.run.run import open_run

PROBLEMS = Path(__file__).parent.parent / "word_problems.jsonl"
CONFIG = """
run_dir: {folder}/run
task: {task}
prompt: {{chat: true}}
model: {{path: {model}, dtype: float32}}
max_prompt_length: 200
max_completion_length: 8
evaluate: {{problems: 8}}
stages:
  - name: rl
    program: grpo
    steps: 2
    prompts_per_step: 8
    group_size: 2
    rewards: {{accuracy: 1.0, format: 0.1}}
    optimizer: {{learning_rate: 1e-3}}
"""
GYM = "{{gym: {name}, size: 32, arguments: {arguments}}}"
SUMS = GYM.format(name="chain_sum", arguments="{max_terms: 2, max_digits: 1}")
JSONL = f"{{jsonl: {PROBLEMS}, test: {PROBLEMS}, answer_after: '####'}}"
PARTS = (JSONL, SUMS, GYM.format(name="basic_arithmetic", arguments="{max_terms: 2, max_digits: 1}"))
TASKS = {
    "chain_sum": SUMS,
    "parquet": "{parquet: {folder}/rows.parquet, test: {folder}/rows.parquet, question: chat, answer: gold}",
    "tfds": "{tfds: {tfds}, answer: n}",
    "jsonl, two generators and arithmetic": "{mixture: ["
    + ", ".join("{weight: 1, task: " + part + "}" for part in PARTS)
    + ", {weight: 2, task: {name: arithmetic, max_digits: 2}}]}",
}


def config_file(folder, model, task="chain_sum", tfds=None):
    block = TASKS[task].replace("{folder}", str(folder)).replace("{tfds}", str(tfds))
    file = folder / "config.yaml"
    file.write_text(CONFIG.format(folder=folder, task=block, model=model))
    return file


@pytest.mark.slow
def test_a_stage_does_not_begin_with_a_folder_of_another_architecture(pretrained, tmp_path):
    """All its tensors have the right shapes, and the positions turn at other frequencies."""
    other = shutil.copytree(pretrained, tmp_path / "other")
    described = json.loads((other / "config.json").read_text())
    file = config_file(tmp_path, pretrained)
    open_run(load_config(file, [f"stages.rl.init_from={other}", f"run_dir={tmp_path / 'same'}"])).close()
    (other / "config.json").write_text(json.dumps(described | {"rope_theta": 1_000_000.0}))
    with pytest.raises(ConfigError, match=r"stages\.rl\.init_from: the model of .*other has rope_theta=1000000\.0"):
        open_run(load_config(file, [f"stages.rl.init_from={other}"]))


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task in TASKS if task != "chain_sum"])
def test_every_kind_of_data_trains(task, pretrained, request, tmp_path):
    if task == "parquet":
        parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        rows = {
            "chat": [[{"role": "user", "content": f"{i}+1?"}] for i in range(12)],
            "gold": [i + 1 for i in range(12)],
        }
        parquet.write_table(pyarrow.table(rows), tmp_path / "rows.parquet")
    tfds = request.getfixturevalue("prepared") / "sums" / "1.0.0" if task == "tfds" else None
    run = train(load_config(config_file(tmp_path, pretrained, task, tfds)))
    rows = read_metrics(tmp_path / "run")
    assert [r["step"] for r in rows if "reward" in r] == [1, 2]
    assert all(0 <= r["eval/accuracy"] <= 1 for r in rows if "eval/accuracy" in r)
    completion = json.loads((tmp_path / "run" / "completions" / "rl-000002.jsonl").read_text().splitlines()[0])
    assert completion["prompt"].startswith("user: ") and completion["prompt"].endswith("<think>")
    assert run.stages[0].batches.example("train", 0).prompt_opens_think


@pytest.fixture(scope="module")
def tuned(pretrained, tmp_path_factory):
    """A run on a pretrained model whose folder is gone afterwards, and the weights it began with."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copytree(pretrained, folder / "model")
    train(load_config(config_file(folder, folder / "model")))
    shutil.rmtree(folder / "model")
    return folder / "run"


@pytest.mark.slow
def test_a_run_works_without_its_pretrained_model(tuned):
    runner = CliRunner()
    result = runner.invoke(app, ["eval", str(tuned), "evaluate.problems=1"])
    assert result.exit_code == 0, result.output
    assert json.loads((tuned / "eval" / "rl-2.json").read_text())["scores"].keys() >= {"eval/accuracy", "eval/format"}
    result = runner.invoke(app, ["sample", str(tuned), "1 + 1 ="])
    assert result.exit_code == 0, result.output
    result = runner.invoke(app, ["chat", str(tuned)], input="1 + 1 =\nand 2?\n/new\nhello\n")
    assert result.exit_code == 0 and result.stdout.count("> ") == 5, result.output


def test_export_is_the_run(tuned, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["export", str(tuned), str(out), "--dtype", "float32"])
    assert result.exit_code == 0, result.output
    assert {f.name for f in out.iterdir()} >= {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja",
    }  # fmt: skip
    trained, again = load_model(str(tuned)), load_model(str(out))
    jax.tree.map(np.testing.assert_array_equal, trained.model.weights, again.model.weights)
    ours, theirs = trained.model.tokenizer, again.model.tokenizer
    assert ours.encode("<think>1+1</think>") == theirs.encode("<think>1+1</think>")
    assert ours.stop_ids == theirs.stop_ids and again.config.prompt.chat
    result = CliRunner().invoke(app, ["export", str(tuned), str(out)])
    assert result.exit_code == 2 and "exists and is not empty" in result.stderr
    result = CliRunner().invoke(app, ["export", str(tuned), str(tmp_path / "x"), "--dtype", "int8"])
    assert result.exit_code == 2 and "need one of float32, bfloat16, float16" in result.stderr


def test_eval_of_a_pretrained_model(pretrained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["eval", str(pretrained)])
    assert result.exit_code == 2 and "--task is needed" in result.stderr
    runner, small = CliRunner(), ["max_completion_length=4", "evaluate={samples: 2, temperature: 1.0}"]
    result = runner.invoke(app, ["eval", str(pretrained), "--task", JSONL, *small])
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in ("accuracy", "format", "pass@2", "cons@2", "mean_length"))
    (file,) = (tmp_path / "evals" / pretrained.name / "eval").glob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    questions = [json.loads(line)["question"] for line in PROBLEMS.read_text().splitlines()]
    assert [row["prompt"] for row in rows[::2]] == [f"user: {q}\n<think>" for q in questions]


def test_longer_prompts_are_dropped_with_a_count(pretrained, tmp_path):
    task = f"task={{jsonl: '{PROBLEMS}', test: '{PROBLEMS}', answer_after: '####'}}"
    config = load_config(config_file(tmp_path, pretrained), ["max_prompt_length=100", task])
    with pytest.warns(UserWarning, match=r"dropped \d+ of 20 train examples: \d+ have prompts over max_prompt_length"):
        batches = open_run(config).stages[0].batches
    assert batches.dropped["train"] + batches.size("train") == 20
    assert batches.prompt_lengths("train", batches.size("train")).max() <= batches.width["train"] <= 100


BROKEN = {
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), [], "no tokenizer.json"),
    "truncated weights": (lambda m: cut(m / "model.safetensors"), [], "a truncated or broken safetensors file"),
    "wrong shapes": (lambda m: change(m / "config.json", intermediate_size=48), [], "config.json asks [16, 48]"),
    "tokenizer of another model": (lambda m: change(m / "config.json", vocab_size=50), [], "embedding 50 rows"),
    "template for ever": (
        lambda m: (m / "chat_template.jinja").write_text("{% for a in range(99999) %}{% for b in range(99999) %}"
        "{% endfor %}{% endfor %}"), [], "the chat template of",
    ),
    "template that reads files": (
        lambda m: (m / "chat_template.jinja").write_text("{% include '/etc/passwd' %}"), [], "the chat template of",
    ),
    "bad line": (lambda m: (m.parent / "d.jsonl").write_text('{"question": "1?", "answer": 1}\n{oops\n'),
        ["task={jsonl: DATA}"], "d.jsonl:2: not a JSON object"),
    "empty data": (lambda m: (m.parent / "d.jsonl").write_text(""), ["task={jsonl: DATA}"], "no rows to train on"),
    "less data than a batch": (
        lambda m: (m.parent / "d.jsonl").write_text('{"question": "1?", "answer": 1}\n' * 3),
        ["task={jsonl: DATA, test: DATA}"], "8 prompts a step, and the task has 3 to train on",
    ),
    "no such builder": (lambda m: None, ["task={tfds: no_such_data}"], "no_such_data"),
    "no such generator": (lambda m: None, ["task={gym: chain_summ}"], "the nearest are chain_sum"),
    "no template": (lambda m: (m / "chat_template.jinja").unlink(), [], "has no chat template; set prompt.chat=false"),
}  # fmt: skip


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("case", BROKEN)
def test_broken_input_is_one_clear_error(case, pretrained, tmp_path, monkeypatch):
    if case == "template for ever":
        monkeypatch.setattr("r1jax.text.chat_template.RENDER_SECONDS", 0.5)
    breaks, overrides, message = BROKEN[case]
    shutil.copytree(pretrained, tmp_path / "model")
    breaks(tmp_path / "model")
    file = config_file(tmp_path, tmp_path / "model")
    overrides = [o.replace("DATA", str(tmp_path / "d.jsonl")) for o in overrides]
    result = CliRunner().invoke(app, ["train", str(file), *overrides])
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and message in lines[0], result.stderr
    assert not (tmp_path / "run").exists()


def test_a_model_needs_no_config_to_be_read_twice(pretrained):
    """A pretrained model comes with its own tokenizer and spare rows, and without a task."""
    loaded = load_model(str(pretrained))
    model, embed_VD = loaded.model, np.asarray(loaded.model.weights["embed_VD"])
    assert loaded.name == pretrained.name and loaded.config.task is None
    assert model.model.config.vocab_size == model.tokenizer.size + 10
    assert embed_VD.shape[0] >= model.model.config.vocab_size and not embed_VD[-1].any()
    with pytest.raises(ConfigError, match="null means all, and this task's problems have no end"):
        evaluate_model(str(pretrained), task="{name: arithmetic}")
