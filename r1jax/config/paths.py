"""Paths in settings and on the command line: `~` and environment variables, addresses, folders that cannot be made.

expand("run_dir", "~/runs/$USER")  # "/home/ann/runs/ann"
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from r1jax.config.base import ConfigError

# The settings that are paths, or names in whose place a path may be given, wherever they stand.
PATHS = (
    "run_dir", "path", "tokenizer", "init_from", "teacher", "preset", "function", "jsonl", "parquet", "tfds", "test",
    "decontaminate",
)  # fmt: skip


def expand(where: str, path: str) -> str:
    """A path as the file system has it. Raises ConfigError, which begins with `where`, for what can be none."""
    if re.match(r"\w[\w.+-]+:/", path):
        raise ConfigError(
            f"{where}: {path!r} is an address, and r1jax reads and writes files; mount the bucket as a folder, for "
            f"example with gcsfuse, and give that folder"
        )
    expanded = os.path.expandvars(os.path.expanduser(path))
    if unset := re.search(r"\$(\w+|\{\w+\})", expanded):
        raise ConfigError(f"{where}: {path!r} names an environment variable that is not set: {unset[0]}")
    if not expanded.strip() or not expanded.isprintable():
        raise ConfigError(f"{where}: {path!r} is not a path")
    return expanded


def expand_paths(node: Any, keys: tuple[str, ...] = ()) -> Any:
    """Settings as plain dicts and lists, in which every path is expanded."""
    if isinstance(node, dict):
        return {key: expand_paths(value, (*keys, str(key))) for key, value in node.items()}
    if isinstance(node, list):
        return [expand_paths(entry, keys) for entry in node]
    return expand(".".join(keys), node) if isinstance(node, str) and keys and keys[-1] in PATHS else node


def check_folder(where: str, folder: str) -> None:
    """Raises ConfigError where a folder cannot be made or nothing can be written into it."""
    existing = Path(folder).absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    try:
        with tempfile.TemporaryDirectory(dir=existing):
            pass
    except OSError as error:
        why = f"not writable ({error.strerror})" if existing.is_dir() else "no folder"
        raise ConfigError(f"{where}: {folder} cannot be written: {existing} is {why}; choose another folder") from None
