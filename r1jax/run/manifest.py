"""What a run was made with: commit, command, versions, devices, seed and data. It is written at
the start, for people; where the settings of a stage change, so does what it says of data."""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from r1jax.data.batches import Batches

PACKAGES = ("r1jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def manifest(mesh: Mesh, batches: Mapping[str, Batches], *, seed: int, parameters: int) -> dict[str, Any]:
    """The content of manifest.json; `batches` are the stages' data by their names."""
    firsts = {stage: data.example("train", 0) for stage, data in batches.items()}
    return {
        "commit": commit(),
        "command": sys.argv,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": mesh.devices.flat[0].platform,
        "devices": [str(device) for device in mesh.devices.flat],
        "processes": jax.process_count(),
        "mesh": dict(mesh.shape),
        "seed": seed,
        "parameters": parameters,
        "data_fingerprints": {stage: data_fingerprint(data) for stage, data in batches.items()},
        "first_examples": {stage: {"prompt": e.prompt, "answer": e.answer} for stage, e in firsts.items()},
    }


def commit() -> str | None:
    """The commit of r1jax's own repository, with "+" where its files have changed since; None outside of one."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails if some other project has r1jax in its folder
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+").strip()
    except (OSError, subprocess.CalledProcessError):  # OSError: there is no git here
        return None


def data_fingerprint(batches: Batches, examples: int = 64) -> str:
    """A hash over the first examples of both splits: it changes where generator, data or seed do."""
    digest = hashlib.blake2b(digest_size=16)
    for split in ("train", "test"):
        for index in range(examples):
            example = batches.example(split, index)
            digest.update(f"{example.prompt}\0{example.answer}\0{example.demonstration}\0".encode())
    return digest.hexdigest()
