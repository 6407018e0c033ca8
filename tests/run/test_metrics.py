import json
import os
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from r1jax.run.metrics import RunLog, Timers, read_metrics, without_timings


def test_rows_are_one_json_object_a_line_in_a_fixed_order(tmp_path):
    log = RunLog(tmp_path)
    metrics: Any = {"reward": np.float32(0.5), "completions/mean_length": 3, "kl": 0.25}  # numpy's scalars will do
    log.log("rl", 1, metrics)
    expected = b'{"stage": "rl", "step": 1, "completions/mean_length": 3, "kl": 0.25, "reward": 0.5}\n'
    assert (tmp_path / "metrics.jsonl").read_bytes() == expected  # on disk before close
    log.close()


def test_what_is_not_finite_is_left_out(tmp_path):
    log = RunLog(tmp_path)
    metrics: Any = {"reward": 1.0, "kl": float("nan"), "ratio": np.float32("inf"), "entropy": -float("inf")}
    log.log("rl", 1, metrics)
    assert read_metrics(tmp_path) == [{"stage": "rl", "step": 1, "reward": 1.0}]


def test_equal_runs_differ_in_timings_only(tmp_path):
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        log = RunLog(tmp_path / name)
        timings = {"step_time": seconds, "tokens_per_second": 1 / seconds, "time/sample": seconds, "compiles": seconds}
        log.log("rl", 1, {"reward": 1 / 3, **timings})
        log.close()
    a, b = ([without_timings(row) for row in read_metrics(tmp_path / name)] for name in "ab")
    assert a == b == [{"stage": "rl", "step": 1, "reward": 1 / 3}]


def written(folder):
    """Two stages, ten steps each, as a run would leave them that was killed in the middle of a row."""
    log = RunLog(folder)
    for stage in ("sft", "rl"):
        for step in range(1, 11):
            log.log(stage, step, {"loss": step / 7})
            log.completions(stage, step, [{"completion": "x"}])
    log.close()
    file = folder / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines) + b'{"stage": "rl", "step": 11, "lo')
    return file, lines


def test_rewind_keeps_what_a_checkpoint_vouches_for_byte_for_byte(tmp_path):
    file, lines = written(tmp_path)
    log = RunLog(tmp_path)
    log.rewind({"sft": 10, "rl": 4})
    assert file.read_bytes() == b"".join(lines[:14])
    kept = {path.name for path in (tmp_path / "completions").iterdir()}
    assert kept == {f"sft-{i:06d}.jsonl" for i in range(1, 11)} | {f"rl-{i:06d}.jsonl" for i in range(1, 5)}
    log.log("rl", 5, {"loss": 5 / 7})
    log.close()
    assert file.read_bytes() == b"".join(lines[:15])  # as in a run that was not interrupted


def test_rewind_forgets_stages_without_a_checkpoint(tmp_path):
    file, _ = written(tmp_path)
    RunLog(tmp_path).rewind({})
    assert file.read_bytes() == b""
    assert not list((tmp_path / "completions").iterdir())


def test_rewind_of_a_new_run_writes_nothing(tmp_path):
    RunLog(tmp_path / "run").rewind({})
    assert not (tmp_path / "run").exists()


def test_reading_passes_over_a_torn_last_line_and_names_a_broken_one(tmp_path):
    file, lines = written(tmp_path)
    assert len(read_metrics(tmp_path)) == len(lines) == 20
    file.write_bytes(lines[0] + b"oops\n" + lines[1])
    with pytest.raises(ValueError, match="line 2"):
        read_metrics(tmp_path)


def test_reading_a_folder_without_metrics_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.jsonl.*r1jax train"):
        read_metrics(tmp_path)


def test_whoever_is_not_the_writer_writes_nothing(tmp_path):
    written(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    log = RunLog(tmp_path, is_writer=False)
    log.rewind({})
    log.log("rl", 1, {"reward": 1.0})
    log.completions("rl", 99, [{"completion": "x"}])
    log.flush()
    log.close()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_completions_are_valid_json_whatever_the_model_wrote(tmp_path):
    row = {
        "completion": "嗯 \ud800 \x00 [/bold]",
        "rewards": {"accuracy": 1.0, "format": np.float32("nan")},
        "advantage": np.float32(0.5),
        "truncated": np.True_,
    }
    RunLog(tmp_path).completions("rl", 7, [row, {"length": 3}])
    lines = (tmp_path / "completions" / "rl-000007.jsonl").read_text("utf-8").splitlines()
    rewards = {"accuracy": 1.0, "format": None}
    assert json.loads(lines[0]) == {**row, "rewards": rewards, "advantage": 0.5, "truncated": True}
    assert json.loads(lines[1]) == {"length": 3}
    assert not list(tmp_path.rglob("*.tmp"))


def events(folder):
    """Steps of a TensorBoard folder's scalars as its reader would show them: a session's start purges later steps."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

    shown = []
    for file in sorted(folder.iterdir()):
        data, at = file.read_bytes(), 0
        while at < len(data):  # TFRecord: length u64, its crc u32, the event, its crc u32
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            if event.session_log.status == SessionLog.START:
                shown = [pair for pair in shown if pair[0] < event.step]
            shown += [(event.step, value.simple_value) for value in event.summary.value]
    return shown


def test_tensorboard_shows_a_step_once_though_it_ran_twice(tmp_path):
    first = RunLog(tmp_path)
    for step in range(1, 6):
        first.log("rl", step, {"reward": 1.0})
    first.close()
    second = RunLog(tmp_path)
    second.rewind({"rl": 3})
    for step in range(4, 7):
        second.log("rl", step, {"reward": 2.0})
    second.close()
    assert events(tmp_path / "tensorboard" / "rl") == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]


def test_wandb_is_asked_for_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"r1jax\[wandb\]"):
        RunLog(tmp_path / "run", wandb_project="p")
    assert not (tmp_path / "run").exists()


def test_timers_add_up_and_start_again():
    timers = Timers()
    with timers("sample"), timers("grade"):
        pass
    with timers("sample"):
        pass
    seconds = timers.collect()
    assert set(seconds) == {"time/sample", "time/grade"} and min(seconds.values()) >= 0
    assert timers.collect() == {}


def test_importing_pulls_in_nothing_heavy():
    heavy = "{'jax', 'numpy', 'rich', 'tensorboardX', 'wandb', 'matplotlib'} & set(sys.modules)"
    code = f"import sys, r1jax.run.metrics, r1jax.run.console, r1jax.run.report; print({heavy})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert result.stdout == "set()\n", result.stderr


def test_rows_that_are_gone_are_missed(tmp_path):
    log = RunLog(tmp_path)
    log.log("sft", 1, {"loss": 1.0})
    log.close()
    with pytest.warns(
        UserWarning, match=r"metrics\.jsonl has no rows up to step 2 of sft, which is saved; they are not"
    ):
        RunLog(tmp_path).rewind({"sft": 2})
