"""Several processes: two of 4 devices do what one of 8 does; and a killed run resumes to the same bytes."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import TINY
from two_processes import environment, in_two_processes

from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings

KILLED = """
import os, signal
from r1jax import cli
from r1jax.run import metrics

log = metrics.RunLog.log

def log_and_die(self, stage, step, row):
    log(self, stage, step, row)
    if (stage, step) == ("rl", 1):
        self.flush()
        os.kill(os.getpid(), signal.SIGKILL)

metrics.RunLog.log = log_and_die
cli.main()
"""
TRAIN = [sys.executable, "-m", "r1jax.cli", "train"]


def config_file(folder):
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY.format(folder=folder / "run"))
    return str(folder / "tiny.yaml")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    # Without KL: a gradient of rounding errors alone would be blown up by Adam to differences of its own.
    # With a mixture, some samples of each process lack a reward.
    lacking = "{accuracy: null, loops: {name: repetition}}"
    sums = "task: {name: arithmetic, max_digits: 2}"
    short = [
        f"task={{mixture: [{{weight: 2, {sums}}}, {{name: free, weight: 1, {sums}, rewards: {lacking}}}]}}",
        "stages.rl.rewards.loops=0.5",
        "stages.cold_start.pack_length=76",
        "stages.rl.kl.coef=0.0",
        "stages.rl.minibatches=1",
        "stages.cold_start.steps=2",
        "stages.rl.steps=2",
        "stages.rl.pack_length=76",
        "stages.rl.dynamic_sampling={max_batches: 3}",
    ]
    one = [*TRAIN, config_file(tmp_path / "one"), *short]
    subprocess.run(one, env=environment(8), check=True, capture_output=True)
    codes, outputs = in_two_processes([*TRAIN, config_file(tmp_path / "two"), *short])
    assert codes == [0, 0], outputs
    assert "held-out" in outputs[0] and "held-out" not in outputs[1]  # the first process alone reports
    one, two = (read_metrics(tmp_path / name / "run") for name in ("one", "two"))
    assert len(one) == len(two)
    assert max(row.get("dynamic_sampling/batches", 0) for row in one) > 1
    shares = [row["rewards/loops/share"] for row in one if "loss" in row and row["stage"] == "rl"]
    assert len(shares) == 2 and all(0 < share < 0.5 for share in shares)
    assert sum("eval/loops/free" in row for row in one) >= 2 and not any("eval/accuracy/free" in row for row in one)
    for a, b in zip(map(without_timings, one), map(without_timings, two), strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(
            *[[r[k] for k in sorted(r) if k != "stage"] for r in (a, b)], atol=1e-4, err_msg=str(a)
        )


@pytest.mark.slow
def test_one_file_runs_everywhere(tmp_path):
    """On one device, on eight, as two processes, and in `plan`; what differs is `mesh`."""
    pytest.importorskip("libtpu")
    file = config_file(tmp_path / "config")
    Path(file).write_text(Path(file).read_text().replace("problems: 12, samples: 2", "problems: 0"))  # compiles less
    runs, same = [tmp_path / name for name in ("one", "eight", "two")], "mesh={data: 1, fsdp: 4, tensor: 2}"
    for devices, run, mesh in ((1, runs[0], "mesh={data: 1}"), (8, runs[1], same)):
        command = [*TRAIN, file, f"run_dir={run}", mesh]
        subprocess.run(command, env=environment(devices), check=True, capture_output=True)
    codes, outputs = in_two_processes([*TRAIN, file, f"run_dir={runs[2]}", same])
    assert codes == [0, 0], outputs
    losses = [[row["loss"] for row in read_metrics(run) if "loss" in row] for run in runs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3) and losses[0] == pytest.approx(losses[2], abs=1e-3)
    plan = [sys.executable, "-m", "r1jax.cli", "plan", file, "--topology", "v5e:2x4", same]
    planned = subprocess.run(plan, capture_output=True, text=True)
    assert planned.returncode == 0 and "it fits: " in planned.stdout, planned.stderr


@pytest.mark.slow
def test_processes_that_do_not_agree_are_refused(tmp_path):
    file = config_file(tmp_path / "two")
    codes, outputs = in_two_processes([*TRAIN, file], [*TRAIN, file, "seed=1"])
    assert codes == [2, 2], outputs
    assert all("error: seed: not the same in process 0 and in 1 of 2; give every process the" in o for o in outputs)
    assert not (tmp_path / "two" / "run").exists()


@pytest.mark.slow
def test_processes_that_are_asked_different_things_are_refused(trained):
    _, folder = trained
    sample = [sys.executable, "-m", "r1jax.cli", "sample", str(folder)]
    for ours, theirs, name in [(["1+1="], ["1+2="], "PROMPT"), (["1+1=", "seed=1"], ["1+1="], "KEY=VALUE")]:
        codes, outputs = in_two_processes([*sample, *ours], [*sample, *theirs])
        assert codes == [2, 2], outputs
        assert all(f"error: {name}: not the same in process 0 and in 1 of 2" in output for output in outputs)


@pytest.mark.slow
def test_what_one_process_refuses_ends_the_others(tmp_path):
    """A file that is missing on one machine: without a word from it, the others would wait for it."""
    (tmp_path / "tiny.yaml").write_text(TINY.format(folder=tmp_path / "run"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    row = '{"question": "1+1=", "answer": "2", "completion": "2"}\n'
    (tmp_path / "a" / "sums.jsonl").write_text(row * 40)
    task = "task={jsonl: sums.jsonl, test: sums.jsonl, completion: completion}"
    in_folder = 'cd "$1" && shift && exec "$@"'
    commands = [
        ["sh", "-c", in_folder, "sh", str(tmp_path / name), *TRAIN, "../tiny.yaml", task] for name in ("a", "b")
    ]
    codes, outputs = in_two_processes(*commands)
    assert codes == [2, 2], outputs
    assert "error: another process of the run refused it; what it printed says why" in outputs[0]
    assert "sums.jsonl" in outputs[1]


@pytest.mark.slow
def test_a_folder_that_not_all_processes_see_is_refused(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY.format(folder="run"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    in_folder = 'cd "$1" && shift && exec "$@"'
    commands = [["sh", "-c", in_folder, "sh", str(tmp_path / name), *TRAIN, "../tiny.yaml"] for name in ("a", "b")]
    codes, outputs = in_two_processes(*commands)
    assert codes == [2, 2], outputs
    assert all("error: run_dir: not every process sees what the first one wrote into run" in o for o in outputs)


BROKEN = """
import jax
from r1jax import cli
from r1jax.rl import rollout

