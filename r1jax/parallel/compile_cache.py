"""Compiled programs are kept on disk, so that a run that starts again does not wait for its compiler again.

use_compile_cache()  # before the first compilation
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jax


def use_compile_cache() -> None:
    """Keeps compiled programs in the user's cache folder, where JAX has not been told of a folder of its own.

    JAX_COMPILATION_CACHE_DIR names another folder, and JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
    """
    if jax.config.jax_compilation_cache_dir is None:
        with contextlib.suppress(RuntimeError):  # a user without a home
            jax.config.update("jax_compilation_cache_dir", str(cache_folder()))


def cache_folder() -> Path:
    """A folder for this kind of processor: a program for another one, in a shared home, might not run here."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "r1jax" / f"compiled-{hashlib.sha256(_processor().encode()).hexdigest()[:12]}"


def _processor() -> str:
    """The machine's name for its processor and, on Linux, the instructions that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    known = [line for line in lines if line.startswith(("flags", "Features"))]
    return " ".join([platform.machine(), platform.processor(), *known[:1]])
