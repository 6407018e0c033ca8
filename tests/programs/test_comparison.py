"""The table of stages: scores are those of `r1jax eval` on the same problems, and only what is missing is evaluated."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.programs import comparison
from r1jax.programs.pipeline import train
from r1jax.run.comparison import read_comparison
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics
from r1jax.run.run import build_run

CONFIG = """
run_dir: {folder}/run
task:
  mixture:
    - {{name: sums, weight: 1, task: {{name: bilingual, domains: [sums], max_level: 1}}}}
    - {{name: general, weight: 1, task: {{name: bilingual, domains: [general]}}, rewards: {{accuracy: null}}}}
rewards: {{repetition: {{name: repetition}}}}
model: {{family: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 8,
         num_key_value_heads: 2, head_dim: 8, dtype: float32}}
max_prompt_length: 12
max_completion_length: 36
evaluate: {{problems: 16, temperature: 0.0}}
table: {{Start: early, End: late}}
stages:
  - {{name: early, program: sft, steps: 2, prompts_per_step: 8, optimizer: {{learning_rate: 1e-2}}}}
  - {{name: late, program: sft, steps: 8, prompts_per_step: 8, optimizer: {{learning_rate: 1e-2}}}}
"""


def config_of(folder, *overrides):
    (folder / "c.yaml").write_text(CONFIG.format(folder=folder))
    return load_config(folder / "c.yaml", overrides)


@pytest.mark.slow
def test_stages_are_compared_on_the_same_problems_and_only_once(tmp_path, monkeypatch):
    config, calls, evaluate = config_of(tmp_path), [], comparison.evaluate

    def counted(*arguments, **settings):
        calls.append(1)
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(comparison, "evaluate", counted)
    train(config)
    found = read_comparison(Path(config.run_dir))
    assert [*found] == ["Start", "End"] and len(calls) == 2
    assert load_model(config.run_dir).name == "late-8"
    assert [(entry["stage"], entry["step"]) for entry in found.values()] == [("early", 2), ("late", 8)]
    # Greedy, a stage's own evaluation of the same task has the same scores.
    for entry in found.values():
        (own,) = [
            row
            for row in read_metrics(Path(config.run_dir))
            if row["stage"] == entry["stage"] and row["step"] == entry["step"] and "eval/format" in row
        ]
        shared = entry["scores"].keys() & own.keys()
        assert {"eval/accuracy", "eval/accuracy/sums", "eval/repetition", "eval/mean_length"} <= shared
        for name in shared:
            assert entry["scores"][name] == pytest.approx(own[name], nan_ok=True)
        graded = [a for a in entry["accuracies"] if a is not None]  # the general part has no golds
        assert len(entry["accuracies"]) == 16 and 0 < len(graded) < 16
        assert sum(graded) / len(graded) == pytest.approx(own["eval/accuracy"])
    assert found["Start"]["scores"] != found["End"]["scores"]
    file = tmp_path / "run" / "comparison.json"
    file.write_text(json.dumps({"Start": found["Start"]}))
    train(config)  # a run that was killed between the two
    assert len(calls) == 3 and read_comparison(Path(config.run_dir)) == found
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "late")
    train(config)  # what is trained again is compared again
    assert len(calls) == 4
    calls.pop()
    renamed = config_of(tmp_path, "table={Last: late, Start: early}")
    train(renamed)
    assert [*read_comparison(Path(config.run_dir))] == ["Last", "Start"] and len(calls) == 4


@pytest.mark.slow
def test_base_is_the_model_before_training(tmp_path):
    config = config_of(tmp_path, "table={Base: base, Start: early}", "stages.early.optimizer.learning_rate=1e-30")
    train(config)
    base, start = read_comparison(Path(config.run_dir)).values()
    assert (base["stage"], base["step"]) == ("base", 0)
    assert base["scores"] == start["scores"] and base["accuracies"] == start["accuracies"]


def test_functions_of_python_grade_the_table_and_prompts_are_the_stages_own(tmp_path):
    config = config_of(tmp_path, "table={End: late}", 'stages.late.prompt.template="?{question}"')
    seen = []

    def mine(example, completion):
        seen.append(example.prompt)
        return 0.25

    train(config, functions={"mine": mine})
    assert read_comparison(Path(config.run_dir))["End"]["scores"]["eval/mine"] == pytest.approx(0.25)
    assert all(prompt.startswith("?") for prompt in seen[-16:])


def test_stages_that_would_not_answer_the_same_problems_are_refused(tmp_path):
    """A longer form of prompt drops other problems, and then neither scores nor their differences compare."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"question": f"{n}+1=", "answer": n + 1}) + "\n" for n in (3, 123, 5, 77, 8)))
    overrides = [f"task={{jsonl: {file}, test: {file}}}", "evaluate.problems=4"]
    overrides += [f"stages.{name}.task={{name: arithmetic}}" for name in ("early", "late")]
    overrides += ['stages.late.prompt.template="1+{question}"']  # of 6 to 8 tokens
    with contextlib.closing(build_run(config_of(tmp_path, *overrides, "max_prompt_length=8"))) as run:
        comparison.check_comparison(run)
    message = r"max_prompt_length: 7 tokens .* prompts of early or of late, which"
    short = build_run(config_of(tmp_path, *overrides, "max_prompt_length=7"))
    with contextlib.closing(short), pytest.raises(ConfigError, match=message):
        comparison.check_comparison(short)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["table={Start: erly}"], "table: 'erly' is no stage that trains a policy; there are base, early, late"),
        (["max_prompt_length=2"], "max_prompt_length allows 1 to 2"),
        (["evaluate.problems=null"], "evaluate.problems: null means all"),
    ],
)
def test_a_table_that_could_not_be_made_is_refused_before_anything_runs(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        train(config_of(tmp_path, *overrides))
    assert not (tmp_path / "run" / "checkpoints").exists()
