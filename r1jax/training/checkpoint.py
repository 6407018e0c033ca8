"""Orbax checkpoints of named pytrees, saved in the background and atomically.

with Checkpoints(folder, keep=2) as checkpoints:
    checkpoints.save(step, {"params": params, "training": rest})
    params = checkpoints.restore(step, {"params": like})["params"]
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of one stage: `folder/STEP`. A save that was killed leaves nothing that `steps` would name."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
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

    def save(self, step: int, trees: Mapping[str, Any]) -> None:
        """Starts a save, once the one before has ended. The arrays may be donated right after the call."""
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, step: int, like: Mapping[str, Any]) -> Mapping[str, Any]:
        """The trees that `like` names, with the shapes, types and shardings of its ShapeDtypeStruct leaves."""
        items = {name: ocp.args.StandardRestore(tree) for name, tree in like.items()}
        return self._manager.restore(step, args=ocp.args.Composite(**items))
