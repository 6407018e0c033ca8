"""Orbax checkpoints of named pytrees, saved in the background and atomically, with a checksum of every array.

with Checkpoints(folder, keep=2) as checkpoints:
    checkpoints.save(step, {"params": params, "training": rest})
    params = checkpoints.restore(step, {"params": like})["params"]
"""

from __future__ import annotations

import contextlib
import errno
import json
import operator
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, EveryNSteps, LatestN

from r1jax.config.base import ConfigError, RunStopped

READ_ONLY = {"read_only": True, "create": False, "save_interval_steps": 0}  # the last two or Orbax warns of them
CHECKSUMS = "checksums"  # the item of a checkpoint that has those of the others
DAMAGED = ".damaged"  # what the name of a checkpoint that was put aside ends in
# What OSErrors have and TensorStore's messages say where a folder's files are not as they were.
FILES_DIFFER = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)
UNREADABLE = ("PERMISSION_DENIED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "Too many open files")


class DamagedCheckpoint(ConfigError):
    """A checkpoint cannot be read, or is not what was saved; the message is one line."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"the checkpoint {folder} is damaged: {reason}")
        self.folder = folder


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of one stage: `folder/STEP`. A save that was killed leaves nothing that `steps` would name.

    The last `keep` ones are kept, of those that were saved with a score the best one, and those whose step is a
    multiple of `every`, if it is not 0.
    """

    def __init__(self, folder: Path, keep: int = 1, *, every: int = 0, scored: bool = True) -> None:
        """`scored` says whether saves come with scores, or may have come with them."""
        score = operator.itemgetter("score")
        best = BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=score if scored else None,  # without it no metrics are written or read
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best, *([EveryNSteps(every)] if every else [])]),
            enable_async_checkpointing=True,
            **(READ_ONLY if folder.is_dir() and not os.access(folder, os.W_OK) else {}),
        )
        self.folder = folder
        for scores in folder.glob("*/metrics/metrics"):  # of all steps, which Orbax reads at once
            if (checkpoint := scores.parents[1]).name.isdigit():
                with _whole(checkpoint):
                    json.loads(scores.read_bytes())
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __exit__(self, *_: object) -> None:
        with self._saving():
            self._manager.close()

    def latest(self) -> int | None:
        """The highest step that was saved completely."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """The steps of the checkpoints that were saved completely, in order."""
        return sorted(self._manager.all_steps())

    def final(self) -> int | None:
        """The step that the stage ends with: the last of those with the best score, or where none has one, of all."""
        with self._saving():
            self._manager.wait_until_finished()  # a save in flight has no score yet
        scores = {step: found["score"] for step in self.steps() if (found := self._manager.metrics(step))}
        return max(scores, key=lambda step: (scores[step], step)) if scores else self.latest()

    def save(self, step: int, trees: Mapping[str, Any], score: float | None = None) -> None:
        """Starts a save, once the one before has ended. The arrays may be donated right after the call.

        Raises RunStopped where there is no room for it, or the save before has failed.
        """
        size = sum(x.nbytes for x in jax.tree.leaves(trees))
        if self.folder.is_dir() and (free := shutil.disk_usage(self.folder).free) < size:
            raise RunStopped(
                f"the checkpoint {self.folder / str(step)} may need {size / 1e6:,.0f} MB, and its disk has "
                f"{free / 1e6:,.0f} MB free; make room, and the same command resumes from the last checkpoint"
            )
        items: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        sums = {name: checksums(tree) for name, tree in trees.items()}
        items[CHECKSUMS] = ocp.args.JsonSave(sums | {"step": step})
        metrics = None if score is None else {"score": score}
        with self._saving():
            if not self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics):
                raise PermissionError(errno.EACCES, "it is not writable, or has a later step")

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Makes a RunStopped of what went wrong in a save, which is raised by what comes after it."""
        try:
            yield
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            raise RunStopped(f"a checkpoint could not be saved in {self.folder}: {reason}") from None

    def restore(self, step: int, like: Mapping[str, Any]) -> Mapping[str, Any]:
        """The trees that `like` names, with the shapes, types and shardings of its ShapeDtypeStruct leaves.

        Raises DamagedCheckpoint where an array is not the one that was saved, or files are missing or make no sense;
        RunStopped where the disk does not give them.
        """
        items: dict[str, Any] = {name: ocp.args.StandardRestore(tree) for name, tree in like.items()}
        items[CHECKSUMS] = ocp.args.JsonRestore()
        folder = self.folder / str(step)
        with _whole(folder):
            found = self._manager.restore(step, args=ocp.args.Composite(**items))
            saved_as, sums = found[CHECKSUMS]["step"], {name: dict(found[CHECKSUMS][name]) for name in like}
        if saved_as != step:
            raise DamagedCheckpoint(folder, f"it was saved as step {saved_as}")
        for name in like:
            if wrong := [path for path, number in checksums(found[name]).items() if sums[name].get(path) != number]:
                raise DamagedCheckpoint(folder, f"{name} {wrong[0]} is not what was saved")
        return {name: found[name] for name in like}


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Makes a DamagedCheckpoint of what Orbax and TensorStore raise, which is of every kind; a RunStopped of what says
    nothing about the checkpoint, such as a disk that does not answer."""
    try:
        yield
    except (DamagedCheckpoint, MemoryError, jax.errors.JaxRuntimeError):  # what does not fit a device may be whole
        raise
    except Exception as error:
        text = (str(error) or type(error).__name__).splitlines()[0][:200]
        number = error.errno if isinstance(error, OSError) else None
        if number not in (None, *FILES_DIFFER) or any(word in str(error) for word in UNREADABLE):
            raise RunStopped(f"the checkpoint {folder} could not be read: {text}") from None
        raise DamagedCheckpoint(folder, text) from None


def put_aside(folder: Path) -> Path:
    """Renames a checkpoint's folder, so that it is none any more and can still be looked at; returns where it is."""
    number = 0
    while (aside := folder.with_name(f"{folder.name}{DAMAGED}{number or ''}")).exists():
        number += 1
    return folder.rename(aside)


def checksums(tree: Any) -> dict[str, int]:
    """A checksum of each array by its path, the same on any mesh."""
    numbers = jax.device_get(jax.tree.map(_checksum, tree))
    leaves = jax.tree_util.tree_leaves_with_path(numbers)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): int(number) for path, number in leaves}


@jax.jit
def _checksum(x: jax.Array) -> jax.Array:
    """The sum, modulo 2³², of an array's bits, each number times an odd one that is its position's.

    No single changed bit leaves it as it was.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}")).astype(jnp.uint32)
    position = jnp.arange(x.size, dtype=jnp.uint32).reshape(x.shape)
    return (bits * (2 * position + 1)).sum(dtype=jnp.uint32)
