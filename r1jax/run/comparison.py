"""A table and a picture of a run's stages side by side, from the scores in RUN_DIR/comparison.json.

rich.print(comparison_table(Path("runs/r1_tiny")))
draw_comparison(Path("runs/r1_tiny"))  # runs/r1_tiny/comparison.png
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

LEFT_OUT = ("clipped_ratio", "frac_reward_none", "pass@", "cons@")
LENGTH = "length"


def comparison_file(folder: Path) -> Path:
    """Where a run folder has the scores."""
    return folder / "comparison.json"


def read_comparison(folder: Path) -> dict[str, Any]:
    """By the names that the config's `table` gives stages: their stage, step and scores."""
    file = comparison_file(folder)
    return json.loads(file.read_text()) if file.is_file() else {}


def accuracies(entry: Mapping[str, Any]) -> list[float]:
    """The accuracy of each problem of a stage's entry, NaN where it has none."""
    return [math.nan if value is None else value for value in entry.get("accuracies", [])]


def comparison_columns(folder: Path) -> dict[str, list[float]]:
    """By metric its value for each stage, NaN where a stage has none.

    Metrics are accuracy in all and by part, the other rewards in all, and length.
    """
    scores = [entry["scores"] for entry in read_comparison(folder).values()]
    names = [n.removeprefix("eval/") for n in dict.fromkeys(name for each in scores for name in each)]
    shown = [n for n in names if not n.startswith(LEFT_OUT) and ("/" not in n or n.startswith("accuracy/"))]
    shown.sort(key=lambda n: (not n.startswith("accuracy"), n == "mean_length"))  # otherwise as they are
    label = {"mean_length": LENGTH}
    return {
        label.get(n) or n.replace("accuracy/", "accuracy: "): [
            float(each.get(f"eval/{n}", math.nan)) for each in scores
        ]
        for n in shown
    }


def bootstrap(values: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """The 95 % interval of the mean: the values are drawn anew, with replacement, `draws` times.

    NaN are left out; both ends are NaN where nothing is left."""
    known = np.array(values, float)
    known = known[~np.isnan(known)]
    if not known.size:
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    means = np.concatenate([rng.choice(known, (100, known.size)).mean(axis=1) for _ in range(draws // 100)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def comparison_table(folder: Path) -> Table:
    """A row for each stage, a column for each metric, where parts' names stand for their accuracy.

    Beside the accuracy is half its 95 % bootstrap interval. The best value of a column is bold, but for lengths."""
    from rich import box
    from rich.table import Table

    columns = comparison_columns(folder)
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        title=f"stages of {folder.resolve().name}, held out (percent; length in tokens)",
    )
    table.add_column("", no_wrap=True)
    for metric in columns:
        table.add_column(metric.removeprefix("accuracy: "), justify="right", overflow="fold", min_width=5)
    best = {m: max((v for v in values if not math.isnan(v)), default=math.nan) for m, values in columns.items()}
    for number, (name, entry) in enumerate(read_comparison(folder).items()):
        cells, (low, high) = [], bootstrap(accuracies(entry))
        for metric, values in columns.items():
            value, cell = values[number], _cell(metric, values[number])
            if metric == "accuracy" and low <= high:  # neither is NaN
                cell += f" ±{50 * (high - low):.1f}"
            cells.append(f"[bold]{cell}[/]" if value == best[metric] and metric != LENGTH else cell)
        table.add_row(name, *cells)
    return table


def draw_comparison(folder: Path) -> Path:
    """Draws FOLDER/comparison.png: a panel of bars for each metric, in percent, or tokens of length."""
    from matplotlib.figure import Figure

    names, rows = [*read_comparison(folder)], comparison_columns(folder)
    columns = min(4, len(rows))
    lines = math.ceil(len(rows) / columns)
    figure = Figure(figsize=(3.1 * columns, 0.27 * len(names) * lines + 0.75 * lines + 0.3), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for (metric, values), ax in zip(rows.items(), axes, strict=False):
        bars = ax.barh(names, [0 if math.isnan(v) else v for v in values], color="#0072b2", height=0.7)
        ax.bar_label(bars, [_cell(metric, v) for v in values], padding=2, fontsize=7)
        ax.set_title(metric, loc="left", fontsize=9, fontweight="bold", color="#333333")
        ax.set_xticks([])
        ax.tick_params(labelsize=8, length=0)
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        ax.margins(x=0.18)
    axes[0].invert_yaxis()  # of all, which share it
    for ax in axes[len(rows) :]:
        ax.remove()
    file = folder / "comparison.png"
    figure.savefig(file, dpi=150, metadata={"Software": None})
    return file


def _cell(metric: str, value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}" if metric == LENGTH else f"{100 * value:.1f}"
