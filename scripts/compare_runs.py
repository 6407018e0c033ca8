"""One picture of several runs: held-out accuracy and completion length by step, and a line of numbers for each.

uv run python scripts/compare_runs.py OUT.png runs/seed0 runs/seed1 runs/seed2
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from r1jax.run.metrics import read_metrics

PANELS = (
    ("held-out accuracy", "eval/accuracy", "rewards/accuracy/mean"),
    ("completion length (tokens)", "eval/mean_length", "completions/mean_length"),
)


def main(out: str, folders: list[str]) -> None:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    for number, folder in enumerate(folders):
        rows = read_metrics(Path(folder))
        lengths: dict[str, int] = {}
        for row in rows:
            lengths[row["stage"]] = max(lengths.get(row["stage"], 0), row["step"])
        stages = list(lengths)
        begin = {stage: sum(lengths[s] for s in stages[:i]) for i, stage in enumerate(stages)}
        for axis, (title, held_out, train) in zip(axes, PANELS, strict=True):
            for name, style in ((train, {"alpha": 0.25, "linewidth": 1}), (held_out, {"marker": "o", "markersize": 4})):
                points = [(begin[r["stage"]] + r["step"], r[name]) for r in rows if name in r]
                label = Path(folder).name if name == held_out else None
                axis.plot(*zip(*points, strict=True), color=f"C{number}", label=label, **style)
            axis.set(title=title, xlabel="step")
            axis.grid(alpha=0.3)
            axis.axvline(begin[stages[-1]], color="gray", linestyle="--", linewidth=1)
        last = {r["stage"]: r for r in rows if "eval/accuracy" in r}
        seconds = sum(r.get("step_time", 0) for r in rows)
        print(Path(folder).name, *(f"after {s}: accuracy {r['eval/accuracy']:.3f}, length {r['eval/mean_length']:.1f};"
                                   for s, r in last.items()), f"{seconds:.0f} s in steps")  # fmt: skip
    axes[0].legend()
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
