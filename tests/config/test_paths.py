"""Paths as users write them, and those that no run can have."""

import os
from pathlib import Path

import pytest
from small_config import FILE

from r1jax.config.base import ConfigError
from r1jax.config.paths import check_folder, expand


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("PROJECT", "maths")
    monkeypatch.delenv("NOWHERE", raising=False)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~/runs", "/home/ann/runs"),
        ("~", "/home/ann"),
        ("$HOME/${PROJECT}/a", "/home/ann/maths/a"),
        ("runs/x", "runs/x"),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("rewards.py:score", "rewards.py:score"),
        ("a~b$", "a~b$"),
        ("naïve 数学", "naïve 数学"),
    ],
)
def test_home_and_environment(path, expected):
    assert expand("run_dir", path) == expected


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gs://bucket/runs", "run_dir: 'gs://bucket/runs' is an address"),
        ("gs:/bucket/runs", "is an address"),  # as pathlib writes it
        ("s3://bucket", "mount the bucket as a folder"),
        ("file:///tmp/x", "is an address"),
        ("$NOWHERE/x", "names an environment variable that is not set: $NOWHERE"),
        ("a/${NOWHERE}", "not set: ${NOWHERE}"),
        ("", "run_dir: '' is not a path"),
        (" ", "is not a path"),
        ("a\0b", r"run_dir: 'a\x00b' is not a path"),
        ("a\nb", "is not a path"),
    ],
)
def test_what_is_no_path(path, message):
    with pytest.raises(ConfigError) as error:
        expand("run_dir", path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_every_path_of_a_config_is_expanded(load):
    text = FILE.replace("runs/x", "~/runs/$PROJECT").replace("    program: sft", "    program: sft\n    init_from: ~/a")
    overrides = [
        "tokenizer=~/t",
        "task={jsonl: $PROJECT/train.jsonl, test: ~/test.jsonl}",
        "decontaminate=[~/aime.jsonl, {parquet: ~/math.parquet, answer: null}]",
        "rewards.own={function: ~/rewards.py:score}",
        "stages.rl.model={path: ~/m}",
        "prompt.template=~/{question} costs $5",  # no path
    ]
    config = load(text, *overrides)
    assert config.run_dir == "/home/ann/runs/maths" and config.tokenizer == "/home/ann/t"
    assert (config.task.jsonl, config.task.test) == ("maths/train.jsonl", "/home/ann/test.jsonl")
    assert config.decontaminate[0].jsonl == "/home/ann/aime.jsonl"
    assert config.decontaminate[1].parquet == "/home/ann/math.parquet"
    assert config.rewards["own"].function == "/home/ann/rewards.py:score"
    assert config.stages[0].init_from == "/home/ann/a" and config.stages[1].model.path == "/home/ann/m"
    assert config.prompt.template == "~/{question} costs $5"


@pytest.mark.parametrize("override", ["run_dir=gs://b/x", "task={jsonl: gs://b/x}", "model={path: gs://b/x}"])
def test_an_address_is_refused_where_it_stands(override, message):
    key = override.partition("=")[0]
    assert message(FILE, override).startswith(key) and "is an address" in message(FILE, override)


def test_folders_that_can_be_made_are_left_as_they_are(tmp_path):
    check_folder("run_dir", str(tmp_path))
    check_folder("run_dir", str(tmp_path / "a" / "b"))
    assert [*tmp_path.iterdir()] == []


def test_folders_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for folder in ("file", "file/run", "file/a/b", "link", "link/run"):
        with pytest.raises(
            ConfigError, match=r"^run_dir: .* cannot be written: .* is no folder; choose another folder$"
        ):
            check_folder("run_dir", str(tmp_path / folder))
    if Path("/proc/self").exists():
        with pytest.raises(ConfigError, match=r"^run_dir: /proc/run cannot be written: /proc is not writable"):
            check_folder("run_dir", "/proc/run")
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(ConfigError, match=r"not writable \(Permission denied\)"):
            check_folder("run_dir", str(tmp_path / "closed" / "run"))
