"""Wrong configs end with one clear line and exit code 2, before any work; a trained run can be used."""

import subprocess
import sys
import types

import numpy as np
import pytest
from typer.testing import CliRunner

from r1jax.cli import _show_warning, app, show_unraisable
from r1jax.programs import pipeline
from r1jax.run import checks

WRONG = {
    "unknown key": (["sed=1"], "sed: unknown key; did you mean 'seed'?"),
    "unknown key in a stage": (["stages.rl.group_sise=4"], "did you mean 'group_size'?"),
    "key of another program": (
        ["stages.cold_start.group_size=4"],
        "stages.cold_start.group_size: unknown key; only stages of program grpo, distill and reject have group_size",
    ),
    "wrong type": (["seed=abc"], "error: command line: seed: got 'abc' (a str)"),
    "fraction of a step": (["stages.rl.steps=1.5"], "got 1.5 (a float)"),
    "text for a number": (["stages.rl.optimizer.learning_rate=fast"], "got 'fast' (a str)"),
    "group of one": (["stages.rl.group_size=1"], "command line: stages.rl: group_size is 1"),
    "scalar for a mapping": (
        ["stages.rl.kl=0.01"],
        "command line: stages.rl.kl: got 0.01 (a float); need a mapping with some of coef, estimator",
    ),
    "unknown key above a value": (
        ["stages.rl.advantge.scale=none"],
        "command line: stages.rl.advantge: unknown key; did you mean 'advantage'?",
    ),
    "two keys that do not go together": (
        ["stages.rl.loss={kind: cispo, dual_clip: 3.0}", "stages.rl.steps=4"],
        "command line: stages.rl.loss: kind cispo has no dual_clip",
    ),
    "no steps": (["stages.rl.steps=0"], "steps: got 0"),
    "best of one checkpoint": (
        ["stages.rl.keep=best", "stages.rl.save_every=0"],
        "keep: best chooses among the checkpoints of save_every",
    ),
    "reward as a text": (["stages.rl.rewards.r=mine.py:f"], "(a str); need a weight, or a block, as in {accuracy: 1.0"),
    "rewards as a list": (["stages.rl.rewards=[accuracy]"], "need names with weights or blocks, as in {accuracy: 1.0"),
    "indivisible minibatches": (["stages.rl.minibatches=5"], "command line: stages.rl: minibatches 5 does not divide"),
    "batch that the devices cannot share": (
        ["stages.rl.prompts_per_step=9", "stages.rl.minibatches=1"],
        "multiple of 8",
    ),
    "microbatch that does not divide": (["stages.cold_start.microbatch=3"], "microbatches of 3"),
    "unknown program": (["stages.rl.program=gpro"], "did you mean 'grpo'?"),
    "unknown task": (["task.name=arithmatic"], "did you mean 'arithmetic'?"),
    "unknown reward": (["stages.rl.rewards={acuracy: 1.0}"], "no reward 'acuracy'; there are accuracy, format"),
    "no rewards": (["stages.rl.rewards={}"], "rewards has none with a weight"),
    "no stages": (["stages=[]"], "stages: got none"),
    "two stages of one name": (["stages.cold_start.name=rl"], "two stages are named rl"),
    "stage that is not there": (["stages.sft.steps=4"], "no entry 'sft'; there are cold_start, rl"),
    "mesh of the wrong size": (["mesh.data=3"], "needs 3 devices and there are 8"),
    "mesh with two free axes": (["mesh.fsdp=-1"], "only one axis may be -1, got data and fsdp"),
    "mesh that does not divide the weights": (
        ["mesh.data=1", "mesh.tensor=8", "model.intermediate_size=36"],
        "tensor=8",
    ),
    "heads that do not divide": (["model.num_key_value_heads=3"], "num_key_value_heads 3 does not divide"),
    "missing tokenizer": (["tokenizer=nowhere"], "nowhere is neither a folder nor a hub id"),
    "tokenizer that is no text": (["tokenizer={path: x}"], "command line: tokenizer: got {'path': 'x'} (a dict)"),
    "prompts over the limit": (["max_prompt_length=3"], "max_prompt_length allows 1 to 3"),
    "worked answers over the limit": (["max_completion_length=8"], "max_completion_length is 8; raise it"),
    "override that is not YAML": (
        ["task={name: x"],
        "command line: task: '{name: x' is not valid YAML; text goes in quotes",
    ),
    "more than the vocabulary": (
        ["stages.rl.top_k=1000"],
        "stages.rl.top_k: 1000 is more than the 20 tokens of the vocabulary; give fewer, or null for all",
    ),
    "samples that are all the same": (["evaluate.temperature=0"], "temperature 0 makes all 2 samples the same"),
    "no task": (["task={}"], "task: nothing is named; need one of arithmetic, countdown, bilingual, tfds"),
    "task of a missing file": (["task={jsonl: nowhere.jsonl}"], "there is no file"),
    "model that is not there": (["model={path: no where}"], "no where is neither a folder nor a hub id"),
    "override without value": (["seed"], "an override is written key=value"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings(case, tiny_file, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "evaluate_stage", lambda *_: pytest.fail("work began"))
    overrides, expected = WRONG[case]
    result = CliRunner().invoke(app, ["train", str(tiny_file), *overrides])
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert expected.split("{line}")[-1] in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["trian", "x"], "error: No such command 'trian'. Did you mean 'train'?; see r1jax -h"),
        (["train"], "error: Missing argument 'config'.; see r1jax train -h"),
        (["train", "--foo", "x"], "error: No such option: --foo; see r1jax train -h"),
        (
            ["sample", "x", "y", "-n", "0"],
            "error: Invalid value for '-n' / '--samples': ",
        ),
        (
            ["sample", "x", "y", "--seed", str(2**32)],
            "error: Invalid value for '--seed': ",
        ),
        (["export", "nowhere", "gs://bucket/out"], "error: OUT: 'gs:/bucket/out' is an address"),
        (["export", "nowhere", "/dev/null/out"], "error: OUT: /dev/null/out cannot be written: /dev/null is no folder"),
        (["eval", "/nope"], "error: /nope: there is no such run and no such model folder"),
        (
            ["plan", "configs/quickstart.yaml", "--topology", "v9:2x2"],
            "error: --topology: got 'v9:2x2'; give a slice of",
        ),
        (
            ["plan", "configs/quickstart.yaml", "--topology", "v5e:2x4", "mesh.data=3"],
            "error: mesh: data=3, fsdp=1, tensor=1, expert=1, context=1 needs 3 devices and there are 8",
        ),
    ],
)
def test_wrong_commands(command, message):
    result = CliRunner().invoke(app, command, prog_name="r1jax")
    assert result.exit_code == 2 and result.stderr.strip().startswith(message)
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_run_folder_that_cannot_be_made_is_refused_before_any_work(tiny_file, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "open_run", lambda *_, **__: pytest.fail("work began"))
    for folder, why in ((tiny_file, "is no folder"), (f"{tiny_file}/x", "is no folder"), ("gs://b/x", "is an address")):
        result = CliRunner().invoke(app, ["train", str(tiny_file), f"run_dir={folder}"])
        assert result.exit_code == 2 and why in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_file_that_cannot_be_read_later_is_one_line(tiny_file, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "weights.safetensors")

    monkeypatch.setattr(pipeline, "open_run", fail)
    result = CliRunner().invoke(app, ["train", str(tiny_file)])
    assert (result.exit_code, result.stderr) == (1, "stopped: weights.safetensors: Permission denied\n")


