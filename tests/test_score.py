"""`r1jax reward`: saved completions, scored with the rewards of a config without a model."""

import json

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from r1jax.cli import app
from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.score import config_of, disagreements, score_file, show

ROWS = [
    {"answer": "3", "completion": "<think>1+2</think><answer>3</answer>", "length": 12},
    {"answer": "3", "completion": "<answer>3</answer>", "length": 8, "source": "book"},
    {"answer": "3", "completion": "<think>x</think><answer>4</answer>", "length": 30, "truncated": True},
    {"answer": "3", "completion": "no idea", "length": 2},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "saved.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    return path


def test_scores_weights_and_reasons(file, tiny_file):
    scored = score_file(file, load_config(tiny_file))
    assert scored.grades.scores["accuracy"].tolist() == [1, 1, 0, 0]
    assert scored.grades.scores["format"].tolist() == [1, 0, 1, 0]
    assert scored.grades.reasons["format"] == ["", "missing_think", "", "missing_think"]
    np.testing.assert_allclose(scored.total, [1.2, 1.0, 0.2, 0.0])  # the stage's weights
    assert scored.examples[1].data == {"source": "book"} and scored.texts[2].truncated
    pairs = [(high, low, rows.tolist()) for high, low, rows in disagreements(scored.grades.scores)]
    assert sorted(pairs) == [("accuracy", "format", [1]), ("format", "accuracy", [2])]


def test_a_reward_of_weight_0_is_in_no_sum(tmp_path, tiny_file):
    (tmp_path / "none.py").write_text("def none(example, completion):\n    return None\n")
    saved = tmp_path / "saved.jsonl"
    saved.write_text(json.dumps(ROWS[0]))
    more = [f"rewards={{mine: {{function: {tmp_path}/none.py:none}}}}", "stages.rl.rewards.mine=0"]
    scored = score_file(saved, load_config(tiny_file, more))
    assert np.isnan(scored.grades.scores["mine"]).all()
    np.testing.assert_allclose(scored.total, [1.2])


def test_in_a_mixture_each_line_is_scored_by_the_rewards_of_its_part(tmp_path, tiny_file):
    """The second part lacks accuracy; what lacks a reward of its own scores as None."""
    (tmp_path / "none.py").write_text("def none(example, completion):\n    return None\n")
    lacking = f"{{accuracy: null, mine: {{function: {tmp_path}/none.py:none}}}}"
    parts = (
        f"[{{weight: 1, task: {{name: arithmetic}}}}, {{weight: 1, task: {{name: arithmetic}}, rewards: {lacking}}}]"
    )
    saved = tmp_path / "saved.jsonl"
    saved.write_text("\n".join(json.dumps(ROWS[0] | {"part": part}) for part in (0, 1)))
    overrides = [f"task={{mixture: {parts}}}", "stages.rl.rewards={accuracy: 1.0, format: 0.2}"]
    scored = score_file(saved, load_config(tiny_file, overrides))
    np.testing.assert_allclose(scored.total, [1.2, 0.2])
    assert scored.grades.applies["accuracy"].tolist() == [True, False]
    scored = score_file(saved, load_config(tiny_file, [*overrides, "stages.rl.rewards.mine=1.0"]))
    np.testing.assert_allclose(scored.total, [1.2, np.nan])
    console = Console(width=160, record=True)
    show(scored, console)
    (line,) = [line.split() for line in console.export_text().splitlines() if " mine " in line]
    assert line[1:11:2] == ["mine", "1", "0", "1", "-"]  # weight, scored, none, mean


def test_the_command_shows_it(file, tiny_file):
    more = "rewards={overlong: {name: overlong, cache: 10}, mine: {function: no.py:f}}"
    result = CliRunner().invoke(app, ["reward", str(file), "--config", str(tiny_file)], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    for part in (
        "4 completions",
        "accuracy",
        "missing_think 2",
        "best, line 1",
        "worst, line 4",
        "disagree",
        "gold: 3",
    ):
        assert part in result.stdout, part
    result = CliRunner().invoke(app, ["reward", str(file), more, "--config", str(tiny_file)])
    assert (
        result.exit_code == 2
        and "rewards.mine: the reward no.py:f: there is no file no.py, neither here" in result.stderr
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no completions; a line is"),
        ("{", r"saved\.jsonl:1: not a JSON object"),
        ('{"completion": "a"}\n[1]', r"saved\.jsonl:2: no text under the key completion"),
        ('{"completion": 3}', r"no text under the key completion; got"),
        ('{"completion": "a", "length": "12"}', r"saved\.jsonl:1: length is a number of tokens, got '12'"),
    ],
)
def test_files_that_cannot_be_read(text, message, file, tiny_file):
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        score_file(file, load_config(tiny_file))
    with pytest.raises(ValueError, match="cannot be read"):
        score_file(file.parent / "absent.jsonl", load_config(tiny_file))
    with pytest.raises(ConfigError, match="is a folder; give one of the files in it"):
        score_file(file.parent, load_config(tiny_file))


def test_lines_end_where_json_lines_do(file, tiny_file):
    rows = [{"completion": "a\u2028b\x85", "answer": None, "length": None, "data": "its column"}, {"completion": "c"}]
    file.write_text(
        "\n".join(json.dumps(row | {"answer": row.get("answer") or "1"}, ensure_ascii=False) for row in rows)
    )
    scored = score_file(file, load_config(tiny_file))
    assert [*scored.texts] == ["a\u2028b\x85", "c"] and scored.examples[0].data == {"data": "its column"}


def test_a_run_writes_files_that_it_reads(trained):
    config, folder = trained
    (saved,) = (folder / "completions").glob("rl-000002.jsonl")
    rows = [json.loads(line) for line in saved.read_text().splitlines()]
    scored = score_file(saved, config)
    for name in ("accuracy", "format"):
        assert scored.grades.scores[name].tolist() == [row["rewards"][name] for row in rows]


def test_a_file_of_a_run_finds_the_runs_config(trained, tmp_path, file):
    _, folder = trained
    saved = folder / "completions" / "rl-000002.jsonl"
    assert config_of(saved) == (folder / "config.yaml").resolve()
    assert config_of(file) is None
    result = CliRunner().invoke(app, ["reward", str(saved)], env={"COLUMNS": "120"})
    assert result.exit_code == 0 and "32 completions" in result.stdout


def test_the_stage_that_a_file_is_named_after_gives_the_weights(tmp_path, tiny_file):
    text = tiny_file.read_text()
    stage = text[text.index("  - name: rl") :]
    other = stage.replace("name: rl", "name: rl2").replace("format: 0.2", "format: 0.5")
    tiny_file.write_text(text + other)
    for name, total in (("rl-000010", 1.2), ("rl2-000010", 1.5), ("saved", 1.5)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(ROWS[0]))
        np.testing.assert_allclose(score_file(tmp_path / f"{name}.jsonl", load_config(tiny_file)).total, [total])
