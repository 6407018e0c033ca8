"""One process at a time in a run folder. What a process that was killed had locked is free again.

with locked(Path("runs/quickstart")):
    ...
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from r1jax.config.base import ConfigError

LOCK = ".lock"  # a file in the run folder; it stays there, and means nothing by itself


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder, which is made where there is none. Raises ConfigError where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"run_dir: {folder} is in use by {file.read() or 'another process'}; wait for it to end, or choose "
                f"another folder with run_dir=..."
            ) from None
        except OSError as error:  # a file system without locks
            warnings.warn(f"{folder} cannot be locked ({error.strerror}); start one run at a time in it", stacklevel=3)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
