"""Orbax checkpoints of named pytrees, saved in the background and atomically.

with Checkpoints(folder, keep=2) as checkpoints:
    checkpoints.save(step, {"params": params, "training": rest})
    params = checkpoints.restore(step, {"params": like})["params"]
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of one stage: `folder/STEP`. A save that was killed leaves nothing that `steps` would name.

    The last `keep` ones are kept, and of those that were saved with a score the best one.
    """

    def __init__(self, folder: Path, keep: int = 1, *, scored: bool = True) -> None:
        """`scored` says whether saves come with scores, or may have come with them."""
        score = operator.itemgetter("score")
        best = BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=score if scored else None,  # without it no metrics are written or read
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            enable_async_checkpointing=True,
        )
        self.folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """The highest step that was saved completely."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """The steps of the checkpoints that were saved completely, in order."""
        return sorted(self._manager.all_steps())

    def final(self) -> int | None:
        """The step that the stage ends with: the last of those with the best score, or where none has one, of all."""
        self._manager.wait_until_finished()  # a save in flight has no score yet
        scores = {step: found["score"] for step in self.steps() if (found := self._manager.metrics(step))}
        return max(scores, key=lambda step: (scores[step], step)) if scores else self.latest()

    def save(self, step: int, trees: Mapping[str, Any], score: float | None = None) -> None:
        """Starts a save, once the one before has ended. The arrays may be donated right after the call."""
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        metrics = None if score is None else {"score": score}
        self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)

    def restore(self, step: int, like: Mapping[str, Any]) -> Mapping[str, Any]:
        """The trees that `like` names, with the shapes, types and shardings of its ShapeDtypeStruct leaves."""
        items = {name: ocp.args.StandardRestore(tree) for name, tree in like.items()}
        return self._manager.restore(step, args=ocp.args.Composite(**items))