collect = rollout.collect

def collect_or_break(*arguments):
    if jax.process_index() == 1:
        raise AssertionError("a bug")
    return collect(*arguments)

rollout.collect = collect_or_break
cli.main()
"""


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_others(tmp_path):
    """Within a minute, and by name; JAX would have the one wait for the others for five."""
    begun = time.monotonic()
    codes, outputs = in_two_processes([sys.executable, "-c", BROKEN, "train", config_file(tmp_path / "two")])
    assert codes[1] == 1 and "AssertionError: a bug" in outputs[1]
    assert codes[0] != 0 and re.search(r"unhealthy[^\n]*:\n1\b", outputs[0]), outputs[0]
    assert time.monotonic() - begun < 240


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(trained, tmp_path):
    """SIGKILL as soon as RL's first row is written: then the same command ends where a run left alone did.

    scripts/kill_test.py kills at random moments of both stages, and in the middle of saves.
    """
    file, folder = config_file(tmp_path / "killed"), tmp_path / "killed" / "run"
    killed = subprocess.run([sys.executable, "-c", KILLED, "train", file], env=environment(8), capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [(row["stage"], row["step"]) for row in read_metrics(folder)][-1] == ("rl", 1)
    subprocess.run([*TRAIN, file], env=environment(8), check=True, capture_output=True)
    (rows, weights), (whole_rows, whole_weights) = state_of(folder), state_of(trained[1])
    assert rows == whole_rows
    jax.tree.map(np.testing.assert_array_equal, weights, whole_weights)


def state_of(folder):
    params = load_model(str(folder)).model.weights
    return [without_timings(row) for row in read_metrics(folder)], jax.tree.map(np.asarray, params)
