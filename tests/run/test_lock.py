"""A run folder that one process has is refused to a second, and free again once the first has died."""

import errno
import fcntl
import subprocess
import sys

import pytest

from r1jax.config.base import ConfigError
from r1jax.run.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from r1jax.run.lock import locked

with locked(Path(sys.argv[1])):
    print(1, flush=True)
    time.sleep(60)
"""


def test_a_folder_is_locked_until_its_process_ends(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"1\n"
    with (
        pytest.raises(ConfigError, match=rf"run_dir: .*run is in use by process {holder.pid} on .*; wait"),
        locked(folder),
    ):
        pass
    holder.kill()
    holder.wait()
    for _ in range(2):
        with locked(folder):
            pass


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=r"run cannot be locked \(No locks available\)"), locked(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