FILES = {
    "missing file": (None, "no such config file"),
    "empty file": ("", "need a mapping"),
    "not YAML": ("a: [1, 2", "not valid YAML"),
    "tab": ("a:\n\t- 1", ":2: not valid YAML"),
    "stage without a program": (
        "{text}  - name: extra\n    steps: 1\n",
        "tiny.yaml:35: stages.extra.program: this key is required; need one of",
    ),
    "settings that contradict each other": (
        "{text}  - {name: more, program: grpo, steps: 1, prompts_per_step: 8, rewards: {format: 1.0},\n"
        "     optimizer: {learning_rate: 1.0}, group_size: 1}\n",
        "tiny.yaml:36: stages.more: group_size is 1",
    ),
    "misspelt key that is needed": (
        "{text}  - {name: more, program: grpo, steps: 1, prompts_per_step: 8, rewards: {format: 1.0},\n"
        "     optimizer: {learning_rate: 1.0}, groupsize: 4}\n",
        "tiny.yaml:36: stages.more.groupsize: unknown key; did you mean 'group_size'?",
    ),
    "missing key": ("seed: 0\n", "run_dir: this key is required"),
}


@pytest.mark.parametrize("case", FILES)
def test_wrong_files(case, tiny_file):
    text, expected = FILES[case]
    if text is None:
        tiny_file.unlink()
    else:
        tiny_file.write_text(text.replace("{text}", tiny_file.read_text()))
    result = CliRunner().invoke(app, ["train", str(tiny_file)])
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and expected in lines[0]


