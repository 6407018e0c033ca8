"""A child process that runs one function on untrusted input, and is killed when it is late or too big. POSIX only.

    with Worker("r1jax.text.chat_template:render", timeout=5.0) as worker:
        text = worker.call(template, messages, variables)

Parent and child exchange JSON lines, so an answer can hold nothing but data.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

START_SECONDS = 60.0  # for Python and the function's imports, on a busy machine
MAX_ANSWER = 64 * 2**20  # bytes; the parent has to hold it
OUT_OF_MEMORY = 77  # exit status of a child whose function ran out of memory
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")


class WorkerTimeout(TimeoutError):
    """The function took longer than it may; its process was killed, the next call starts another."""


class WorkerCrash(RuntimeError):
    """The process died; the next call starts another."""


class WorkerUnavailable(WorkerCrash):
    """The process could not start or load its function: no argument is to blame."""


class Worker:
    """Calls `function`, written "package.module:name", in a child process; arguments and result are what JSON can hold.

    `timeout` is seconds a call, start-up not counted; `memory_mb` the address space of the child. A new child calls the
    function with `setup` first, where it is given, as part of its start. It gets none of the parent's environment but
    paths and language, its prints go nowhere, and it should leave SIGALRM alone. Calls from
    several threads take turns.
    """

    def __init__(
        self, function: str, *, timeout: float = 5.0, memory_mb: int = 2048, setup: Sequence[Any] | None = None
    ) -> None:
        if not all(function.partition(":")):
            raise ValueError(f"a worker's function is written package.module:name, got {function!r}")
        self.function, self.timeout, self.memory_mb, self.setup = function, timeout, memory_mb, setup
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Any = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, *arguments: Any) -> Any:
        """The function's result. Raises WorkerTimeout, WorkerCrash, or ValueError with what the function raised."""
        request = json.dumps(arguments).encode() + b"\n"
        with self._lock:
            if self._process is None:
                self._start()
            succeeded, result = self._exchange(request, self.timeout)
        if not succeeded:
            raise ValueError(result)
        return result

    def start(self) -> None:
        """Starts the child where there is none. Raises WorkerUnavailable."""
        with self._lock:
            if self._process is None:
                self._start()

    def close(self) -> None:
        """Ends the child and its process group; a later call starts another."""
        with self._lock:
            self._kill()

    def _start(self) -> None:
        command = [sys.executable, "-m", "r1jax.sandbox.workers", self.function, str(self.timeout), str(self.memory_mb)]
        command.append(json.dumps(self.setup))
        kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # each thread reserves address space
            start_new_session=True,  # a group to kill; and Ctrl-C in the terminal does not reach it
        )
        self._end = weakref.finalize(self, _end, self._process)
        os.set_blocking(self._process.stdin.fileno(), False)  # pyright: ignore[reportOptionalMemberAccess]
        try:
            loaded, message = self._exchange(b"", START_SECONDS)
        except (WorkerTimeout, WorkerCrash) as error:
            raise WorkerUnavailable(str(error)) from None
        if not loaded:
            self._kill()
            raise WorkerUnavailable(f"{self.function} cannot be loaded: {message}")

    def _kill(self) -> None:
        if self._process is not None:
            self._end()
            self._process = None

    def _exchange(self, request: bytes, seconds: float) -> tuple[bool, Any]:
        """Sends a line and reads one; whatever interrupts the two leaves no child that could answer the wrong call."""
        process = self._process
        assert process is not None
        try:
            line = self._transfer(process, request, seconds)
            if line.endswith(b"\n"):
                succeeded, result = json.loads(line)
                return succeeded, result
        except (ValueError, TypeError, RecursionError):
            self._kill()
            raise WorkerCrash(f"{self.function} wrote over the worker's answer") from None
        except BaseException:
            self._kill()
            raise
        self._kill()
        if process.returncode == -signal.SIGALRM:  # its own clock was first
            raise WorkerTimeout(f"{self.function} took longer than {seconds:g} s")
        raise WorkerCrash(f"{self.function} {_describe(process.returncode, self.memory_mb)}")

    def _transfer(self, process: subprocess.Popen[bytes], request: bytes, seconds: float) -> bytes:
        """The child's line; empty where the child died. Reads while it writes, so that neither side can jam."""
        assert process.stdin is not None and process.stdout is not None
        requests, answers = process.stdin.fileno(), process.stdout.fileno()
        poll = select.poll()
        poll.register(answers, select.POLLIN)
        if request:
            poll.register(requests, select.POLLOUT)
        unsent, line, deadline = memoryview(request), bytearray(), time.monotonic() + seconds
        while not line.endswith(b"\n"):
            # Once more after the time: what came while nobody looked is there.
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                raise WorkerTimeout(f"{self.function} took longer than {seconds:g} s")
            for descriptor, _ in ready:
                if descriptor == requests:
                    with contextlib.suppress(BrokenPipeError):  # the child died; its answers end too
                        unsent = unsent[os.write(requests, unsent) :]
                        if unsent:
                            continue
                    poll.unregister(requests)
                elif chunk := os.read(answers, 2**20):
                    line += chunk
                    if len(line) > MAX_ANSWER:
                        raise WorkerCrash(f"{self.function} answered with more than {MAX_ANSWER >> 20} MiB")
                else:
                    return b""
        return bytes(line)


