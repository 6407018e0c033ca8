"""GRPO, Dr. GRPO, DAPO, GSPO, CISPO, RLOO and PPO from the same start on the quickstart's task: curves and a table.

    uv run scripts/compare_objectives.py runs/objectives --seeds 3 --steps 24

For each seed the quickstart's cold start is trained once and exported; every preset of configs/objectives/ then goes on
from it, with the quickstart's own sizes and learning rate. Run again, it resumes. A run's curve is the
sampled accuracy on 512 unseen problems. A seed took about 27 minutes on one core.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

PRESETS = ("deepseekmath", "dr_grpo", "dapo", "gspo", "rloo", "ppo", "cispo")
# What the presets leave to the experiment, the same for all.
COMMON = {
    "prompts_per_step": 32,
    "group_size": 8,
    "minibatches": 4,
    "microbatch": None,
    "temperature": 1.0,
    "rewards": {"accuracy": 1.0, "format": 0.2},
    "optimizer": {"learning_rate": 6e-4, "warmup_updates": 20, "schedule": "linear"},
}


def r1jax(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "r1jax.cli", *arguments], check=True, stdout=subprocess.DEVNULL)


def start(folder: Path, seed: int) -> Path:
    """The cold start of a seed as a model folder."""
    run, model = folder / f"cold_start-{seed}", folder / f"model-{seed}"
    if not model.is_dir():
        tree = yaml.safe_load(Path("configs/quickstart.yaml").read_text())
        file = folder / f"cold_start-{seed}.yaml"
        file.write_text(yaml.safe_dump(tree | {"run_dir": str(run), "seed": seed, "stages": tree["stages"][:1]}))
        r1jax("train", str(file))
        r1jax("export", str(run), str(model), "--dtype", "float32")
    return model


def learn(folder: Path, seed: int, preset: str, steps: int, every: int) -> list[dict]:
    """The rows of metrics.jsonl of one objective from a seed's start."""
    model, run = start(folder, seed), folder / f"{preset}-{seed}"
    tree = yaml.safe_load(Path("configs/quickstart.yaml").read_text())
    stage = {"name": "rl", "program": "grpo", "steps": steps, "eval_every": every, "save_every": 12}
    stage |= {"preset": f"configs/objectives/{preset}.yaml"} | COMMON
    if preset == "rloo":  # has no ratio, so one update a rollout, and a quarter of the warm-up
        stage |= {"minibatches": 1, "optimizer": COMMON["optimizer"] | {"warmup_updates": 5}}
    tree |= {"run_dir": str(run), "seed": seed, "stages": [stage]}
    tree["model"] = {"path": str(model), "dtype": "float32"}
    file = folder / f"{preset}-{seed}.yaml"
    file.write_text(yaml.safe_dump(tree))
    r1jax("train", str(file))
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def curve(rows: list[dict]) -> np.ndarray:
    """[points, 3]: step, samples generated until then (those of dropped groups too), held-out accuracy in percent."""
    batch, generated, points = COMMON["prompts_per_step"] * COMMON["group_size"], 0, []
    for row in rows:
        if "loss" in row:
            generated += batch * int(row.get("dynamic_sampling/batches", 1))
        if "eval/accuracy" in row:
            points.append((row["step"], generated, 100 * row["eval/accuracy"]))
    return np.array(points)


def summary(curves: dict[str, np.ndarray], seconds: dict[str, float]) -> Table:
    """Means over seeds; in brackets the worst and the best seed."""
    steps = next(iter(curves.values()))[0, :, 0].astype(int)
    shown = [i for i, step in enumerate(steps) if step in (0, 2, 4, 8, 12, steps[-1])]
    table = Table("objective", *(f"step {steps[i]}" for i in shown), "samples", "s a step", title="held out, %")
    for name, seed_points in curves.items():
        accuracy = seed_points[:, :, 2]
        cells = [f"{a.mean():.1f} ({a.min():.1f}, {a.max():.1f})" for a in accuracy[:, shown].T]
        table.add_row(name, *cells, f"{seed_points[:, -1, 1].mean():,.0f}", f"{seconds[name]:.1f}")
    return table


def draw(curves: dict[str, np.ndarray], file: Path) -> None:
    """Accuracy over steps and over samples: a thin line a seed, a thick one for the mean."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    for color, (name, seed_points) in zip(plt.colormaps["tab10"].colors, curves.items(), strict=False):
        for ax, x in zip(axes, (0, 1), strict=True):
            for points in seed_points:
                ax.plot(points[:, x], points[:, 2], color=color, alpha=0.25, linewidth=0.8)
            mean = seed_points.mean(axis=0)
            ax.plot(mean[:, x], mean[:, 2], color=color, linewidth=2, label=name)
    axes[0].set(xlabel="step", ylabel="held-out accuracy, %")
    axes[1].set(xlabel="samples generated, those of dropped groups too")
    axes[1].set_xscale("log", nonpositive="mask")
    axes[0].legend(frameon=False, loc="lower right")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(file, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--every", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    runs = [(preset, seed) for seed in range(options.seeds) for preset in PRESETS]
    rows = {}
    for preset, seed in track(runs, "runs"):
        rows[preset, seed] = learn(options.folder, seed, preset, options.steps, options.every)
    curves = {p: np.array([curve(rows[p, seed]) for seed in range(options.seeds)]) for p in PRESETS}
    times = {
        p: [r["step_time"] for (name, _), run in rows.items() for r in run if name == p and "loss" in r]
        for p in PRESETS
    }
    Console().print(summary(curves, {p: float(np.median(t)) for p, t in times.items()}))
    draw(curves, options.folder / "objectives.png")
    print(options.folder / "objectives.png")


if __name__ == "__main__":
    main()
