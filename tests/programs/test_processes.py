"""Several processes: two of 4 devices do what one of 8 does; and a killed run resumes to the same bytes."""

import os
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
from tiny import TINY

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


def environment(devices: int, **more: str) -> dict[str, str]:
    return {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", **more}


def config_file(folder):
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY.format(folder=folder / "run"))
    return str(folder / "tiny.yaml")


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
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    file = config_file(tmp_path / "two")
    processes = [
        subprocess.Popen(
            [*TRAIN, file, *short],
            env=environment(4, JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(i)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [p.communicate(timeout=1200)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
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
