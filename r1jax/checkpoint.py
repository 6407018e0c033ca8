"""Orbax, wrapped once: any pytree, saved in the background, complete or not there at all.

    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(step, tree)
        tree = checkpoints.restore(step, like)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints of one stage: `folder/STEP`. A save that was killed leaves nothing that `latest` would name."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self.folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """The highest step that was saved whole."""
        return self._manager.latest_step()

    def save(self, step: int, tree: Any) -> None:
        """Starts a save; waits first for the one before. The arrays may be donated or changed at once."""
        self._manager.save(step, args=ocp.args.StandardSave(tree))

    def restore(self, step: int, like: Any) -> Any:
        """The tree saved at `step`, with the shapes, types and shardings of `like` (jax.ShapeDtypeStruct leaves)."""
        return self._manager.restore(step, args=ocp.args.StandardRestore(like))
