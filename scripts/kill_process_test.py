"""Kills or stops one process of several at random moments, and checks that the others end soon, and that the run ends
in the same bytes as one that was left alone.

    uv run python scripts/kill_process_test.py tests/five_programs.yaml 10
    uv run python scripts/kill_process_test.py tests/five_programs.yaml 10 TERM

The run has 2 processes of 4 emulated CPU devices, and after each kill the same command resumes it. After half of the
kills a copy is resumed as 4 processes of 2 devices as well, and has to reach its end. Every second kill waits for a
checkpoint, or a stage's data, that is being written. After SIGKILL the others have to end within a minute and to name
the killed process; after SIGTERM all have to end with 143, and what was logged by then to be saved.
"""

import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_test import being_saved, compare, rows_in, where

from r1jax.config.load import load_config
from r1jax.run.metrics import read_metrics
from r1jax.run.stages import data_file, finished_parts

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


def saved_steps(folder: Path, stage: str) -> float:
    """How many steps of a stage are in its last checkpoint, or in its data, which are whole once they are one file."""
    if data_file(folder, stage).exists():
        return math.inf
    steps = [int(path.name) for path in folder.glob(f"checkpoints/{stage}/*") if path.name.isdigit()]
    return max([*steps, finished_parts(data_file(folder, stage))])


def faults_after_kill(victim: int, seconds: float, logs: list[str]) -> list[str]:
    # So JAX says it: by number, or, as process 0 keeps the list of all, that the leader cannot be reached.
    name = r"leader task" if victim == 0 else rf"unhealthy[^\n]*:\n{victim}\b"
    others = [log for i, log in enumerate(logs) if i != victim]
    slow = [f"it took {seconds:.0f} s"] if seconds >= MOST_SECONDS else []
    return slow + [f"not named:\n{log[-1500:]}" for log in others if not re.search(name, log)]


def main(config: str, kills: int, number: signal.Signals, overrides: list[str]) -> int:
    root, rng, faults = Path(tempfile.mkdtemp(prefix="kill-process-")), random.Random(0), 0
    whole, killed, moved = root / "whole", root / "killed", root / "moved"
    stages = load_config(config, overrides).stages
    finish(config, whole, overrides)
    total = len(read_metrics(whole))
    for kill in range(1, kills + 1):
        stale, goal = being_saved(killed), max(1, rows_in(killed), total * kill // (kills + 1))
        processes = start(config, killed, overrides)
        saving = False
        while all(process.poll() is None for process in processes):
            saving = rows_in(killed) >= goal and bool(being_saved(killed) - stale)
            if saving or (kill % 2 and rows_in(killed) >= goal):
                break
            time.sleep(0.005)
        if not saving:
            time.sleep(rng.uniform(0, 0.5))
        victim, since = rng.randrange(len(processes)), time.monotonic()
        stage, step = where(killed).split()
        processes[victim].send_signal(number)
        for process in processes:
            try:
                process.wait(max(0.0, since + MOST_SECONDS - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        seconds, codes = time.monotonic() - since, [process.wait() for process in processes]
        if number == signal.SIGKILL:
            logs = [killed.with_suffix(f".{i}.log").read_text(errors="replace") for i in range(2)]
            found = faults_after_kill(victim, seconds, logs)
            if codes[victim] != -number or 0 in codes:
                found.append(f"{codes}")
        else:
            lost = saved_steps(killed, stage) < int(step)
            found = [f"step {step} of {stage} is lost"] * lost + [f"{codes}"] * (codes != [143, 143])
        print(
            f"{number.name} {kill}: process {victim} after {stage} {step}{', in a save' if saving else ''}; "
            f"all ended with {codes} in {seconds:.0f} s",
            *found,
            sep="\n  fault: ",
            flush=True,
        )
        faults += len(found)
        if kill == kills // 2:
            shutil.copytree(killed, moved)
            finish(config, moved, overrides, processes=4)
            print(f"resumed as 4 processes of 2 devices: {len(read_metrics(moved))} of {total} rows", flush=True)
            faults += len(read_metrics(moved)) != total
    finish(config, killed, overrides)
    result = compare(whole, killed, stages)
    print(f"after {kills} times {number.name}: {result}; {faults} faults")
    return int(faults > 0 or "DIFFER" in result)


if __name__ == "__main__":
    config, kills, *rest = sys.argv[1:]
    number = signal.SIGTERM if rest[:1] == ["TERM"] else signal.SIGKILL
    sys.exit(main(config, int(kills), number, rest[1:] if number == signal.SIGTERM else rest))