class WorkerPool:
    """`size` workers of one function (None: as many as CPUs); a late or dying call holds up no other.

    Calls may come from any number of threads; each takes a worker that is free, or waits for one.
    """

    def __init__(
        self,
        function: str,
        *,
        size: int | None = None,
        timeout: float = 5.0,
        memory_mb: int = 2048,
        setup: Sequence[Any] | None = None,
    ) -> None:
        self._workers = [
            Worker(function, timeout=timeout, memory_mb=memory_mb, setup=setup)
            for _ in range(size or os.cpu_count() or 1)
        ]
        self._free: queue.LifoQueue[Worker] = queue.LifoQueue()  # the last one used is warm
        for worker in self._workers:
            self._free.put(worker)

    def call(self, *arguments: Any) -> Any:
        """As `Worker.call`."""
        worker = self._free.get()
        try:
            return worker.call(*arguments)
        finally:
            self._free.put(worker)

    def start(self) -> None:
        """Starts the worker that the next call takes. Raises WorkerUnavailable."""
        self._workers[-1].start()

    def close(self) -> None:
        """Ends the children; a later call starts others."""
        for worker in self._workers:
            worker.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # before wait(): the number is ours until then
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()  # pyright: ignore[reportOptionalMemberAccess]


def _describe(status: int, memory_mb: int) -> str:
    if status == OUT_OF_MEMORY:
        return f"needed more than {memory_mb} MB of memory"
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended its process with status {status}"


def serve(name: str, timeout: float, memory_mb: int, setup: str) -> None:
    """The child: says whether it has loaded the function, then answers line by line until its stdin closes."""
    # The function's own stdin and stdout are empty; the pipes move to descriptors that nothing else knows.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)

    def answer(text: str) -> None:
        answers.write(text.encode() + b"\n")
        answers.flush()

    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
        if setup != "null":
            function(*json.loads(setup))
    except Exception as error:
        return answer(_failure(error))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit; a stricter one may be in force
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    answer("[true, null]")
    for line in requests:
        # The parent kills a late call. The kernel's alarm does it, a second later, where the parent is gone
        # or stands still.
        signal.setitimer(signal.ITIMER_REAL, timeout + 1)
        try:
            text = json.dumps([True, function(*json.loads(line))])
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except (Exception, SystemExit) as error:
            text = _failure(error)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answer(text)


def _failure(error: BaseException) -> str:
    own = isinstance(error, ValueError) and type(error).__module__ == "builtins"
    return json.dumps([False, str(error) if own else f"{type(error).__name__}: {error}"])


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
