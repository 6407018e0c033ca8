"""What a run prints: the progress of a stage with its latest figures, and sampled completions.

with Progress("rl", total=300) as progress:
    progress.update(step, metrics)
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Self

FIGURES = {
    "reward": "reward {:.3f}",
    "rewards/accuracy/mean": "accuracy {:.1%}",
    "completions/mean_length": "length {:.0f}",
    "completions/clipped_ratio": "truncated {:.0%}",
    "dynamic_sampling/groups": "groups with variance {:.0f}",
    "loss": "loss {:.3f}",
    "token_accuracy": "token accuracy {:.1%}",
    "tokens_per_second": "{:,.0f} tokens/s",
}
HELD_OUT = "eval/accuracy"
SECONDS = 10.0  # between two lines where there is no terminal; a tenth of the stage prints a line too


class Progress:
    """A stage's progress: a bar with live figures on a terminal, elsewhere a line now and then.

    `completed` steps were finished before, in an earlier process.
    """

    def __init__(self, stage: str, total: int, *, completed: int = 0, enabled: bool = True) -> None:
        self.stage, self.total, self.completed, self.enabled = stage, total, completed, enabled
        self._latest: dict[str, float] = {}
        self._held_out: tuple[int, float] | None = None
        self._live = self._bar = self._line = None
        self._printed, self._begin = completed, time.monotonic()
        self._printed_at = self._begin

    def __enter__(self) -> Self:
        if self.enabled and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            from rich import progress
            from rich.console import Group
            from rich.live import Live
            from rich.text import Text

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}", style="bold", markup=False),
                progress.BarColumn(bar_width=32),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TextColumn("eta"),
                progress.TimeRemainingColumn(),
                auto_refresh=False,
                speed_estimate_period=600,
            )
            self._bar.add_task(self.stage, total=self.total, completed=self.completed)
            self._line = Text(style="dim")
            self._live = Live(Group(self._bar, self._line), refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        elif self.enabled and self.completed > self._printed:
            self._print()

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows that `step` steps are done, with their metrics or held-out scores."""
        if not self.enabled:
            return
        self.completed = step
        self._latest |= metrics
        if math.isfinite(metrics.get(HELD_OUT, math.nan)):
            self._held_out = step, metrics[HELD_OUT]
        if self._bar is not None and self._line is not None:
            self._bar.update(self._bar.task_ids[0], completed=step)
            self._line.plain = self._figures()
            return
        tenth = (step - self._printed) * 10 >= self.total
        # The line of the last step waits for its held-out scores.
        if step < self.total and (tenth or time.monotonic() - self._printed_at >= SECONDS):
            self._print()

    def show_sample(self, prompt: str, completion: str, rewards: Mapping[str, float | None]) -> None:
        """Prints a completion and its rewards above the bar; markup and escape sequences in it are shown as text."""
        if not self.enabled:
            return
        from rich.console import Console
        from rich.panel import Panel
        from rich.text import Text

        console: Any = self._live.console if self._live else Console(force_terminal=False, force_jupyter=False)
        scores = (f"{name} {'none' if value is None else format(value, 'g')}" for name, value in rewards.items())
        title = Text(f"{self.stage} {self.completed}: {', '.join(scores)}")
        text = Text.assemble((excerpt(prompt), "dim"), excerpt(completion))
        console.print(Panel(text, title=title, title_align="left"))

    def _print(self) -> None:
        now = time.monotonic()
        self._printed, self._printed_at = self.completed, now
        print(f"{self.stage} {self.completed}/{self.total}  {now - self._begin:.0f} s  {self._figures()}", flush=True)

    def _figures(self) -> str:
        shown = {name: value for name, value in self._latest.items() if name in FIGURES and math.isfinite(value)}
        if "reward" in shown:
            shown.pop("loss", None)  # a policy loss tells a reader nothing
        if not shown.get("completions/clipped_ratio"):
            shown.pop("completions/clipped_ratio", None)
        figures = [figure.format(shown[name]) for name, figure in FIGURES.items() if name in shown]
        if self._held_out is not None:
            step, accuracy = self._held_out
            figures.append(f"held-out {accuracy:.1%}" + (f" at step {step}" if step < self.completed else ""))
        return "  ".join(figures)


def excerpt(text: str, characters: int = 800, lines: int = 16) -> str:
    """The beginning and the end of a text, in which control and unprintable characters are escaped."""
    if len(text) > characters:
        text = f"{text[: characters // 2]} [...] {text[-characters // 2 :]}"
    rows = text.split("\n")
    if len(rows) > lines:
        text = "\n".join([*rows[: lines // 2], "[...]", *rows[-lines // 2 :]])
    text = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
