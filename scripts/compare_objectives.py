"""GRPO, Dr. GRPO, DAPO, GSPO, CISPO, RLOO and PPO from the same start on the quickstart's task: curves and a table.

    uv run scripts/compare_objectives.py runs/objectives --seeds 3 --steps 24

For each seed the quickstart's cold start is trained once and exported; every preset of configs/objectives/ then goes on
from it, with the quickstart's own sizes and learning rate. Run again, it goes on where it stopped. A run's curve is the
sampled accuracy on unseen problems; its cost, the samples that it took.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import yaml

PRESETS = ("deepseekmath", "dr_grpo", "dapo", "gspo", "rloo", "ppo", "cispo")
EARLY = 30  # steps that the curve of the reward shows
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
    if preset == "rloo":  # has no ratio, so one update a rollout
        stage["minibatches"] = 1
    tree |= {"run_dir": str(run), "seed": seed, "stages": [stage]}
    tree["model"] = {"path": str(model), "dtype": "float32"}
    file = folder / f"{preset}-{seed}.yaml"
    file.write_text(yaml.safe_dump(tree))
    r1jax("train", str(file))
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--every", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(options.seeds, 2, figsize=(11, 4 * options.seeds), squeeze=False)
    print(f"{'objective':14} seed  before    end   best  samples  s/step  entropy at end")
    for seed in range(options.seeds):
        for preset in PRESETS:
            rows = learn(options.folder, seed, preset, options.steps, options.every)
            points = [(r["step"], 100 * r["eval/accuracy"]) for r in rows if "eval/accuracy" in r]
            steps = [r for r in rows if "loss" in r]
            batches = sum(r.get("dynamic_sampling/batches", 1) for r in steps)
            seconds = sorted(r["step_time"] for r in steps)[len(steps) // 2]
            print(
                f"{preset:14} {seed:4} {points[0][1]:6.1f}% {points[-1][1]:5.1f}% {max(y for _, y in points):5.1f}% "
                f"{int(batches) * COMMON['prompts_per_step'] * COMMON['group_size']:8} {seconds:7.2f} "
                f"{steps[-1]['entropy']:8.3f}",
                flush=True,
            )
            early = [(r["step"], r["reward"]) for r in steps if r["step"] <= EARLY]
            axes[seed][0].plot(*zip(*early, strict=True), label=preset)
            axes[seed][1].plot(*zip(*points, strict=True), marker="o", markersize=3, label=preset)
        axes[seed][0].set(title=f"seed {seed}: reward of all samples", xlabel="step", ylim=(0.4, 1.25))
        axes[seed][1].set(title=f"seed {seed}: held-out accuracy, %", xlabel="step", ylim=(30, 101))
    axes[0][0].legend(frameon=False, loc="lower right")
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(options.folder / "objectives.png", dpi=130)
    print(options.folder / "objectives.png")


if __name__ == "__main__":
    main()
