"""A run's metrics as a table with a row for each step of each stage, and its curves in a notebook.

table = MetricsTable(read_metrics(Path("runs/quickstart")))
table["reward"]  # a numpy array, NaN where a step has none
table.plot(y=["reward", "completions/mean_length"])
"""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

SECONDS = 2.0  # between two drawings of a LivePlot
SHOWN = ("stage", "step", "loss", "reward", "rewards/accuracy/mean", "completions/mean_length", "eval/accuracy")


class MetricsTable:
    """`rows` are dicts, one for each stage and step: an evaluation's scores are in the row of its step."""

    def __init__(self, logged: Sequence[Mapping[str, Any]]) -> None:
        joined: dict[tuple[str, int], dict[str, Any]] = {}
        for row in logged:
            joined.setdefault((row["stage"], row["step"]), {}).update(row)
        self.rows = list(joined.values())

    @property
    def columns(self) -> list[str]:
        """The names of all metrics, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> np.ndarray:
        """A metric of all rows, NaN where there is none; raises KeyError for one that no row has."""
        import numpy as np

        if name not in self.columns:
            raise KeyError(f"no metric {name!r}; there are {', '.join(self.columns)}")
        missing = None if name == "stage" else np.nan
        return np.array([row.get(name, missing) for row in self.rows])

    def stage(self, name: str) -> MetricsTable:
        """The rows of one stage."""
        return MetricsTable([row for row in self.rows if row["stage"] == name])

    def plot(self, y: str | Sequence[str], x: str = "step") -> Figure:
        """Curves of the metrics `y` over `x`, a panel for each; a line for each stage."""
        from matplotlib.figure import Figure

        names = [y] if isinstance(y, str) else list(y)
        figure = Figure(figsize=(4.4 * len(names), 3.0), layout="constrained")
        for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
            for stage in dict.fromkeys(row["stage"] for row in self.rows):
                points = [(r[x], r[name]) for r in self.rows if r["stage"] == stage and name in r and x in r]
                if points:
                    axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 20 else "", label=stage)
            axes.set_title(name, loc="left", fontsize=10)
            axes.set_xlabel(x, fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
            if axes.lines:
                axes.legend(frameon=False, fontsize=9)
        # IPython shows a figure by itself only where pyplot has been imported.
        figure._repr_png_ = functools.partial(_png, figure)  # pyright: ignore[reportAttributeAccessIssue]
        return figure

    def _repr_html_(self) -> str:
        """The last rows, as a notebook shows them."""
        names = [name for name in SHOWN if name in self.columns]

        def cell(value: Any) -> str:
            return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

        lines = ["".join(f"<td>{cell(row.get(name))}</td>" for name in names) for row in self.rows[-10:]]
        head = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><tr>{head}</tr>{body}</table><p>{len(self.rows)} rows, {len(self.columns)} columns</p>"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


class LivePlot:
    """Curves that grow while a notebook's cell trains: `r1jax.train(config, on_log=LivePlot("reward"))`."""

    def __init__(self, *y: str) -> None:
        """`y` are the metrics to draw."""
        self._names, self._drawn, self._logged, self._handle = y, 0.0, [], None

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Adds a logged row; draws the curves again if SECONDS have passed since the last time."""
        self._logged.append(row)
        if time.monotonic() - self._drawn >= SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draws the curves with all rows so far, as `r1jax.train` does at its end."""
        from IPython.display import display  # pyright: ignore[reportMissingImports]

        if not self._logged:  # the run was finished before
            return
        figure = MetricsTable(self._logged).plot(self._names)
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        self._drawn = time.monotonic()