def test_a_run_is_no_model_to_begin_from(tiny_file, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").write_text("")
    result = CliRunner().invoke(app, ["train", str(tiny_file), f"model={{path: {tmp_path}/old}}"])
    assert result.exit_code == 2 and f"make a model first: r1jax export {tmp_path}/old OUT" in result.stderr


def test_warnings_are_one_line_and_those_of_other_packages_are_hidden(capsys):
    _show_warning(UserWarning("the rate never arrives"), UserWarning, checks.__file__, 1)
    assert capsys.readouterr().err == "warning: the rate never arrives\n"
    _show_warning(DeprecationWarning("old"), DeprecationWarning, np.__file__, 7)
    assert capsys.readouterr().err == ""


def test_a_disk_that_cannot_be_written_is_one_line(tiny_file, tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["train", str(tiny_file), f"run_dir={tmp_path / 'file' / 'run'}"])
    assert result.exit_code in (1, 2) and len(result.stderr.splitlines()) == 1, result.stderr


def test_reads_that_nobody_waits_for_are_not_reported(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "__unraisablehook__", seen.append)
    for text in ("Event loop is closed", "something else"):
        show_unraisable(types.SimpleNamespace(exc_value=RuntimeError(text)))
    assert [str(one.exc_value) for one in seen] == ["something else"]


def test_tasks_that_nobody_waits_for_are_not_reported():
    """As TensorStore's are left when one read of several fails; asyncio tells of them when they are collected."""
    code = """
import asyncio, gc
from r1jax.cli import quieten

async def fail():
    raise ValueError("DATA_LOSS")

async def main():
    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()

asyncio.run(main())
quieten()
asyncio.run(main())
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    assert ended.stderr.count("Task exception was never retrieved") == 1


def test_version_and_help():
    from r1jax import __version__

    assert CliRunner().invoke(app, ["--version"]).stdout == f"r1jax {__version__}\n"
    assert "Commands" in CliRunner().invoke(app, []).output


def test_no_run_to_use(tmp_path):
    for command in (["eval", str(tmp_path)], ["sample", str(tmp_path), "1+1="]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2 and "is neither a run folder" in result.stderr


def test_a_folder_of_something_else_is_left_alone(tiny_file, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("irreplaceable")
    result = CliRunner().invoke(app, ["train", str(tiny_file)])
    assert result.exit_code == 2 and "is not empty and is no run folder" in result.stderr
    assert [f.name for f in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_run_that_stopped_does_not_wait_for_threads():
    """Those of Orbax wait five minutes for each other where one has failed, as on a full disk."""
    code = """
import threading, time
from r1jax import cli

@cli.app.command()
def stop():
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise cli.RunStopped("the disk is full")

cli.main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, "stop"], capture_output=True, text=True, timeout=50, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, "stopped: the disk is full\n")
