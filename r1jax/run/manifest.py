"""What a run was made with: commit, command, versions, devices, seed and data. It is written at the start, for people;
its fingerprints of the data also keep a run from being resumed with other data."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from r1jax.config.base import ConfigError
from r1jax.data.batches import Batches
from r1jax.tasks.contamination import tables_of

MANIFEST = "manifest.json"
CHECKSUMS = "checksums.json"  # of the files in a folder that describes a model
PACKAGES = ("r1jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def manifest(
    mesh: Mesh, batches: Mapping[str, Batches], fingerprints: Mapping[str, str], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of manifest.json, with further `facts`; `batches` are the stages' data by their names."""
    firsts = {stage: data.example("train", 0) for stage, data in batches.items()}
    return {
        "commit": commit(),
        "command": sys.argv,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": mesh.devices.flat[0].platform,
        "devices": [str(device) for device in mesh.devices.flat],
        "processes": jax.process_count(),
        "mesh": dict(mesh.shape),
        **facts,
        "data_fingerprints": dict(fingerprints),
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


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """That of a run folder, None where there is none that can be read."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def check_same_data(folder: Path, fingerprints: Mapping[str, str], begun: Collection[str]) -> list[str]:
    """The stages whose data have changed since the run began. Raises ConfigError where one of them has `begun`."""
    if not (folder / "config.yaml").is_file():
        return []
    before = (read_manifest(folder) or {}).get("data_fingerprints")
    if not isinstance(before, dict):
        warnings.warn(
            f"{folder / MANIFEST} is missing or damaged, so that nothing tells whether the data are still those that "
            f"the run began with",
            stacklevel=2,
        )
        return []
    changed = [stage for stage in fingerprints if stage in before and before[stage] != fingerprints[stage]]
    for stage in changed:
        if stage in begun:
            raise ConfigError(
                f"stages.{stage}.task: its data have changed since the run in {folder} began (their fingerprint in "
                f"{MANIFEST} differs); put the old data back, or choose another folder with run_dir=..."
            )
    return changed


def data_fingerprint(batches: Batches, examples: int = 64) -> str:
    """A hash of all rows of data sets, and of the first examples of both splits as the model sees them: it changes
    where data, generator or seed do."""
    digest = hashlib.blake2b(digest_size=16)

    def add(*texts: object) -> None:
        digest.update("".join(f"{text}\0" for text in texts).encode("utf-8", "surrogatepass"))

    for table in tables_of(batches.task):
        for split, rows in table.examples.items():
            for row in rows:
                add(split, row.question, row.answer, row.demonstration, row.data)
    for split in ("train", "test"):
        for index in range(examples):
            example = batches.example(split, index)
            add(example.prompt, example.answer, example.demonstration)
    return digest.hexdigest()


def write_checksums(folder: Path) -> None:
    """Writes into a folder, which is complete, the hashes of its files."""
    hashes = {file.name: _hash(file) for file in sorted(folder.iterdir()) if file.is_file()}
    (folder / CHECKSUMS).write_text(json.dumps(hashes, indent=1) + "\n")


def check_checksums(folder: Path) -> None:
    """Raises ConfigError where a file is not the one whose hash was written, or is gone, or was added."""
    file = folder / CHECKSUMS
    if not file.exists():
        return
    try:
        hashes = dict(json.loads(file.read_bytes()))
    except (ValueError, TypeError):
        hashes = {CHECKSUMS: None}
    here = {each.name for each in folder.iterdir() if each.is_file() and not each.name.startswith(".")}
    added = here - {CHECKSUMS, *hashes}
    for name, written in {**hashes, **dict.fromkeys(sorted(added))}.items():
        if not (folder / name).is_file() or _hash(folder / name) != written:
            raise ConfigError(
                f"{folder / name} is not the file that the run wrote; put that one back, or, if you changed it on "
                f"purpose, delete {file}"
            )


def _hash(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
