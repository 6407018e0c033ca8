"""Kills one process of several at random moments, and checks that the others end soon and name it, and that the run
ends in the same bytes as one that was left alone.

    uv run python scripts/kill_process_test.py tests/five_programs.yaml 10

The run has 2 processes of 4 emulated CPU devices, and after each kill the same command resumes it. After half of the
kills a copy is resumed as 4 processes of 2 devices as well, and has to reach its end. Exits with 1 where a process
lived for more than 60 seconds after a kill or did not name the killed one, or anything differs.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_test import compare, rows_in, where

from r1jax.config.load import load_config
from r1jax.run.metrics import read_metrics

MOST_SECONDS = 60.0


def start(config: str, folder: Path, overrides: list[str], processes: int = 2) -> list[subprocess.Popen]:
    """The processes of a run, which share 8 devices; each one's output is in FOLDER.N.log."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "r1jax.cli", "train", config, f"run_dir={folder}", *overrides]
    own = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(8 // processes), "JAX_COORDINATOR_ADDRESS": address}
    started = []
    for i in range(processes):
        environment = os.environ | own | {"JAX_NUM_PROCESSES": str(processes), "JAX_PROCESS_ID": str(i)}
        with folder.with_suffix(f".{i}.log").open("wb") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    return started


def finish(config: str, folder: Path, overrides: list[str], processes: int = 2) -> None:
    if any([process.wait() for process in start(config, folder, overrides, processes)]):
        sys.exit(folder.with_suffix(".0.log").read_text(errors="replace")[-3000:])


def main(config: str, kills: int, overrides: list[str]) -> int:
    root, rng, faults = Path(tempfile.mkdtemp(prefix="kill-process-")), random.Random(0), 0
    whole, killed, moved = root / "whole", root / "killed", root / "moved"
    stages = load_config(config, overrides).stages
    finish(config, whole, overrides)
    total = len(read_metrics(whole))
    for kill in range(1, kills + 1):
        processes, goal = start(config, killed, overrides), max(rows_in(killed), total * kill // (kills + 1))
        while rows_in(killed) < goal and all(process.poll() is None for process in processes):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        victim = rng.randrange(len(processes))
        at, since = where(killed), time.monotonic()
        processes[victim].kill()
        others = [process for i, process in enumerate(processes) if i != victim]
        for process in others:
            try:
                process.wait(max(0.0, since + MOST_SECONDS - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        seconds = time.monotonic() - since
        logs = [killed.with_suffix(f".{i}.log").read_text(errors="replace") for i in range(2) if i != victim]
        # So JAX says it: by number, or, as process 0 keeps the list of all, that the leader cannot be reached.
        name = r"leader task" if victim == 0 else rf"unhealthy[^\n]*:\n{victim}\b"
        named = all(re.search(name, log) for log in logs)
        faults += seconds >= MOST_SECONDS or not named
        codes = ", ".join(str(process.wait()) for process in others)
        said = "named" if named else "NOT NAMED"
        if not named:
            print(*(line for log in logs for line in log.strip().splitlines()[-12:]), sep="\n")
        print(
            f"kill {kill}: process {victim} after {at}; {said}; the other ended with {codes} in {seconds:.0f} s",
            flush=True,
        )
        if kill == kills // 2:
            shutil.copytree(killed, moved)
            finish(config, moved, overrides, processes=4)
            print(f"resumed as 4 processes of 2 devices: {len(read_metrics(moved))} of {total} rows", flush=True)
            faults += len(read_metrics(moved)) != total
    finish(config, killed, overrides)
    result = compare(whole, killed, stages)
    print(f"after {kills} kills: {result}; {faults} faults")
    return int(faults > 0 or "DIFFER" in result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
