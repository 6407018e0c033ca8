"""Kills a run with SIGKILL at random moments and checks that it ends in the same bytes as one that was not killed.

    uv run python scripts/kill_test.py configs/quickstart.yaml 10 stages.cold_start.steps=40 stages.rl.steps=12

Every second kill waits for a checkpoint, or a stage's data, that is being written. The script compares the final
weights, the data that stages made, and metrics.jsonl, timings aside, prints a line for each kill, and exits with 1
where anything differs.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings


def start(config: str, folder: Path, overrides: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "r1jax.cli", "train", config, f"run_dir={folder}", *overrides]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def where(folder: Path) -> str:
    rows = read_metrics(folder) if (folder / "metrics.jsonl").exists() else []
    return f"{rows[-1]['stage']} {rows[-1]['step']}" if rows else "start"


def rows_in(folder: Path) -> int:
    return (folder / "metrics.jsonl").read_bytes().count(b"\n") if (folder / "metrics.jsonl").exists() else 0


def being_saved(folder: Path) -> bool:
    """Checkpoints and the data of stages are written under a temporary name."""
    return any("tmp" in file.name for kind in ("checkpoints", "data") for file in folder.glob(f"{kind}/*/*"))


def main(config: str, kills: int, overrides: list[str]) -> int:
    root = Path(tempfile.mkdtemp(prefix="kill-test-"))
    whole, killed = root / "whole", root / "killed"
    process = start(config, whole, overrides)
    if process.wait() != 0:
        sys.exit(process.stderr.read().decode())
    total = rows_in(whole)
    rng, kill = random.Random(0), 0
    while kill < kills:
        process = start(config, killed, overrides)
        # Some rows further than it was, then somewhere in the next step; every second time in the middle of a save.
        goal, delay, saving = rows_in(killed) + rng.randint(1, 2 * total // kills), rng.uniform(0, 0.5), False
        while process.poll() is None and (rows_in(killed) < goal or (kill % 2 and not saving)):
            time.sleep(0.002)
            saving = rows_in(killed) >= goal and being_saved(killed)
        if not saving:
            time.sleep(delay)
        process.kill()
        if process.wait() != -signal.SIGKILL:  # it had ended before: begin another
            print(f"ended after {kill} kills: {compare(whole, killed)}", flush=True)
            shutil.rmtree(killed)
            continue
        kill += 1
        print(f"kill {kill}: after row {where(killed)}{', in a save' if saving else ''}", flush=True)
    process = start(config, killed, overrides)
    if process.wait() != 0:
        sys.exit(process.stderr.read().decode())
    result = compare(whole, killed)
    print(f"ended after {kill} kills: {result}")
    return int("DIFFER" in result)


def compare(whole: Path, killed: Path) -> str:
    """Whether two finished runs have the same rows (timings aside), and the same bytes of weights and data."""
    rows = [[without_timings(row) for row in read_metrics(f)] for f in (whole, killed)]
    weights = []
    for folder in (whole, killed):
        params = load_model(str(folder)).model.weights
        weights.append([np.asarray(x).tobytes() for x in jax.tree.leaves(params)])
    data = [{file.name: file.read_bytes() for file in folder.glob("data/*.jsonl")} for folder in (whole, killed)]
    return (
        f"{len(data[0])} files of data {'equal' if data[0] == data[1] else 'DIFFER'}, "
        f"{len(rows[0])} rows {'equal' if rows[0] == rows[1] else 'DIFFER'}, "
        f"{len(weights[0])} arrays of weights {'equal' if weights[0] == weights[1] else 'DIFFER'}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
