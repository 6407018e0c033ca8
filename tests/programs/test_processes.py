"""Several processes: two of 4 devices do what one of 8 does; and a run killed at random goes on to the same bytes."""

import os
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
from tiny import TINY

from r1jax.metrics import read_metrics, without_timings

TRAIN = [sys.executable, "-m", "r1jax.cli", "train"]


def environment(devices: int, **more: str) -> dict[str, str]:
    return {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", **more}


def config_file(folder):
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY.format(folder=folder / "run"))
    return str(folder / "tiny.yaml")


def test_two_processes_equal_one(tmp_path):
    subprocess.run([*TRAIN, config_file(tmp_path / "one")], env=environment(8), check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    file = config_file(tmp_path / "two")
    processes = [
        subprocess.Popen(
            [*TRAIN, file],
            env=environment(4, JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(i)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [p.communicate(timeout=240)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    assert "held-out" in outputs[0] and "held-out" not in outputs[1]  # the first process alone reports
    one, two = (read_metrics(tmp_path / name / "run") for name in ("one", "two"))
    assert len(one) == len(two)
    for a, b in zip(map(without_timings, one), map(without_timings, two), strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(
            *[[r[k] for k in sorted(r) if k != "stage"] for r in (a, b)], atol=1e-4, err_msg=str(a)
        )


def test_killed_at_random_goes_on_to_the_same_bytes(tmp_path):
    whole, killed = config_file(tmp_path / "whole"), config_file(tmp_path / "killed")
    begin = time.monotonic()
    subprocess.run([*TRAIN, whole], env=environment(1), check=True, capture_output=True)
    duration = time.monotonic() - begin
    rng = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            [*TRAIN, killed], env=environment(1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.3, 0.95) * duration)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*TRAIN, killed], env=environment(1), check=True, capture_output=True)
    rows = [[without_timings(r) for r in read_metrics(tmp_path / name / "run")] for name in ("whole", "killed")]
    assert rows[0] == rows[1]
