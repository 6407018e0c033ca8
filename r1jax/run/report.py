"""A run's curves as one picture, and its held-out scores before and after each stage.

    draw_curves(Path("runs/quickstart"))  # runs/quickstart/curves.png
    rich.print(summary_table(Path("runs/quickstart")))

Both read metrics.jsonl alone, so they work during a run as well as after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1jax.run.metrics import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

type Row = dict[str, Any]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's, safe for the color-blind
BLUE, RED = COLORS[:2]
INK, FAINT = "#333333", "#888888"
SMOOTH = 40  # a curve is drawn as the mean over 1/SMOOTH of a stage, over the faint raw one


@dataclass(frozen=True)
class Stage:
    """A stage's place on the common axis of steps: from `start` (exclusive) to `stop`."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Curve:
    """A metric to draw. Held-out scores are few and get markers; `main` curves are drawn stronger than the rest."""

    metric: str
    label: str
    color: str
    markers: bool = False
    main: bool = True


@dataclass(frozen=True)
class Panel:
    title: str
    curves: Sequence[Curve]
    percent: bool = False
    from_zero: bool = True


def draw_curves(folder: Path) -> Path:
    """Draws FOLDER/curves.png: small multiples over the steps of all stages, of what the run has measured so far.

    Raises ValueError where there are no rows, or none with anything to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = read_metrics(folder)
    panels = _panels(rows)
    if not panels:
        raise ValueError(f"{folder} has no metrics to draw yet; need one training step or evaluation: let it continue")
    columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    lines = math.ceil(len(panels) / columns)
    stages = _stages(rows)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(4.4 * columns, 2.9 * lines + 0.4), layout=layout)
    names = "   ".join(f"({i}) {stage.name}: {stage.stop - stage.start} steps" for i, stage in enumerate(stages, 1))
    figure.suptitle(f"{folder.resolve().name}   {names}", x=0.01, ha="left", fontsize=10, color=INK)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, ax in zip(panels, axes, strict=False):
        _draw_panel(ax, panel, rows, stages)
    for ax in axes[len(panels) :]:
        ax.remove()
    file = folder / "curves.png"
    figure.savefig(file, dpi=150, metadata={"Software": None})
    return file


def summary_table(folder: Path) -> Table:
    """Held-out scores: a row "before" (step 0) and one after each stage (its last evaluation). `accuracy` is pass@1.

    Raises ValueError where nothing was evaluated yet.
    """
    from rich import box
    from rich.table import Table

    scores = _scores(read_metrics(folder))
    if not scores:
        raise ValueError(f"{folder} has no evaluation yet; need one row with eval/accuracy: let the run continue")
    names = {name for _, row in scores for name in row if name.startswith("eval/")}

    def numbered(kind: str) -> list[str]:
        return sorted((name for name in names if name.startswith(kind)), key=lambda name: int(name.rpartition("@")[2]))

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"held-out scores of {folder.resolve().name}")
    table.add_column("", overflow="fold")
    columns = {"eval/accuracy": "accuracy"}
    columns |= {name: name.removeprefix("eval/") for name in numbered("eval/pass@") + numbered("eval/cons@")}
    columns |= {"eval/format": "format", "eval/mean_length": "length", "eval/clipped_ratio": "truncated"}
    columns = {name: label for name, label in columns.items() if name in names}
    for label in columns.values():
        table.add_column(label, justify="right", no_wrap=True)
    for when, row in scores:
        table.add_row(when, *(_cell(name, row.get(name)) for name in columns))
    return table


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if name == "eval/mean_length" else f"{value:.1%}"


def _scores(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """("before" or "after STAGE", its evaluation), in the order of the stages."""
    scores: dict[str, Row] = {}
    for row in rows:
        if "eval/accuracy" not in row:
            continue
        if row["step"] > 0:
            scores[f"after {row['stage']}"] = row
        elif row["stage"] == rows[0]["stage"]:
            scores["before"] = row
    return list(scores.items())


def _stages(rows: Sequence[Row]) -> list[Stage]:
    steps: dict[str, int] = {}
    for row in rows:
        steps[row["stage"]] = max(row["step"], steps.get(row["stage"], 0))
    stages, start = [], 0
    for name, count in steps.items():
        stages.append(Stage(name, start, start + count))
        start += count
    return stages


def _panels(rows: Sequence[Row]) -> list[Panel]:
    """The panels that have something to show. On-policy nothing is ever clipped: that needs no panel."""
    present = {name for row in rows for name, value in row.items() if value or not name.startswith("clip_ratio/")}
    rewards = sorted(name for name in present if name.startswith("rewards/") and name.endswith("/mean"))
    parts = [
        Curve(name, name.split("/", 1)[1].removesuffix("/mean"), COLORS[1 + i % (len(COLORS) - 1)], main=False)
        for i, name in enumerate(rewards)
    ]
    panels = [
        Panel("Reward", [Curve("reward", "reward", BLUE), *(parts if len(parts) > 1 else [])], from_zero=False),
        Panel(
            "Accuracy",
            [
                Curve("rewards/accuracy/mean", "train", BLUE, main=False),
                Curve("eval/accuracy", "held out", RED, markers=True),
            ],
            percent=True,
        ),
        Panel(
            "Completion length (tokens)",
            [
                Curve("completions/mean_length", "train", BLUE, main=False),
                Curve("eval/mean_length", "held out", RED, markers=True),
            ],
        ),
        Panel("SFT loss (nats per token)", [Curve("sft loss", "loss", BLUE)]),
        Panel("Entropy (nats per token)", [Curve("entropy", "entropy", BLUE)]),
        Panel("KL to the reference", [Curve("kl", "kl", BLUE)]),
        Panel(
            "Clipped tokens",
            [
                Curve("clip_ratio/low_mean", "low", BLUE, main=False),
                Curve("clip_ratio/high_mean", "high", RED, main=False),
            ],
            percent=True,
        ),
    ]
    if any("loss" in row and "reward" not in row for row in rows):
        present.add("sft loss")
    kept = [Panel(p.title, [c for c in p.curves if c.metric in present], p.percent, p.from_zero) for p in panels]
    return [panel for panel in kept if panel.curves]


def _points(rows: Sequence[Row], stage: Stage, metric: str) -> tuple[list[int], list[float]]:
    """A stage's values of a metric, at steps of the whole run. A policy loss is left out: it stays near zero."""
    if metric == "sft loss":
        rows, metric = [row for row in rows if "reward" not in row], "loss"
    points = [(stage.start + row["step"], row[metric]) for row in rows if row["stage"] == stage.name and metric in row]
    return [x for x, _ in points], [y for _, y in points]


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean over a centered window of 1/SMOOTH of the values, narrower at the ends."""
    half = len(values) // SMOOTH // 2
    windows = (values[max(i - half, 0) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _draw_panel(ax: Axes, panel: Panel, rows: Sequence[Row], stages: Sequence[Stage]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    for curve in panel.curves:
        label, color = curve.label, curve.color
        parts = [part for part in (_points(rows, stage, curve.metric) for stage in stages) if part[0]]
        if curve.markers:  # one line through all stages: each continues with the model of the one before
            xs, ys = ([value for part in parts for value in part[axis]] for axis in (0, 1))
            style = {"ms": 4.5, "lw": 1.4, "mec": "white", "mew": 0.6, "clip_on": False}
            ax.plot(xs, ys, "o-", color=color, label=label, zorder=4, **style)
            continue
        width, depth = (1.8, 3.5) if curve.main else (1.3, 3)
        for xs, ys in parts:
            ax.plot(xs, ys, color=color, lw=0.7, alpha=0.22, zorder=2)
            ax.plot(xs, _smooth(ys), color=color, lw=width, label=label, zorder=depth)
            label = "_nolegend_"
    ax.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=INK, pad=16 if len(stages) > 1 else 6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#bbbbbb")
    ax.tick_params(colors=INK, labelsize=8, length=3, color="#bbbbbb")
    ax.grid(axis="y", color="#e8e8e8", lw=0.7)
    ax.set_axisbelow(True)
    ax.set_xlabel("step", fontsize=8, color=FAINT, labelpad=1)
    ax.set_xlim(0, max(stages[-1].stop, 1) * 1.01)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if panel.from_zero:
        ax.set_ylim(bottom=0)
    if panel.percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    if len(panel.curves) > 1 or panel.curves[0].markers:
        ax.legend(fontsize=8, frameon=False, labelcolor=INK, handlelength=1.4)
    _mark_stages(ax, stages)


def _mark_stages(ax: Axes, stages: Sequence[Stage]) -> None:
    """Every other stage on a shaded band, a line where one ends; above it its name, or its number if too narrow."""
    for number, stage in enumerate(stages, 1):
        if number % 2 == 0:
            ax.axvspan(stage.start, stage.stop, color="#f4f6f8", lw=0, zorder=0)
        if number > 1:
            ax.axvline(stage.start, color="#aaaaaa", lw=0.8, ls=(0, (3, 3)), zorder=1)
        if len(stages) > 1:
            fits = (stage.stop - stage.start) / max(stages[-1].stop, 1) > 0.02 * len(stage.name)
            ax.annotate(
                stage.name if fits else f"({number})",
                ((stage.start + stage.stop) / 2, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(0, 3),
                textcoords="offset points",
                fontsize=7,
                color=FAINT,
                ha="center",
            )
