"""Trains a config as one process and as several, on several meshes, and prints how far the runs are apart.

    uv run python scripts/compare_processes.py tests/five_programs.yaml
    uv run python scripts/compare_processes.py configs/quickstart.yaml stages.cold_start.steps=40 stages.rl.steps=8

All have eight emulated CPU devices, but for the last one, which has one. The first has one process and all devices
along `data`; in others `fsdp`, `tensor` and `context` span processes, so that several of them hold the same samples.
Compared with the first: sampled texts, what stages of rejection sampling kept, metrics (timings and packing aside), and
weights. Exits with 1 where texts or data differ, or numbers by more than 1e-4.
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

TRIALS = (
    (1, 8, "mesh={data: 8}"),
    (2, 4, "mesh={data: 8}"),
    (2, 4, "mesh={data: 1, tensor: 4, context: 2}"),
    (4, 2, "mesh={data: 1, fsdp: 2, tensor: 4}"),
    (4, 2, "mesh={data: 2, fsdp: 2, context: 2}"),
    (1, 1, "mesh={data: 1}"),
)
LAYOUT = ("packing_fill", "compiles")  # they depend on the mesh


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


def furthest(one: Path, other: Path, stages: list[str]) -> tuple[float, float, list[str]]:
    """The greatest difference of a metric and of a weight, and what is not equal though it should be."""
    unequal = []
    for file, texts in texts_of(other).items():
        if texts != texts_of(one)[file][: len(texts)]:
            unequal.append(file)
    data = [{file.name: file.read_bytes() for file in folder.glob("data/*.jsonl")} for folder in (one, other)]
    unequal += [name for name in data[0] if data[0][name] != data[1].get(name)]
    metric = 0.0
    for a, b in zip(*[map(without_timings, read_metrics(folder)) for folder in (one, other)], strict=True):
        if a.keys() != b.keys():
            unequal.append(f"names of metrics of {a['stage']} {a['step']}")
            continue
        numbers = [[row[k] for k in sorted(a) if k not in (*LAYOUT, "stage")] for row in (a, b)]
        metric = max(metric, float(np.nanmax(np.abs(np.subtract(*numbers)))))
    weights = zip(weights_of(one, stages), weights_of(other, stages), strict=True)
    return metric, max(float(np.abs(a - b).max()) for a, b in weights), unequal


def main(config: str, overrides: list[str]) -> int:
    stages = [stage.name for stage in load_config(config, overrides).stages if stage.makes_policy]
    root, failed, first = Path(tempfile.mkdtemp(prefix="processes-")), False, None
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for number, (processes, devices, mesh) in enumerate(TRIALS):
        folder, name = root / str(number), f"{processes} x {devices}, {mesh}"
        command = ["scripts/local_pod.sh", str(processes), str(devices), "train", config]
        done = subprocess.run(
            ["bash", *command, f"run_dir={folder}", *overrides, mesh], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            print(f"{name}: exit code {done.returncode}\n{done.stderr[-2000:]}", flush=True)
            failed = True
        elif first is None:
            first = folder
            print(f"{name}: {len(read_metrics(folder))} rows of metrics", flush=True)
        else:
            metric, weight, unequal = furthest(first, folder, stages)
            apart = f"metrics {metric:.1e}, weights {weight:.1e} apart"
            print(f"{name}: {apart}; not equal: {', '.join(unequal) or 'nothing'}", flush=True)
            failed |= bool(unequal) or max(metric, weight) > 1e-4
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
