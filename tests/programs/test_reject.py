import contextlib
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from killed import train_killed
from typer.testing import CliRunner

from r1jax.cli import app
from r1jax.config.base import ConfigError
from r1jax.config.experiment import RejectStage
from r1jax.config.load import load_config
from r1jax.programs.pipeline import train
from r1jax.programs.reject import is_kept
from r1jax.rl.rollout import completion_texts
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings
from r1jax.run.run import build_run, role_key
from r1jax.run.stages import data_file

PIPELINE = """
run_dir: {folder}/run
task: {{name: arithmetic, min_digits: 1, max_digits: 1, direct_share: 1.0}}
model: {{family: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 8,
         num_key_value_heads: 2, head_dim: 8, dtype: float32}}
max_prompt_length: 6
max_completion_length: 12
evaluate: {{problems: 8}}
completions_every: 2
stages:
  - {{name: cold_start, program: sft, steps: 40, prompts_per_step: 32, optimizer: {{learning_rate: 1e-2}}}}
  - {{name: samples, program: reject, steps: 3, prompts_per_step: 16, group_size: 4, keep_per_prompt: 2,
      keep: {{accuracy: 1.0, format: 1.0}}}}
  - {{name: again, program: sft, init_from: base, task: {{stage: samples}}, steps: 2, prompts_per_step: 8,
      optimizer: {{learning_rate: 1e-2}}}}
  - name: student
    program: sft
    init_from: base
    model: {{family: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 8,
             num_key_value_heads: 8, head_dim: 2, dtype: float32}}
    task: {{mixture: [{{weight: 2, task: {{stage: samples}}}}, {{weight: 1, task: {{name: arithmetic}}}}]}}
    max_prompt_length: 8
    max_completion_length: 48
    steps: 2
    prompts_per_step: 8
    optimizer: {{learning_rate: 1e-2}}
"""


def config_of(folder, *overrides):
    (folder / "pipeline.yaml").write_text(PIPELINE.format(folder=folder))
    return load_config(folder / "pipeline.yaml", overrides)


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    config = config_of(tmp_path_factory.mktemp("left_alone"))
    train(config)
    return config


def rows_of(config, name="samples.jsonl"):
    file = Path(config.run_dir) / "data" / name
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_pass_rates_are_those_of_samples_graded_one_by_one(left_alone):
    run = build_run(left_alone)
    stage, expected, kept = run.stage("samples"), [], []
    with contextlib.closing(run), run.devices():
        model = run.loaded(stage, load_model(left_alone.run_dir, checkpoint="cold_start").model.weights)
        sampler = model.sampler(stage.settings, group_size=4, max_new=12)
        for step in range(3):
            prompts = stage.batches.prompts("train", 40 * 32 + 16 * step, np.arange(16))
            key = role_key(run.key, 1, step + 1, "rollout")
            arrays = prompts.prompt_PS, prompts.prompt_length_P, prompts.id_P
            texts = completion_texts(sampler(model.sampling_weights(), *arrays, key), run.tokenizer)
            for p, example in enumerate(prompts.examples):
                group = texts[4 * p : 4 * p + 4]
                right = [stage.batches.task.rewards["accuracy"](example, text) == 1 for text in group]
                form = [text.count(">") == 4 and not text.truncated for text in group]
                expected.append((example.question, sum(right) / 4))
                good = [text for text, r, f in zip(group, right, form, strict=True) if r and f]
                kept += [(example.question, str(text)) for text in good[:2]]
    assert [(row["question"], row["pass_rate"]) for row in rows_of(left_alone, "samples.prompts.jsonl")] == expected
    assert [(row["question"], row["completion"]) for row in rows_of(left_alone)] == kept
    assert len(kept) > 0 and {rate for _, rate in expected} > {0.0, 0.5}
    logged = [row["pass_rate"] for row in read_metrics(Path(left_alone.run_dir)) if row["stage"] == "samples"]
    assert np.mean(logged) == pytest.approx(np.mean([rate for _, rate in expected]))


