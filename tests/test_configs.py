"""Every file of configs/ is a valid experiment that says how to run it."""

import json
from pathlib import Path

import pytest

from r1jax.config.load import load_config
from r1jax.tasks import make_task
from r1jax.training.optimizer import learning_rate

FOLDER = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize(
    "file", sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("free/*.yaml")]), ids=lambda file: file.stem
)
def test_config(file):
    config = load_config(file)
    assert config.stages and config.run_dir == f"runs/{file.stem}"
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert any(f"r1jax train configs/{file.relative_to(FOLDER)}" in line for line in header)


def test_r1_zero_doubles_its_length_after_8200_updates():
    config = load_config(FOLDER / "r1_zero_long.yaml")
    first, second = config.stages
    assert (first.max_completion_length, second.max_completion_length) == (32_768, 65_536)
    assert first.steps == 8_200 // first.minibatches and first.updates + second.updates == 10_400
    assert second.init_from is None  # the stage before
    for stage in (first, second):
        assert (stage.prompts_per_step, stage.group_size, stage.loss.clip_high) == (512, 16, 10.0)
        assert stage.reward_weights == {"accuracy": 1.0, "format": 1.0}


STUDENTS = {  # arXiv 2501.12948v2, table 6
    "Qwen/Qwen2.5-Math-1.5B": 1e-4,
    "Qwen/Qwen2.5-Math-7B": 8e-5,
    "Qwen/Qwen2.5-14B": 7e-5,
    "Qwen/Qwen2.5-32B": 6e-5,
    "meta-llama/Llama-3.1-8B": 5e-5,
    "meta-llama/Llama-3.3-70B-Instruct": 2e-5,
}


def test_r1s_students_have_their_published_settings():
    configs = [load_config(file) for file in FOLDER.glob("distill_*.yaml")]
    students = {config.model.path: config.stages[0] for config in configs if config.model.path is not None}
    assert {path: stage.optimizer.learning_rate for path, stage in students.items()} == STUDENTS
    for stage in students.values():
        assert stage.max_prompt_length + stage.max_completion_length == stage.pack_length == 32_768
        assert stage.prompts_per_step == 64 and 2 <= stage.steps * 64 / 804_745 <= 3
        end = learning_rate(stage.optimizer, stage.updates)(stage.updates)
        assert stage.optimizer.schedule == "cosine" and end == pytest.approx(stage.optimizer.learning_rate / 10)


# Rows as scripts/get_data.py writes them.
QUESTION = {"question": "What is 1 + 2?", "answer": "3"}
ROWS = {
    "gsm8k_train": QUESTION | {"solution": "1 + 2 = 3"},
    "gsm8k_test": QUESTION | {"solution": "1 + 2 = 3"},
    "math_train": QUESTION | {"solution": r"\boxed{3}", "level": "Level 1", "subject": "Algebra"},
    "math_test": QUESTION | {"solution": r"\boxed{3}", "level": 1, "subject": "Algebra"},
    "r1_samples": QUESTION | {"completion": "<think>1 + 2 = 3</think>It is 3."},
}


@pytest.mark.filterwarnings("ignore:.*test questions are trained on")
@pytest.mark.parametrize(
    "file",
    [file for file in sorted(FOLDER.rglob("*.yaml")) if "scripts/get_data.py" in file.read_text()],
    ids=lambda file: file.stem,
)
def test_the_data_that_a_config_names_is_read(file, tmp_path, monkeypatch):
    config = load_config(file)
    (tmp_path / "data").mkdir()
    for name, row in ROWS.items():
        (tmp_path / "data" / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    for stage in config.stages:
        task = make_task(stage.task, 0)
        assert (task.size("train"), task.size("test")) == (1, 1)
        assert stage.program != "sft" or task.example("train", 0).demonstration
