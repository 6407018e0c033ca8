"""Kills a run with SIGKILL at random moments and checks that it ends in the same bytes as one left alone.

    uv run python scripts/kill_test.py configs/quickstart.yaml 10 stages.cold_start.steps=40 stages.rl.steps=12

Every second kill waits for a checkpoint that is being written. Compares the final weights and metrics.jsonl (timings
aside); prints a line a kill and exits with 1 where anything differs.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from r1jax.metrics import read_metrics, without_timings
from r1jax.run import load_run


def start(config: str, folder: Path, overrides: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "r1jax.cli", "train", config, f"run_dir={folder}", *overrides]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def where(folder: Path) -> str:
    rows = read_metrics(folder) if (folder / "metrics.jsonl").exists() else []
    return f"{rows[-1]['stage']} {rows[-1]['step']}" if rows else "start"


def being_saved(folder: Path) -> bool:
    """Orbax writes a checkpoint under a temporary name."""
    return any("tmp" in f.name for f in folder.glob("checkpoints/*/*"))


def main(config: str, kills: int, overrides: list[str]) -> int:
    root = Path(tempfile.mkdtemp(prefix="kill-test-"))
    whole, killed = root / "whole", root / "killed"
    begin = time.monotonic()
    process = start(config, whole, overrides)
    if process.wait() != 0:
        sys.exit(process.stderr.read().decode())
    duration = time.monotonic() - begin
    print(f"left alone: {duration:.0f} s")
    rng = random.Random(0)
    for kill in range(kills):
        process = start(config, killed, overrides)
        wait_until = time.monotonic() + rng.uniform(0.15, 0.6) * duration
        saving = False
        while process.poll() is None and (time.monotonic() < wait_until or (kill % 2 and not saving)):
            time.sleep(0.002)
            saving = time.monotonic() > wait_until and being_saved(killed)
        ended = process.poll() is not None
        process.kill()
        process.wait()
        note = "it had ended" if ended else "during a checkpoint" if saving else ""
        print(f"kill {kill + 1}: at {where(killed)} {note}", flush=True)
    process = start(config, killed, overrides)
    if process.wait() != 0:
        sys.exit(process.stderr.read().decode())
    rows = [[without_timings(row) for row in read_metrics(f)] for f in (whole, killed)]
    params = [jax.tree.map(np.asarray, load_run(f)[1]) for f in (whole, killed)]
    same_weights = all(jax.tree.leaves(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), *params)))
    print(f"metrics.jsonl {'equal' if rows[0] == rows[1] else 'DIFFER'} ({len(rows[0])} rows), "
          f"weights {'equal' if same_weights else 'DIFFER'} ({len(jax.tree.leaves(params[0]))} arrays)")  # fmt: skip
    return 0 if rows[0] == rows[1] and same_weights else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
