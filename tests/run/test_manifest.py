"""The manifest names the commit and has a fingerprint of each stage's data."""

import dataclasses
import json
import shutil

import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.programs.pipeline import train
from r1jax.run.loading import load_model
from r1jax.run.manifest import (
    check_checksums,
    check_same_data,
    commit,
    data_fingerprint,
    manifest,
    read_manifest,
    write_checksums,
)
from r1jax.run.run import build_run


def test_fingerprints_change_with_the_data_and_with_nothing_else(tiny_file):
    def fingerprints(*overrides):
        run = build_run(load_config(tiny_file, overrides))
        run.close()
        return [data_fingerprint(stage.batches) for stage in run.stages]

    same = fingerprints()
    assert same[0] == same[1] and len(same[0]) == 32
    assert fingerprints("stages.rl.optimizer.learning_rate=0.5") == same
    other = fingerprints("stages.rl.task={name: arithmetic, max_digits: 1}")
    assert other[0] == same[0] and other[1] != same[1]
    assert fingerprints("seed=1") != same


def test_what_a_manifest_says(tiny_file):
    run = build_run(load_config(tiny_file))
    run.close()
    said = manifest(run.mesh, {"rl": run.stages[1].batches}, {"rl": "ab"}, {"seed": 7, "parameters": 123})
    assert (said["seed"], said["parameters"], said["mesh"]["data"], said["platform"]) == (7, 123, 8, "cpu")
    assert said["commit"] == commit() and len(said["devices"]) == 8 and "jax" in said["versions"]
    assert said["data_fingerprints"] == {"rl": "ab"}
    first = dataclasses.asdict(run.stages[1].batches.example("train", 0))
    assert said["first_examples"] == {"rl": {"prompt": first["prompt"], "answer": first["answer"]}}


def test_a_fingerprint_is_of_every_row_of_a_data_set(tiny_file, tmp_path):
    rows = [{"question": f"{n}+1=", "answer": str(n + 1)} for n in range(300)]
    data = tmp_path / "data.jsonl"
    seen = set()
    for changed in (None, 0, 150, 299):
        now = [row | {"answer": "7"} if n == changed else row for n, row in enumerate(rows)]
        data.write_text("".join(json.dumps(row) + "\n" for row in now))
        run = build_run(load_config(tiny_file, [f"stages.rl.task={{jsonl: {data}}}", "tokenizer=characters"]))
        run.close()
        seen.add(data_fingerprint(run.stages[1].batches))
    assert len(seen) == 4


def test_a_run_is_not_resumed_with_other_data(tmp_path):
    check_same_data(tmp_path, {"rl": "a"}, ["rl"])  # nothing has begun
    (tmp_path / "config.yaml").write_text("")
    for text in (None, "{", "[]", "{}"):
        if text is not None:
            (tmp_path / "manifest.json").write_text(text)
        with pytest.warns(UserWarning, match="missing or damaged"):
            check_same_data(tmp_path, {"rl": "a"}, ["rl"])
    (tmp_path / "manifest.json").write_text('{"data_fingerprints": {"rl": "a", "sft": "b"}}')
    assert read_manifest(tmp_path) == {"data_fingerprints": {"rl": "a", "sft": "b"}}
    assert check_same_data(tmp_path, {"rl": "a", "sft": "c", "more": "d"}, ["rl", "more"]) == ["sft"]
    with pytest.raises(ConfigError, match=r"stages\.sft\.task: its data have changed since the run in .* began"):
        check_same_data(tmp_path, {"rl": "a", "sft": "c"}, ["rl", "sft"])


def test_a_description_that_is_not_as_it_was_written_is_refused(trained, tmp_path):
    """A tokenizer with one other bit would give other tokens, or another vocabulary, without a word."""
    config, folder = trained
    shutil.copytree(folder, tmp_path / "run")
    moved = config.model_copy(update={"run_dir": str(tmp_path / "run")})
    file = tmp_path / "run" / "model" / "tokenizer.json"
    whole = file.read_text()
    file.write_text(whole.replace('"0"', '"x"', 1))
    for use in (lambda: load_model(str(tmp_path / "run")), lambda: train(moved)):
        with pytest.raises(ConfigError, match=rf"{file} is not the file that the run wrote; put that one back, or, if"):
            use()
    file.write_text(whole)
    assert load_model(str(tmp_path / "run")).model.tokenizer.size


def test_checksums_of_a_folder(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(name)
    check_checksums(tmp_path)  # there are none
    write_checksums(tmp_path)
    (tmp_path / ".DS_Store").write_text("of a file manager")
    check_checksums(tmp_path)
    (tmp_path / "added_tokens.json").write_text("more")
    with pytest.raises(ConfigError, match=r"added_tokens\.json is not the file that the run wrote"):
        check_checksums(tmp_path)
    (tmp_path / "added_tokens.json").unlink()
    (tmp_path / "b.json").unlink()
    with pytest.raises(ConfigError, match=r"b\.json is not the file that the run wrote"):
        check_checksums(tmp_path)
    for text in ("{", "{}", "[1]", '{"a.json": 1}'):
        (tmp_path / "checksums.json").write_text(text)
        with pytest.raises(ConfigError, match="is not the file that the run wrote"):
            check_checksums(tmp_path)
