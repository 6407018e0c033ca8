"""A run's curves as one picture, and its held-out scores before and after each stage.

    draw_curves(Path("runs/quickstart"))  # runs/quickstart/curves.png
    rich.print(summary_table(Path("runs/quickstart")))

Both read what the run has written, so they work during a run as well as after it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1jax.config.load import load_config
from r1jax.config.stage import TrainingStage
from r1jax.run.metrics import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

type Row = dict[str, Any]
type Stages = dict[str, tuple[int, int]]  # where each is on the common axis of steps: from (exclusive), to

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's, safe for the color-blind
INK, FAINT = "#333333", "#888888"
SMOOTH = 40  # a curve is drawn as the mean over 1/SMOOTH of a stage, over the faint raw one
SFT_LOSS = "sft loss"  # the loss of rows without rewards: a policy loss stays near zero
PANELS = {  # by title, the metrics by their labels
    "Reward": {"reward": "reward"},
    "Accuracy": {"train": "rewards/accuracy/mean", "held out": "eval/accuracy"},
    "Completion length (tokens)": {"train": "completions/mean_length", "held out": "eval/mean_length"},
    "SFT loss (nats per token)": {"loss": SFT_LOSS},
    "Entropy (nats per token)": {"entropy": "entropy"},
    "KL to the reference": {"kl": "kl"},
    "Clipped tokens": {"low": "clip_ratio/low_mean", "high": "clip_ratio/high_mean"},
}
SCORES = {  # the columns of the table, of which `pass` and `cons` are one for each k
    "accuracy": "accuracy",
    "pass": "pass",
    "cons": "cons",
    "format": "format",
    "mean_length": "length",
    "clipped_ratio": "truncated",
}


def draw_curves(folder: Path) -> Path:
    """Draws FOLDER/curves.png: small multiples over the steps of all stages, of what the run has measured so far.

    Raises ValueError where there are no rows, or none with anything to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = read_metrics(folder)
    for row in rows:
        if "token_accuracy" in row:
            row[SFT_LOSS] = row["loss"]
    rows = [row for row in rows if not _judges(row)]
    panels, stages = _panels(rows), _stages(rows)
    if not panels:
        raise ValueError(f"{folder} has no metrics to draw yet; need one training step or evaluation: let it continue")
    columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    lines = math.ceil(len(panels) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(4.4 * columns, 2.9 * lines + 0.4), layout=layout)
    names = [f"({i}) {name}: {stop - start} steps" for i, (name, (start, stop)) in enumerate(stages.items(), 1)]
    title = "   ".join([folder.resolve().name, *names])
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for (title, curves), ax in zip(panels.items(), axes, strict=False):
        _draw_panel(ax, title, curves, rows, stages)
    for ax in axes[len(panels) :]:
        ax.remove()
    file = folder / "curves.png"
    figure.savefig(file, dpi=150, metadata={"Software": None})
    return file


def summary_table(folder: Path) -> Table | None:
    """Held-out scores: a row "before" (step 0) and one after each stage, of the weights that it ends with.

    These are of its last evaluation, or with `keep: best` of its best checkpoint. `accuracy` is pass@1.

    None where nothing was evaluated, as in a run of rejection sampling alone.
    """
    from rich import box
    from rich.table import Table

    rows, scores = read_metrics(folder), dict[str, Row]()
    evaluations = [row for row in rows if not _judges(row) and any(name.startswith("eval/") for name in row)]
    for row in evaluations:
        if row["step"] == 0 and row["stage"] == rows[0]["stage"]:
            scores["before"] = row
    for stage, row in _endings(evaluations, folder).items():
        scores[f"after {stage}"] = row
    scores = {when: {name.removeprefix("eval/"): value for name, value in row.items()} for when, row in scores.items()}
    if not scores:
        return None

    names, kinds = {name for row in scores.values() for name in row if name.partition("@")[0] in SCORES}, [*SCORES]
    names = sorted(names, key=lambda name: (kinds.index(name.partition("@")[0]), len(name), name))  # @2 before @16
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"held-out scores of {folder.resolve().name}")
    table.add_column("", overflow="fold")
    for name in names:
        table.add_column(SCORES.get(name, name), justify="right", no_wrap=True)
    for when, row in scores.items():
        cells = {name: format(row[name], ".1f" if name == "mean_length" else ".1%") for name in names if name in row}
        table.add_row(when, *(cells.get(name, "-") for name in names))
    return table


