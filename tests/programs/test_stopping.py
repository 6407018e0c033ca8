"""A run that is stopped, lengthened or damaged ends as one that was left alone, or says what is wrong."""

import os
import runpy
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from r1jax.cli import app
from r1jax.config.base import RunStopped
from r1jax.config.load import load_config
from r1jax.programs import steps
from r1jax.programs.grpo import Trainer
from r1jax.programs.pipeline import _saved_steps, train
from r1jax.rl import rollout
from r1jax.run.interrupt import Interrupted, StopSignals
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings
from r1jax.training.checkpoint import Checkpoints

SCRIPT = Path(__file__).parents[2] / "scripts" / "damage_test.py"
STAGES = """[
  {name: first, program: sft, steps: 3, prompts_per_step: 8, optimizer: {learning_rate: 1e-2}},
  {name: samples, program: reject, steps: 3, prompts_per_step: 8, group_size: 2, keep: {accuracy: 0.0}}]"""


def weights_of(folder):
    return jax.tree.map(np.asarray, load_model(str(folder)).model.weights)


def assert_same(folder, other):
    rows, others = ([without_timings(row) for row in read_metrics(f)] for f in (folder, other))
    assert rows == others
    jax.tree.map(np.testing.assert_array_equal, weights_of(folder), weights_of(other))


