"""Runs a program that nobody has read, and gives what it printed. Linux; elsewhere only unprotected.

    check_isolation()  # at start-up: ValueError where this machine cannot isolate
    run_program("print(int(input()) * 2)", "3\\n", seconds=2.0).output  # b"6\\n"
    run_program("def f(x): return x * 2", call="f(*arguments)", arguments=[3]).output  # b"6"

The walls are bubblewrap's where it is installed, else the kernel's namespaces, built by `cell`: the program sees no
network, no process but its own, none of this process's environment or files; of the file system it sees, read-only,
the system's libraries and Python's, and a temporary folder of its own, in memory, which ends with it. It holds no
rights over the kernel. With its first process all others end, and that one ends with the thread that started it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import marshal
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1jax.sandbox.namespaces import DISK, LINKS

START_SECONDS = 60.0  # for Python and the walls, on a busy machine
END_SECONDS = 10.0  # for the kernel to end what was killed
MAX_OUTPUT = 8 << 20  # bytes; the parent has to hold them
LEAST_MEMORY_MB = 64
KINDS = ("auto", "bwrap", "namespaces", "unsafe")
CELL = Path(__file__).with_name("namespaces.py")
# All that a program's environment holds. Sets are printed in the same order in every run, whole numbers of any length.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "PYTHONINTMAXSTRDIGITS": "0",
    "MALLOC_ARENA_MAX": "2",  # each thread reserves address space
}
LIBRARIES = ("LD_LIBRARY_PATH",)  # Python itself may need it; the program does not get it
PYTHON = [os.path.realpath(sys.executable), "-P", "-s", "-S", "-B"]

# As many programs at once as there are CPUs, so that the time a program is given is its own.
_slots = threading.BoundedSemaphore(os.cpu_count() or 1)


class SandboxError(RuntimeError):
    """The program could not be run, through no fault of its own."""


@dataclass(frozen=True)
class Run:
    """What a program printed; its exit status, above 128 where a signal ended it; why it failed, else None; its time.

    The reasons: time_limit, output_limit (both without a status), runtime_error (a status other than 0).
    """

    output: bytes
    status: int | None
    reason: str | None
    seconds: float


def run_program(
    code: str,
    stdin: str = "",
    *,
    call: str | None = None,
    arguments: Sequence[Any] = (),
    seconds: float = 5.0,
    memory_mb: int = 1024,
    sandbox: str = "auto",
) -> Run:
    """Runs Python code, with the standard library alone, as `python main.py`; `input()` reads `stdin`.

    With `call`, an expression, the code is loaded as a module is, `__name__` not being `__main__`; the output is the
    expression's value in JSON (`cell.plain`), in which `arguments`, plain data, has that name. What the program prints
    is then lost, and there is no output where it ends early.

    `seconds` is the wall clock's, from when the program starts. `memory_mb` is the address space of each process: one
    that forks has more in all, and is the first to go where the machine's memory is short. Further limits are 16
    processes and threads, the jail's own three included, 64 MiB in /tmp (both in `cell`), MAX_OUTPUT of output. Calls
    may come from any number of threads; as many programs run at once as there are CPUs. `sandbox` is one of KINDS;
    "unsafe" keeps the limits of each process and protects nothing. Raises SandboxError where the program could not be
    started or its jail was killed from outside, ValueError as `check_isolation`.
    """
    if memory_mb < LEAST_MEMORY_MB:
        raise ValueError(f"memory_mb: {memory_mb} is too little for Python itself; give at least {LEAST_MEMORY_MB}")
    return _run(check_isolation(sandbox), code, stdin, call, arguments, seconds, memory_mb)


@functools.cache
def check_isolation(sandbox: str = "auto") -> str:
    """The kind of walls that `sandbox` means here, tried once. Raises ValueError where there are none that hold."""
    if sandbox not in KINDS:
        raise ValueError(f"sandbox: {sandbox!r} is unknown; write one of {', '.join(KINDS)}")
    if sandbox == "unsafe":
        return sandbox
    failures = []
    for kind in ("bwrap", "namespaces") if sandbox == "auto" else (sandbox,):
        failure = _try(kind)
        if failure is None:
            return kind
        failures.append(f"{kind}: {failure}")
    raise ValueError(
        f"sandbox: {sandbox} finds no way to isolate programs on this machine ({'; '.join(failures)}); install "
        f"bubblewrap, allow user namespaces, or run programs unprotected with sandbox: unsafe"
    )


# What no wall may let through. Forks last: what they leave ends with the walls.
_PROBE = f"""
import os, socket, time
def refused(action, *arguments):
    try: action(*arguments)
    except OSError: return True
    return False
def fork():
    if os.fork() == 0: time.sleep({END_SECONDS})