def _judges(row: Row) -> bool:
    """Whether a row is of a reward model, whose accuracy is of another kind."""
    return "eval/margin" in row


def _endings(evaluations: Sequence[Row], folder: Path) -> dict[str, Row]:
    """The evaluation, by stage, of the weights that the stage ends with: the last, or of the best checkpoint."""
    file = folder / "config.yaml"
    stages = {stage.name: stage for stage in load_config(file).stages} if file.is_file() else {}
    endings: dict[str, Row] = {}
    for row in evaluations:
        if row["step"] == 0:
            continue
        stage, before = stages.get(row["stage"]), endings.get(row["stage"])
        if isinstance(stage, TrainingStage) and stage.keep == "best":
            saved = row["step"] == stage.steps or (stage.save_every > 0 and row["step"] % stage.save_every == 0)
            if not saved or (before and row.get("eval/accuracy", 0.0) < before.get("eval/accuracy", 0.0)):
                continue
        endings[row["stage"]] = row
    return endings


def _stages(rows: Sequence[Row]) -> Stages:
    steps = {row["stage"]: row["step"] for row in rows}  # a stage's last row has its last step
    bounds = itertools.accumulate(steps.values(), initial=0)
    return dict(zip(steps, itertools.pairwise(bounds), strict=True))


def _panels(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """The panels that have something to show. On-policy nothing is ever clipped: that needs no panel."""
    present = {name for row in rows for name, value in row.items() if value or not name.startswith("clip_ratio/")}
    parts = sorted(name for name in present if name.startswith("rewards/") and name.endswith("/mean"))
    reward = PANELS["Reward"] | ({name.split("/")[1]: name for name in parts} if len(parts) > 1 else {})
    panels = PANELS | {"Reward": reward}
    shown = {title: {k: v for k, v in curves.items() if v in present} for title, curves in panels.items()}
    return {title: curves for title, curves in shown.items() if curves}


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean over a centered window of 1/SMOOTH of the values, narrower at the ends."""
    half = len(values) // SMOOTH // 2
    windows = (values[max(i - half, 0) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _draw_panel(ax: Axes, title: str, curves: Mapping[str, str], rows: Sequence[Row], stages: Stages) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    for (label, metric), color in zip(curves.items(), itertools.cycle(COLORS), strict=False):
        points = [(r["stage"], stages[r["stage"]][0] + r["step"], r[metric]) for r in rows if metric in r]
        if metric.startswith("eval/"):  # few points, on one line: each stage continues with the model of the one before
            _, xs, ys = zip(*points, strict=True)
            ax.plot(xs, ys, "o-", color=color, label=label, ms=4.5, mec="white", mew=0.6, clip_on=False, zorder=4)
            continue
        for number, (_, part) in enumerate(itertools.groupby(points, key=lambda point: point[0])):
            _, xs, ys = zip(*part, strict=True)
            ax.plot(xs, ys, color=color, lw=0.7, alpha=0.22, zorder=2)
            ax.plot(xs, _smooth(ys), color=color, lw=1.5, label="_nolegend_" if number else label, zorder=3)
    ax.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, pad=16 if len(stages) > 1 else 6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#bbbbbb")
    ax.tick_params(colors=INK, labelsize=8, length=3, color="#bbbbbb")
    ax.grid(axis="y", color="#e8e8e8", lw=0.7)
    ax.set_axisbelow(True)
    ax.set_xlabel("step", fontsize=8, color=FAINT, labelpad=1)
    end = max(stop for _, stop in stages.values()) or 1
    ax.set_xlim(0, end * 1.01)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if title != "Reward":
        ax.set_ylim(bottom=0)
    if title in ("Accuracy", "Clipped tokens"):
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    if len(curves) > 1 or title == "Accuracy":
        ax.legend(fontsize=8, frameon=False, labelcolor=INK, handlelength=1.4)
    for number, (name, (start, stop)) in enumerate(stages.items(), 1):
        if number % 2 == 0:
            ax.axvspan(start, stop, color="#f4f6f8", lw=0, zorder=0)
        if number > 1:
            ax.axvline(start, color="#aaaaaa", lw=0.8, ls=(0, (3, 3)), zorder=1)
        if len(stages) > 1:  # the stage's name above it, or its number if it is too narrow
            text = name if (stop - start) / end > 0.02 * len(name) else f"({number})"
            where = ((start + stop) / (2 * end * 1.01), 1)
            style = {"xycoords": "axes fraction", "xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            ax.annotate(text, where, fontsize=7, color=FAINT, **style)