def test_each_row_says_where_it_comes_from(left_alone):
    by_prompt = defaultdict(list)
    for row in rows_of(left_alone):
        by_prompt[row["question"]].append(row)
        assert (row["stage"], row["model"]) == ("samples", "cold_start")
        assert row["rewards"] == {"accuracy": 1.0, "format": 1.0}
    assert {1, 2, 3} == {row["step"] for rows in by_prompt.values() for row in rows}


def test_later_stages_train_on_what_was_kept(left_alone):
    run = build_run(left_alone)
    run.close()
    questions = {row["question"] for row in rows_of(left_alone)}
    batches = run.stage("again").batches
    assert {batches.example("train", i).question for i in range(batches.size("train"))} == questions
    assert batches.example("test", 3) == run.stage("samples").batches.example("test", 3)
    mixed = run.stage("student").batches
    shares = [mixed.example("train", i).part for i in range(300)]
    assert np.mean(shares) == pytest.approx(1 / 3, abs=0.02)
    student, teacher = (load_model(left_alone.run_dir, checkpoint=name) for name in ("student", "again"))
    assert student.model.model.config.hidden_size == 16 == student.config.model.hidden_size
    assert teacher.model.model.config.hidden_size == 32


@pytest.mark.slow
def test_killed_after_each_row_it_makes_the_same_files(left_alone, tmp_path):
    config = config_of(tmp_path)
    train_killed(config, ("samples", 1), ("samples", 3), ("again", 1), ("student", 1))
    for name in ("samples.jsonl", "samples.prompts.jsonl"):
        whole, resumed = ((Path(c.run_dir) / "data" / name).read_bytes() for c in (left_alone, config))
        assert whole == resumed
    rows = [[without_timings(row) for row in read_metrics(Path(c.run_dir))] for c in (left_alone, config)]
    assert rows[0] == rows[1]
    for stage in ("again", "student"):
        weights = [load_model(c.run_dir, checkpoint=stage).model.weights for c in (left_alone, config)]
        jax.tree.map(np.testing.assert_array_equal, *weights)


@pytest.mark.slow
def test_a_run_in_which_nothing_is_kept_says_that_it_stopped(tmp_path):
    config_of(tmp_path)
    overrides = ["stages.cold_start.steps=1", "stages.samples.keep={format: 2.0}"]
    result = CliRunner().invoke(app, ["train", str(tmp_path / "pipeline.yaml"), *overrides])
    assert result.exit_code == 1
    assert "stopped: stages.samples.keep: none of 192 completions was kept" in result.stderr


def test_a_run_of_rejection_sampling_alone(tmp_path):
    """It has no scores to print, and no policy to sample from."""
    text = PIPELINE[: PIPELINE.index("stages:")].format(folder=tmp_path)
    stage = "{name: samples, program: reject, steps: 1, prompts_per_step: 16, group_size: 4, keep: {format: 0.0}}"
    (tmp_path / "reject.yaml").write_text(f"{text}stages: [{stage}]\n")
    result = CliRunner().invoke(app, ["train", str(tmp_path / "reject.yaml")])
    assert result.exit_code == 0, result.output
    assert "curves: " in result.stdout and "sample from it" not in result.stdout
    assert (tmp_path / "run" / "data" / "samples.jsonl").stat().st_size


def test_a_score_that_no_task_has_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"stages.samples.keep: no reward 'langage'; there are accuracy, format"):
        train(config_of(tmp_path, "stages.samples.keep={accuracy: 1.0, langage: 1.0}"))
    assert not (tmp_path / "run").exists()