@pytest.fixture
def heeded():
    """Tests may run in a job in the background, which ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_recompilation_ends_the_run_with_a_checkpoint(trained, tmp_path):
    config, folder = trained
    config = config.model_copy(update={"run_dir": str(tmp_path / "run"), "recompilation": "error"})

    def forget(row):
        if (row["stage"], row["step"]) == ("rl", 1) and "loss" in row:
            jax.clear_caches()

    with (
        pytest.warns(UserWarning, match="which has run before"),
        pytest.raises(RunStopped, match=r"which has run before.*recompilation: error"),
    ):
        train(config, on_log=forget)
    with Checkpoints(tmp_path / "run" / "checkpoints" / "rl") as checkpoints:
        assert checkpoints.latest() == 1
    train(config)
    assert_same(tmp_path / "run", folder)


@pytest.mark.slow
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_in_every_stage(number, trained, tmp_path, capsys):
    config, folder = trained
    config = config.model_copy(update={"run_dir": str(tmp_path / "run")})
    stopped = []

    def stop(row):
        """In the second steps of both stages; the row of the second is logged in the third."""
        if row["step"] == 2 and "loss" in row and row["stage"] not in stopped:
            stopped.append(row["stage"])
            os.kill(os.getpid(), number)
            time.sleep(0.1)  # until the thread has read it

    for stage in ("cold_start", "rl"):
        with pytest.raises(Interrupted) as caught:
            train(config, on_log=stop, handle_signals=True)
        assert stopped[-1] == stage and caught.value.exit_code == 128 + number
        assert str(caught.value).endswith("the same command resumes it from what is saved")
        with Checkpoints(tmp_path / "run" / "checkpoints" / stage) as checkpoints:
            assert checkpoints.latest() == 2
    assert "stopping with a checkpoint, after this step or its rollout" in capsys.readouterr().err
    train(config)
    assert_same(folder, tmp_path / "run")


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(
    ("owner", "part", "saved"),
    [(rollout, "grade", 1), (Trainer, "update", 2), (steps, "evaluate", 2), (Checkpoints, "save", 2)],
)
def test_a_signal_in_any_part_of_a_step_saves_a_checkpoint(owner, part, saved, trained, tmp_path, monkeypatch):
    """SIGTERM in step 2 of RL, while it grades, updates, evaluates or saves; nothing is lost but the step in flight."""
    config, folder = trained
    first, rl = config.stages
    rl = rl.model_copy(update={"save_every": 2 if part == "save" else 0})
    config = config.model_copy(update={"run_dir": str(tmp_path / "run"), "stages": [first, rl]})
    rows, sent, signals, whole = [], [], [], getattr(owner, part)
    monkeypatch.setattr(StopSignals, "__init__", lambda self: signals.append(self))

    def stop(*arguments, **more):
        """What is only dispatched is still at work when the signal comes."""
        result = whole(*arguments, **more)
        if rows and rows[-1]["stage"] == "rl" and not sent:  # as step 1 has been
            sent.append(os.kill(os.getpid(), signal.SIGTERM))
            deadline = time.monotonic() + 60
            while signals[-1].received is None and time.monotonic() < deadline:
                time.sleep(0.01)
        return result

    with monkeypatch.context() as patched, pytest.raises(Interrupted) as caught:
        patched.setattr(owner, part, stop)
        train(config, on_log=rows.append, handle_signals=True)
    assert sent and caught.value.exit_code == 143
    with Checkpoints(tmp_path / "run" / "checkpoints" / "rl") as checkpoints:
        assert checkpoints.latest() == saved
    train(config)
    assert_same(folder, tmp_path / "run")


@pytest.mark.parametrize(("moment", "saved"), [(1, None), (2, 1), (3, 2)])
def test_a_signal_during_a_rollout_saves_what_was_before_it(moment, saved, trained, tmp_path, monkeypatch):
    """The rest of a step may take longer than the notice of a pre-emption."""
    config, folder = trained
    config = config.model_copy(update={"run_dir": str(tmp_path / "run")})
    collect, steps = rollout.collect, iter(range(1, 9))
    monkeypatch.setattr(StopSignals, "received", None)

    def stop(*arguments):
        if next(steps) == moment:
            StopSignals.received = signal.SIGTERM
        return collect(*arguments)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(rollout, "collect", stop)
        train(config)
    with Checkpoints(tmp_path / "run" / "checkpoints" / "rl") as checkpoints:
        assert checkpoints.latest() == saved
    StopSignals.received = None
    train(config)
    assert_same(folder, tmp_path / "run")


def test_a_stage_that_samples_data_stops_after_a_step(tiny_file, tmp_path, monkeypatch):
    config = load_config(tiny_file, [f"stages={STAGES}", "evaluate.problems=4"])
    monkeypatch.setattr(StopSignals, "received", None)

    def stop(row):
        if (row["stage"], row["step"]) == ("samples", 2):
            StopSignals.received = signal.SIGTERM

    with pytest.raises(Interrupted):
        train(config, on_log=stop)
    assert len([*(tmp_path / "run" / "data" / "samples").glob("*")]) == 2
    assert not (tmp_path / "run" / "data" / "samples.jsonl").exists()


def test_the_command_line_says_so(tiny_file, tmp_path, monkeypatch):
    monkeypatch.setattr(StopSignals, "received", signal.SIGTERM)
    result = CliRunner().invoke(app, ["train", str(tiny_file)])
    assert result.exit_code == 143
    assert result.stderr.splitlines()[-1].startswith(f"interrupted: {tmp_path / 'run'}: the same command resumes it")


@pytest.mark.slow
def test_minutes_save_a_checkpoint_too(tiny_file, tmp_path):
    overrides = ["stages.cold_start.save_every=0", "stages.cold_start.save_minutes=1e-9", "keep_checkpoints=9"]
    train(load_config(tiny_file, overrides))
    with Checkpoints(tmp_path / "run" / "checkpoints" / "cold_start", 9) as checkpoints:
        assert checkpoints.steps() == [1, 2, 3]


@pytest.mark.slow
def test_a_run_that_is_lengthened_ends_as_one_that_was_as_long(trained, tmp_path, capsys):
    folder = trained[1]
    overrides = ["stages.rl.steps=5", "stages.rl.save_every=1", "stages.rl.eval_every=0"]
    whole, longer = (load_config(folder / "config.yaml", [f"run_dir={tmp_path / n}", *overrides]) for n in "ab")
    train(whole)
    shutil.copytree(folder, tmp_path / "b")
    train(longer)
    assert "settings of stage rl changed: steps 3 -> 5" in capsys.readouterr().out
    for a, b in zip(*(jax.tree.leaves(weights_of(tmp_path / n)) for n in "ab"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert load_config(tmp_path / "b" / "config.yaml") == longer


@pytest.mark.slow
def test_a_damaged_score_is_put_aside_with_its_checkpoint(tiny_file, tmp_path, capsys):
    """The stage is run again from the checkpoint before, and ends with the same weights."""
    stages = "stages=[{name: first, program: sft, steps: 3, prompts_per_step: 8, optimizer: {learning_rate: 1e-2}, "
    config = load_config(tiny_file, [stages + "save_every: 1, keep: best}]", "evaluate.problems=8"])
    train(config)
    before = weights_of(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "first" / "3" / "metrics" / "metrics").write_text('{"sco')
    train(config)
    assert "3 is damaged: " in (said := capsys.readouterr().out) and "resumes after step 2 of stage first" in said
    assert (tmp_path / "run" / "checkpoints" / "first" / "3.damaged").is_dir()
    jax.tree.map(np.testing.assert_array_equal, weights_of(tmp_path / "run"), before)


def test_two_damaged_checkpoints_in_a_row_stop_the_run(trained, tmp_path, capsys):
    """Where the disk is at fault, no more is put aside at one start than its owner can look at."""
    config, folder = trained
    shutil.copytree(folder, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").glob("*/*/checksums/metadata"):
        file.write_text("{}")
    with pytest.raises(RunStopped, match=r"rl/2 is damaged: .*, and so was .*rl/3 before it\. Look whether its disk"):
        train(config.model_copy(update={"run_dir": str(tmp_path / "run")}))
    aside = sorted(f.relative_to(tmp_path / "run" / "checkpoints") for f in (tmp_path / "run").rglob("*.damaged"))
    assert [str(path) for path in aside] == ["rl/2.damaged", "rl/3.damaged"]
    assert "training resumes from what was saved before it" in capsys.readouterr().out


def test_an_older_checkpoint_of_a_finished_stage_does_not_cut_its_log():
    names = ("one", "two", "three", "four")
    stages = [SimpleNamespace(settings=SimpleNamespace(name=name, steps=10)) for name in names]
    saved = {"one": 8, "two": None, "three": 3, "four": None}
    said = []
    run = SimpleNamespace(stages=stages, finished_steps=lambda stage: saved[stage.settings.name], print=said.append)
    assert _saved_steps(run) == {"one": 10, "two": 10, "three": 3}
    assert len(said) == 1 and said[0].startswith("stage two has nothing saved any more")


@pytest.mark.slow
def test_damage_is_never_silent(capsys):
    kinds = ["an empty folder of a later step", "zeros in a file of weights", "no checkpoints of a finished stage"]
    assert runpy.run_path(str(SCRIPT))["main"](kinds, 1) == 0
    *held, bit, summary = capsys.readouterr().out.splitlines()
    for kind, line in zip(kinds, held, strict=True):
        assert line.startswith(f"held: {kind}: ") and "same weights; same rows" in line
    assert bit.startswith("held: bit") and summary == "3 kinds of damage and 1 flipped bits, 0 failed"
