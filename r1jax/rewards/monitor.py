"""Ways in which rewards quietly stop teaching, seen in the metrics and said once, with what to look at.

watch = RewardMonitor(["accuracy", "format"])
for line in watch(metrics):
    print(line)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

STEPS = 20
ROUNDING = 1e-6  # the figures are float32's
CHANGE = 0.05  # of a mean, between one window of STEPS and the next


class RewardMonitor:
    """Called with each step's metrics; returns what is new to say.

    A step in which nothing could be graded, no group was mixed, or all was cut off and masked; a reward whose every
    score was the same for STEPS steps; and, of the rewards named accuracy and format, the second's mean rising by
    CHANGE from one window of STEPS steps to the next while the first's falls by as much.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._means: dict[str, deque[float]] = {name: deque(maxlen=2 * STEPS) for name in names}
        self._same = dict.fromkeys(names, 0)
        self._last: dict[str, float] = {}
        self._said: set[str] = set()

    def __call__(self, metrics: Mapping[str, float]) -> list[str]:
        lines = {}
        if metrics.get("frac_reward_none") == 1.0:
            lines["none"] = (
                "no completion of this step could be graded, so nothing was learnt: look at the reasons in completions/"
            )
        if metrics.get("dynamic_sampling/mixed_groups") == 0:
            lines["unmixed"] = (
                f"no group of {metrics['dynamic_sampling/batches']:g} batches was mixed, so nothing was learnt: the "
                f"problems are too easy or too hard for the model; look at the rewards' means"
            )
        if metrics.get("update_tokens") == 0 and not lines:
            lines["cut"] = (
                "every completion of this step that could be graded was cut off, so with truncated: mask nothing was "
                "learnt: raise max_completion_length"
            )
        for name in self.names:
            mean, std = metrics[f"rewards/{name}/mean"], metrics[f"rewards/{name}/std"]
            constant = std <= ROUNDING * max(1.0, abs(mean))
            again = math.isclose(mean, self._last.get(name, math.nan), rel_tol=ROUNDING, abs_tol=ROUNDING)
            self._same[name] = (self._same[name] + 1 if again else 1) if constant else 0
            self._last[name] = mean
            self._means[name].append(mean)
            if self._same[name] >= STEPS:
                lines[name] = (
                    f"reward {name} has been {mean:g} for every completion of {STEPS} steps, so it teaches nothing: "
                    f"look at completions/ for what was scored, and try the reward alone with: r1jax reward"
                )
        change = {name: self._change(name) for name in ("accuracy", "format") if name in self._means}
        if change.get("format", 0) > CHANGE and change.get("accuracy", 0) < -CHANGE:
            lines["hacking"] = (
                f"format rose by {change['format']:.2f} while accuracy fell by {-change['accuracy']:.2f} over "
                f"{2 * STEPS} steps: the form may be paid too well; look at completions/ and at the rewards' weights"
            )
        new = [line for key, line in lines.items() if key not in self._said]
        self._said.update(lines)
        return new

    def _change(self, name: str) -> float:
        means = list(self._means[name])
        return float(np.mean(means[STEPS:]) - np.mean(means[:STEPS])) if len(means) == 2 * STEPS else 0.0