def test_filters():
    settings = RejectStage.model_construct(keep={"accuracy": 1.0, "language": 0.9}, code_blocks=False, max_paragraph=20)
    row = {
        "truncated": False,
        "rewards": {"accuracy": 1.0, "language": 0.95},
        "completion": "<think>one line\n\nanother line</think>4",
        "prompt_opens_think": False,
    }
    assert is_kept(row, settings)
    assert not is_kept(row | {"truncated": True}, settings)
    assert not is_kept(row | {"rewards": {"accuracy": 1.0, "language": 0.8}}, settings)
    assert not is_kept(row | {"rewards": {"accuracy": None, "language": 1.0}}, settings)
    assert is_kept(row | {"rewards": {"language": 1.0}}, settings)  # of a part that has no accuracy
    assert not is_kept(row | {"completion": "<think>x\n```python\n1\n```</think>4"}, settings)
    assert is_kept(row | {"completion": "<think>x</think>\n```python\nprint('an answer that is long')\n```"}, settings)
    assert not is_kept(row | {"completion": f"<think>{'x' * 21}</think>4"}, settings)
    assert is_kept(
        row | {"completion": f"<think>{'x' * 21}</think>4"}, settings.model_copy(update={"max_paragraph": None})
    )
    opened = row | {"prompt_opens_think": True, "completion": f"{'x' * 21}</think>4"}
    assert not is_kept(opened, settings)


def test_reasoning_that_the_prompt_opened_is_a_demonstration_in_full(tmp_path):
    """The file has the tag that the prompt wrote, so that any prompt form can be trained on it."""
    from r1jax.programs.reject import graded_rows
    from r1jax.rewards.example import Completion, Example
    from r1jax.rewards.grading import Grades
    from r1jax.rl.rollout import Transcript

    example = Example("1+1=", "2", prompt="1+1=<think>", prompt_opens_think=True)
    text = Completion("2</think>2", length=4, truncated=False)
    grades = Grades(*({"accuracy": v} for v in (np.ones(1, np.float32), np.ones(1, bool), [""], np.zeros(1))))
    settings = RejectStage.model_construct(
        name="s", keep={"accuracy": 1.0}, group_size=1, keep_per_prompt=None, code_blocks=True, max_paragraph=None
    )
    (row,), _ = graded_rows(Transcript([example], [text], grades), settings, 1, "base")
    assert row["completion"] == "<think>2</think>2"
    unopened = Transcript([replace(example, prompt_opens_think=False)], [text], grades)
    assert graded_rows(unopened, settings, 1, "base")[0][0]["completion"] == "2</think>2"


def test_the_file_of_a_stage(tmp_path):
    assert data_file(tmp_path, "samples") == tmp_path / "data" / "samples.jsonl"


def test_a_stage_is_evaluated_on_the_problems_that_were_sampled_on(left_alone, tmp_path):
    """`r1jax eval` of a stage that trained on another's data, which only its run could read."""
    from r1jax.evaluate import evaluate_model

    for stage in ("again", "student"):
        evaluated = load_model(left_alone.run_dir, ["evaluate.problems=6"], checkpoint=stage).config
        assert evaluated.task == left_alone.task if stage == "again" else len(evaluated.task.mixture) == 2
    scores, _ = evaluate_model(left_alone.run_dir, [f"run_dir={tmp_path}"], checkpoint="again")
    rows = [row for row in read_metrics(Path(left_alone.run_dir)) if row["stage"] == "again"]
    assert scores["eval/mean_length"] > 0 and "eval/format" in scores and "eval/format" in rows[-1]


def test_rows_in_python_do_not_replace_what_a_stage_kept(tmp_path):
    from r1jax.api import prepare

    rows = [{"question": f"{i}+1=", "answer": i + 1, "completion": f"<answer>{i + 1}</answer>"} for i in range(60)]
    run = prepare(config_of(tmp_path), data=rows)
    run.close()
    assert [stage.waits_for for stage in run.stages] == [[], [], ["samples"], ["samples"]]
    assert run.stage("samples").batches.size("train") is not None
