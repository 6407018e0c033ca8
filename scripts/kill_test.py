"""Kills a run with SIGKILL at random moments of each of its stages, and checks that it ends in the same bytes as one
that was not killed.

    uv run python scripts/kill_test.py tests/five_programs.yaml 12
    uv run python scripts/kill_test.py configs/quickstart.yaml 10 stages.cold_start.steps=40 stages.rl.steps=12

The kills are spread evenly over the stages; a stage that none fell into is killed in another run. Every second kill
waits for a checkpoint, or a stage's data, that is being written. The script prints the stage of each kill, compares the
weights of each policy, the data that stages made, and metrics.jsonl, timings aside, and exits with 1 where anything
differs or a stage was not killed.
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

from r1jax.config.experiment import StageSettings
from r1jax.config.load import load_config
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


def being_saved(folder: Path) -> set[Path]:
    """What is written under a temporary name: checkpoints and the data of stages. Some is left over from a kill."""
    return {file for kind in ("checkpoints", "data") for file in folder.glob(f"{kind}/*/*") if "tmp" in file.name}


def running(folder: Path, stages: list[StageSettings]) -> str:
    """The stage that a run is in: the first one without its last checkpoint or its data."""
    for stage in stages:
        done = folder / "checkpoints" / stage.name / str(stage.steps)
        if not (folder / "data" / f"{stage.name}.jsonl" if stage.program == "reject" else done).exists():
            return stage.name
    return "none, after the last"


def main(config: str, kills: int, overrides: list[str]) -> int:
    root = Path(tempfile.mkdtemp(prefix="kill-test-"))
    whole, killed = root / "whole", root / "killed"
    stages = load_config(config, overrides).stages
    names = [stage.name for stage in stages]
    if kills < len(names):
        sys.exit(f"{len(names)} stages need {len(names)} kills or more, not {kills}")
    process = start(config, whole, overrides)
    if process.wait() != 0:
        sys.exit(process.stderr.read().decode())
    logged = [row["stage"] for row in read_metrics(whole)]
    rng, kill, hit, results = random.Random(0), 0, set(), []
    targets = [names[k * len(names) // kills] for k in range(kills)]
    while targets and kill < 2 * kills:
        for stage in targets:
            stale, process = being_saved(killed), start(config, killed, overrides)
            # After some row of the stage, at once or somewhere in what follows it, or in the middle of a save.
            first, rows = logged.index(stage), logged.count(stage)
            goal = max(rows_in(killed), first) + rng.randint(1, max(1, rows // 3))
            goal, delay, saving = min(goal, first + rows - 1), rng.choice([0, rng.uniform(0, 0.3)]), False
            while process.poll() is None and (rows_in(killed) < goal or (kill % 2 and not saving)):
                time.sleep(0.002)
                saving = rows_in(killed) >= goal and bool(being_saved(killed) - stale)
            if not saving:
                time.sleep(delay)
            process.kill()
            if process.wait() != -signal.SIGKILL:
                break  # it had ended before
            kill += 1
            hit.add(at := running(killed, stages))
            print(f"kill {kill}: stage {at}, after row {where(killed)}{', in a save' if saving else ''}", flush=True)
        process = start(config, killed, overrides)
        if process.wait() != 0:
            sys.exit(process.stderr.read().decode())
        results.append(compare(whole, killed, stages))
        print(f"ended after {kill} kills: {results[-1]}", flush=True)
        shutil.rmtree(killed)
        targets = [name for name in names if name not in hit]
    print(f"not killed: {', '.join(targets)}" if targets else f"every stage was killed: {', '.join(names)}")
    return int(bool(any("DIFFER" in result for result in results) or targets))


def compare(whole: Path, killed: Path, stages: list[StageSettings]) -> str:
    """Whether two finished runs have the same rows (timings aside), and the same bytes of weights and data."""
    rows = [[without_timings(row) for row in read_metrics(f)] for f in (whole, killed)]
    weights = []
    policies = [stage.name for stage in stages if stage.makes_policy]
    for folder in (whole, killed):
        params = [load_model(str(folder), checkpoint=name).model.weights for name in policies]
        weights.append([np.asarray(x).tobytes() for x in jax.tree.leaves(params)])
    data = [{file.name: file.read_bytes() for file in folder.glob("data/*.jsonl")} for folder in (whole, killed)]
    return (
        f"{len(data[0])} files of data {'equal' if data[0] == data[1] else 'DIFFER'}, "
        f"{len(rows[0])} rows {'equal' if rows[0] == rows[1] else 'DIFFER'}, "
        f"{len(weights[0])} arrays of weights {'equal' if weights[0] == weights[1] else 'DIFFER'}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
