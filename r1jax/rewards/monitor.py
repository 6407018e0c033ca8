"""Warns about rewards that no longer teach anything, which the metrics show and nobody may notice.

monitor = RewardMonitor({"accuracy": 1.0, "format": 0.2})
for warning in monitor(metrics):
    print(warning)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from r1jax.config.base import RunStopped

WINDOW = 20  # steps
ROUNDING = 1e-6  # metrics are in float32
CHANGE = 0.05  # of a mean, between one window and the next


class RewardMonitor:
    """Called with the metrics of each step, it returns new warnings; each is given once.

    Raises RunStopped where every call of a reward has failed in the first step.

    It warns of a step that had nothing to learn from, because nothing could be scored, no group had reward variance, or
    all completions were truncated and masked; of a reward that had one and the same value for all completions of WINDOW
    steps; and of reward hacking: since its first WINDOW steps, the mean of a reward in `models`, or of `format`, has
    risen by CHANGE, and that of a rule has fallen by as much. For `format` the rule is `accuracy`; for a model it is
    any other reward, those of weight 0 too.
    """

    def __init__(self, weights: Mapping[str, float], models: Sequence[str] = ()) -> None:
        self._weighted = [name for name, weight in weights.items() if weight]
        # The mean and the standard deviation of each reward in the last steps.
        self._history: dict[str, deque[tuple[float, float]]] = {name: deque(maxlen=WINDOW) for name in weights}
        self._first: dict[str, list[float]] = {name: [] for name in weights}  # the means of the first WINDOW steps
        self._steps = dict.fromkeys(weights, 0)
        rules = [name for name in weights if name not in models]
        pairs = [("format", "accuracy")] if {"format", "accuracy"} <= weights.keys() else []
        self._opposed = pairs + [(model, rule) for model in models if model in self._weighted for rule in rules]
        self._given: set[str] = set()

    def __call__(self, metrics: Mapping[str, float]) -> list[str]:
        warnings = {}
        for name, steps in self._steps.items():
            if steps == 0 and metrics.get(f"rewards/{name}/error") == 1.0:
                raise RunStopped(f"reward {name} failed on every completion of its first step; the warning says why")
        if metrics.get("frac_reward_none") == 1.0:
            warnings["none"] = (
                "no completion of this step could be scored, so nothing was learnt: look at the reasons in completions/"
            )
        if metrics.get("dynamic_sampling/groups") == 0:
            warnings["no_variance"] = (
                f"no group of {metrics['dynamic_sampling/batches']:g} batches had reward variance, so nothing was "
                f"learnt: the problems are too easy or too hard for the model; look at the rewards' means"
            )
        if metrics.get("update_tokens") == 0 and not warnings:
            warnings["truncated"] = (
                "every completion of this step that could be scored was truncated, so with truncated: mask nothing was "
                "learnt: raise max_completion_length"
            )
        for name in self._history:
            if metrics.get(f"rewards/{name}/share") == 0:  # no completion of this step has the reward
                continue
            mean, std = metrics[f"rewards/{name}/mean"], metrics[f"rewards/{name}/std"]
            self._history[name].append((mean, std))
            self._steps[name] += 1
            if len(self._first[name]) < WINDOW:
                self._first[name].append(mean)
            if name in self._weighted and self._constant(name):
                warnings[name] = (
                    f"reward {name} has been {mean:g} for every completion of {WINDOW} steps, so it teaches nothing: "
                    f"look at completions/ for what was scored, and try the reward alone with: r1jax reward"
                )
        change = {name: self._change(name) for name in self._history}
        for name, rule in self._opposed:
            if change[name] > CHANGE and change[rule] < -CHANGE:
                warnings[f"hacking/{name}/{rule}"] = (
                    f"{name} rose by {change[name]:.2f} while {rule} fell by {-change[rule]:.2f} over "
                    f"{self._steps[name]} steps: the weight of {name} may be too high, or it is being hacked; look at "
                    f"completions/"
                )
        new = [warning for key, warning in warnings.items() if key not in self._given]
        self._given.update(warnings)
        return new

    def _constant(self, name: str) -> bool:
        """Whether all completions of the last WINDOW steps had one and the same value."""
        mean, std = np.array(list(self._history[name])[-WINDOW:]).T
        unvaried = np.all(std <= ROUNDING * np.maximum(1.0, np.abs(mean)))
        return bool(len(mean) == WINDOW and unvaried and np.allclose(mean[1:], mean[:-1], ROUNDING, ROUNDING))

    def _change(self, name: str) -> float:
        """How far the mean of the last WINDOW steps is from that of the first; 0 before there are two windows."""
        if self._steps[name] < 2 * WINDOW:
            return 0.0
        return float(np.mean([mean for mean, _ in self._history[name]]) - np.mean(self._first[name]))
