"""Trains a config as one process and as several, on several meshes, and prints how far the runs are apart.

    uv run python scripts/compare_processes.py configs/quickstart.yaml max_completion_length=46 evaluate.problems=64
    uv run python scripts/compare_processes.py tests/five_programs.yaml

All have eight emulated CPU devices, but for the last one, which has one. `fsdp`, `tensor` and `context` span processes,
so that several of them hold the same samples; and in stages of GRPO a further reward times out on one in 61 of the
completions, as if at random. Runs of several processes are compared with one process on the same mesh, and those with
the first. Compared are sampled texts, what stages of rejection sampling kept, metrics (timings and packing aside), and
weights. Exits with 1 where texts or data differ, or numbers by more than 1e-5 of themselves or of 1.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from r1jax.config.load import load_config
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings

DATA, TENSOR = "mesh={data: 8}", "mesh={data: 1, fsdp: 2, tensor: 4}"
CONTEXT, BOTH = "mesh={data: 2, fsdp: 2, context: 2}", "mesh={data: 1, tensor: 4, context: 2}"
TRIALS = (
    (1, 8, DATA),
    (2, 4, DATA),
    (4, 2, DATA),
    (1, 8, BOTH),
    (2, 4, BOTH),
    (1, 8, TENSOR),
    (4, 2, TENSOR),
    (1, 8, CONTEXT),
    (4, 2, CONTEXT),
    (1, 1, "mesh={data: 1}"),
)
SOMETIMES = """
import time, zlib

def score(example, completion):
    if zlib.crc32(completion.encode()) % 61 == 0:
        time.sleep(60)
    return len(completion) % 2
"""
LAYOUT = ("packing_fill", "compiles")  # they depend on the mesh
NEAR = 1e-5


def texts_of(folder: Path) -> dict[str, list[str]]:
    """The samples that the first process logged, by file: the first ones of each step."""
    files = sorted(folder.glob("completions/**/*.jsonl"))
    return {
        str(file.relative_to(folder)): [json.loads(line)["completion"] for line in file.read_text().splitlines()]
        for file in files
    }


def weights_of(folder: Path, stages: list[str]) -> list[np.ndarray]:
    models = [load_model(str(folder), checkpoint=stage).model.weights for stage in stages]
    return [np.asarray(x) for x in jax.tree.leaves(models)]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The greatest difference, relative where numbers are above 1."""
    return float(np.max(np.abs(a - b) / np.maximum(1, np.abs(b)), initial=0.0))


def furthest(one: Path, other: Path, stages: list[str]) -> tuple[float, float, list[str]]:
    """The greatest difference of a metric and of a weight, and what is not equal though it should be."""
    ours, theirs = texts_of(one), texts_of(other)
    unequal = sorted(ours.keys() ^ theirs.keys())
    # The first process has the first samples; on some meshes it has all.
    for file in ours.keys() & theirs.keys():
        common = min(len(ours[file]), len(theirs[file]))
        if common == 0 or ours[file][:common] != theirs[file][:common]:
            unequal.append(file)
    data = [{file.name: file.read_bytes() for file in folder.glob("data/*.jsonl")} for folder in (one, other)]
    unequal += [name for name in data[0] if data[0][name] != data[1].get(name)]
    metric, since = 0.0, ""
    for a, b in zip(*[map(without_timings, read_metrics(folder)) for folder in (one, other)], strict=True):
        if a.keys() != b.keys():
            unequal.append(f"names of metrics of {a['stage']} {a['step']}")
            continue
        numbers = [np.array([row[k] for k in sorted(a) if k not in (*LAYOUT, "stage")]) for row in (a, b)]
        metric = max(metric, apart(*numbers))
        if metric > NEAR and not since:
            since = f"metrics from {a['stage']} {a['step']} on"
    weights = zip(weights_of(one, stages), weights_of(other, stages), strict=True)
    return metric, max(apart(a, b) for a, b in weights), [*unequal, *filter(None, [since])]


def train(root: Path, processes: int, devices: int, settings: list[str]) -> Path | None:
    """The folder of a run, or None where it failed, which is printed."""
    folder = Path(tempfile.mkdtemp(dir=root)) / "run"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "scripts/local_pod.sh", str(processes), str(devices), "train", *settings, f"run_dir={folder}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"exit code {done.returncode}\n{done.stderr[-2000:]}", flush=True)
    return None if done.returncode else folder


def main(config: str, overrides: list[str]) -> int:
    stages = load_config(config, overrides).stages
    root, failed, runs = Path(tempfile.mkdtemp(prefix="processes-")), False, dict[str, Path]()
    (root / "sometimes.py").write_text(SOMETIMES)
    reward = f"{{function: {root}/sometimes.py:score, weight: 0.2, seconds: 1}}"
    overrides = [
        *overrides,
        *(f"stages.{stage.name}.rewards.sometimes={reward}" for stage in stages if stage.program == "grpo"),
    ]
    names = [stage.name for stage in stages if stage.makes_policy]
    for processes, devices, mesh in TRIALS:
        print(f"{processes} x {devices}, {mesh}: ", end="", flush=True)
        folder = train(root, processes, devices, [config, *overrides, mesh])
        if folder is None:
            failed = True
            continue
        like = runs.get(mesh) or next(iter(runs.values()), None)
        runs.setdefault(mesh, folder)
        if like is None:
            late = max(row.get("rewards/sometimes/timeout", 0.0) for row in read_metrics(folder))
            failed |= late == 0 and any(stage.program == "grpo" for stage in stages)
            print(f"{len(read_metrics(folder))} rows of metrics; at most {late:.1%} of a step's calls timed out")
            continue
        metric, weight, unequal = furthest(like, folder, names)
        print(f"metrics {metric:.1e}, weights {weight:.1e} apart; not equal: {', '.join(unequal) or 'nothing'}")
        failed |= bool(unequal) or not max(metric, weight) <= NEAR  # also where one is NaN
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
