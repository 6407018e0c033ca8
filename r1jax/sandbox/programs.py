"""Runs untrusted Python programs in a sandbox and returns what they print. Only Linux can isolate them.

    check_isolation()  # at start-up: ValueError where this machine cannot isolate programs
    run_program("print(int(input()) * 2)", "3\\n", seconds=2.0).output  # b"6\\n"
    run_program("def f(x): return x * 2", call="f(*arguments)", arguments=[3]).output  # b"6"

The sandbox is made by `namespaces`. In it a program is one process, with threads, that has no network and sees no other
process and nothing of this one's environment and files. Of the file system it sees the libraries of the system and of
Python, read-only, and a temporary folder in memory, which is removed when it ends. It has no privileges. The sandbox
ends with the thread that started it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import marshal
import math
import os
import select
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

START_SECONDS = 60.0  # for Python and the sandbox to start, on a busy machine
END_SECONDS = 10.0  # for the kernel to end killed processes
MAX_OUTPUT = 8 << 20  # bytes, which this process has to hold
MEMORY_MB = 1024  # of address space
SANDBOXES = ("auto", "unsafe")
SCRIPT = Path(__file__).with_name("namespaces.py")
# The whole environment of a program. Sets print in the same order in every run, and whole numbers may have any length.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "PYTHONINTMAXSTRDIGITS": "0",
    "MALLOC_ARENA_MAX": "2",  # each thread reserves address space
}
LIBRARIES = ("LD_LIBRARY_PATH",)  # which Python itself may need and the program does not get
PYTHON = [os.path.realpath(sys.executable), "-P", "-s", "-S", "-B"]

# At most one program a CPU runs at a time, so that programs do not take each other's time.
_slots = threading.BoundedSemaphore(os.cpu_count() or 1)


class SandboxError(RuntimeError):
    """The program could not be run, for a reason that has nothing to do with it."""


@dataclass(frozen=True)
class Run:
    """A program's output, the reason of its failure or None, and its seconds.

    The reasons are time_limit, output_limit, and runtime_error, for an exit status other than 0.
    """

    output: bytes
    reason: str | None
    seconds: float


def run_program(
    code: str,
    stdin: str = "",
    call: str | None = None,
    arguments: Sequence[Any] = (),
    *,
    seconds: float = 5.0,
    sandbox: str = "auto",
) -> Run:
    """Runs Python code, with the standard library only, as `python main.py`; `input()` reads `stdin`.

    With the expression `call`, the code is loaded as a module instead, so that its `__name__` is not `__main__`. The
    output is then the expression's value as JSON (`namespaces.plain`), or nothing where the program ends early; what
    the program prints is lost. The expression may use the plain data `arguments` by that name.

    `seconds` is wall-clock time from the start of the program. Further limits are MEMORY_MB, 64 MiB in /tmp, MAX_OUTPUT
    and 16 threads, three of which the sandbox needs. A program cannot start another process, as with the graders of
    HumanEval and LiveCodeBench. Any number of threads may call this. `sandbox` is one of SANDBOXES; "unsafe" has no
    isolation, may start processes, and has the limits for each of them.

    Raises SandboxError where the program could not be started or the sandbox was killed from outside, and ValueError as
    `check_isolation` does.
    """
    check_isolation(sandbox)
    program = dict(code=code, stdin=stdin, call=call, arguments=list(arguments))
    return _run(sandbox != "unsafe", program, seconds)


@functools.cache
def check_isolation(sandbox: str = "auto") -> None:
    """Tries once whether this machine can isolate programs. Raises ValueError where it cannot."""
    if sandbox not in SANDBOXES:
        raise ValueError(f"sandbox: {sandbox!r} is unknown; need one of {', '.join(SANDBOXES)}")
    if sandbox == "auto" and (failure := _probe()):
        raise ValueError(
            f"sandbox: auto finds no way to isolate programs on this machine ({failure}); allow user namespaces, or "
            f"run programs without isolation with sandbox: unsafe"
        )


# A program that tries what no sandbox may allow.
_PROBE = """
import os, socket
def refused(action, *arguments):
    try: action(*arguments)
    except OSError: return True
    return False
def escape():
    open("file", "w").close()
    if not refused(socket.socket): return "it opens a socket"
    if not refused(open, "/file", "w") or not refused(open, "/usr/file", "w"): return "it writes outside /tmp"
    if not refused(os.listdir, "/proc/self"): return "it sees /proc"
    if os.getppid() > 1: return "it sees other processes"
    if not refused(os.fork): return "it starts a process"
"""


def _probe(isolated: bool = True) -> str | None:
    """Why the sandbox does not isolate programs on this machine; None where it does."""
    try:
        run = _run(isolated, dict(code=_PROBE, stdin="", call="escape()", arguments=[]), seconds=30.0)
    except SandboxError as error:
        return str(error)
    if run.reason:
        return f"a trial program ended with {run.reason}"
    found = json.loads(run.output)
    return found and f"{found} in a trial"


def _run(isolated: bool, program: dict[str, Any], seconds: float) -> Run:
    job = dict(program=program, isolated=isolated, visible=_visible_paths(), parent=os.getpid())
    job |= dict(cpu_seconds=math.ceil(seconds) + 1, memory_mb=MEMORY_MB)
    command = [*PYTHON, str(SCRIPT)]
    # The folder in which the outermost process starts; without isolation it is the program's.
    cwd = contextlib.nullcontext("/") if isolated else tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with _slots, tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as stderr, cwd as folder:
        request.write(marshal.dumps(job))
        request.seek(0)
        try:
            process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=ENVIRONMENT | {name: os.environ[name] for name in LIBRARIES if name in os.environ},
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"{command[0]} cannot be started: {error}") from None
        try:
            with contextlib.suppress(OSError):  # where memory runs out, the kernel kills these processes first
                Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
            output, reason, elapsed = _read(process, seconds)
        finally:
            _end(process)
        if not output:
            stderr.seek(0)
            lines = stderr.read().decode(errors="replace").strip().splitlines()
            raise SandboxError(lines[-1] if lines else f"did not start within {START_SECONDS:g} s")
    if reason is None and process.returncode < 0 and isolated:  # no program can do that
        raise SandboxError(f"was killed from outside by {signal.Signals(-process.returncode).name}")
    return Run(output[1:], reason or ("runtime_error" if process.returncode else None), elapsed)


def _read(process: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, str | None, float]:
    """The output, whose first byte marks the program's start; why reading ended early, or None; and the seconds taken.

    The output ends with the last process. The outermost process, which no program sees, keeps it open and exits with
    the program's status.
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
            with contextlib.suppress(subprocess.TimeoutExpired):  # "unsafe" programs may close their output early
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
    """Kills the processes that still run, and waits until the kernel has ended all of them."""
    # This is safe after the first process has ended: a group's number is not reused while the group has members.
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


@functools.cache
def _visible_paths() -> list[str]:
    """What a program sees of the file system beside its /tmp: libraries, Python, time zones, and harmless devices."""
    paths = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache", "/usr/share/zoneinfo"]
    paths += ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"]
    paths += [os.path.join(os.path.realpath(sys.base_prefix), folder) for folder in ("lib", "lib64")]
    return [path for path in dict.fromkeys(paths) if os.path.exists(path)]