def holds():
    open("file", "w").close()
    if not refused(socket.socket): return "it opens a socket"
    if not refused(open, "/file", "w") or not refused(open, "/usr/file", "w"): return "it writes outside /tmp"
    if not refused(os.listdir, "/proc/self"): return "it sees /proc"
    if os.getppid() > 1: return "it sees other processes"
    if not any(refused(fork) for _ in range(64)): return "it forks without limit"
"""


def _try(kind: str) -> str | None:
    """Why this kind of walls does not hold here; None where it does."""
    if kind == "bwrap" and not shutil.which("bwrap"):
        return "not installed"
    try:
        run = _run(kind, _PROBE, "", "holds()", (), 30.0, 1024)
    except SandboxError as error:
        return str(error)
    if run.reason:
        return f"a trial program ended with {run.reason}"
    found = json.loads(run.output)
    return found and f"{found} in a trial"


def _run(
    kind: str, code: str, stdin: str, call: str | None, arguments: Sequence[Any], seconds: float, memory_mb: int
) -> Run:
    visible = _visible()
    job = dict(code=code, stdin=stdin, call=call, arguments=list(arguments))
    job |= dict(cpu_seconds=math.ceil(seconds) + 1, memory_mb=memory_mb)
    job |= dict(kind=kind, visible=visible, parent=os.getpid())
    command = [*_bubblewrap(visible), *PYTHON, "/namespaces.py"] if kind == "bwrap" else [*PYTHON, str(CELL)]
    with _slots, tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as complaints, _folder(kind) as folder:
        request.write(marshal.dumps(job))
        request.seek(0)
        try:
            process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=ENVIRONMENT | {name: os.environ[name] for name in LIBRARIES if name in os.environ},
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"{command[0]} cannot be started: {error}") from None
        try:
            with contextlib.suppress(OSError):  # where memory is short, these processes go first
                Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
            output, reason, taken = _read(process, seconds)
        finally:
            _end(process)
        if not output:
            complaints.seek(0)
            lines = complaints.read().decode(errors="replace").strip().splitlines()
            raise SandboxError(lines[-1] if lines else f"did not start within {START_SECONDS:g} s")
    if reason is None and process.returncode < 0 and kind != "unsafe":  # as no program can do
        raise SandboxError(f"was killed from outside by {signal.Signals(-process.returncode).name}")
    status = process.returncode if reason is None else None
    return Run(output[1:], status, reason or ("runtime_error" if status else None), taken)


def _read(process: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, str | None, float]:
    """All output, after the byte that tells of the start; why it was cut short, or None; the seconds since the start.

    The output ends when every process has: the outermost, which no program sees, holds it open, and has its status.
    """
    assert process.stdout is not None
    pipe, output, reason = process.stdout.fileno(), bytearray(), "time_limit"
    start = time.monotonic()
    deadline = start + START_SECONDS
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            with contextlib.suppress(subprocess.TimeoutExpired):  # unprotected, it may have closed its output early
                process.wait(max(left, 1.0))
                reason = None
            break
        if not output:
            start = time.monotonic()
            deadline = start + seconds
        output += chunk
        if len(output) > MAX_OUTPUT:
            reason = "output_limit"
            break
    return bytes(output), reason, time.monotonic() - start


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills what still runs, and waits until the kernel has ended all of it."""
    # Also where the first process is gone: the number of a group is taken as long as the group has members.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    with process.stdout as pipe:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        deadline = time.monotonic() + END_SECONDS
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000) and os.read(pipe.fileno(), 1 << 16):
            pass


def _folder(kind: str) -> contextlib.AbstractContextManager[str]:
    """Where the outermost process starts: without walls, the program's folder."""
    return tempfile.TemporaryDirectory(ignore_cleanup_errors=True) if kind == "unsafe" else contextlib.nullcontext("/")


@functools.cache
def _visible() -> list[str]:
    """What a program sees of the file system, besides its /tmp: libraries, Python, harmless devices."""
    places = ["/usr", "/bin", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache"]
    places += ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"]
    prefix = os.path.realpath(sys.base_prefix)
    return [path for path in places if os.path.exists(path)] + ([] if prefix.startswith("/usr/") else [prefix])


def _bubblewrap(visible: list[str]) -> list[str]:
    command = [shutil.which("bwrap") or "bwrap"]
    command += ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    for path in visible:
        command += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind", path, path]
    for target, link in LINKS.items():
        command += ["--symlink", target, link]
    command += ["--ro-bind", str(CELL), "/namespaces.py"]
    command += ["--size", str(DISK), "--perms", "1777", "--tmpfs", "/tmp", "--remount-ro", "/"]
    return [*command, "--chdir", "/tmp", "--"]
