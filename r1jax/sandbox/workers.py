"""A child process that calls a function on untrusted input and is killed when it exceeds its limits. POSIX only.

    workers = WorkerPool("r1jax.text.chat_template:render", timeout=5.0)
    text = workers.call(template, messages, variables)

Parent and child exchange lines of JSON, so that a result can be nothing but data.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import queue
import resource
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

START_SECONDS = 60.0  # for Python and the function's imports, on a busy machine
MAX_RESULT = 64 * 2**20  # bytes, which the parent has to hold
OUT_OF_MEMORY = 77  # the exit status of a child whose function ran out of memory
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")


class WorkerTimeout(TimeoutError):
    """The function exceeded its time limit. Its process was killed, and the next call starts another."""


class WorkerCrash(RuntimeError):
    """The process died. The next call starts another."""


class WorkerUnavailable(WorkerCrash):
    """The process could not start or could not load its function, whatever the arguments are."""


class Worker:
    """Calls `function`, written "package.module:name", in a child process; arguments and result have to fit in JSON.

    `timeout` is the time limit of a call in seconds, without the start of the child; `memory_mb` limits the child's
    address space. Where `setup` is given, a new child calls the function with it first, as part of its start. The child
    gets only paths and language from the parent's environment, its prints are discarded, and it must not use SIGALRM.
    One thread at a time may use a worker.
    """

    def __init__(
        self, function: str, *, timeout: float = 5.0, memory_mb: int = 2048, setup: Sequence[Any] | None = None
    ) -> None:
        self.function, self.timeout, self.memory_mb, self.setup = function, timeout, memory_mb, setup
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Any = None

    def call(self, *arguments: Any) -> Any:
        """The function's result. Raises WorkerTimeout, WorkerCrash, or ValueError with what the function raised."""
        request = json.dumps(arguments).encode() + b"\n"
        self.start()
        succeeded, result = self._exchange(request, self.timeout)
        if not succeeded:
            raise ValueError(result)
        return result

    def start(self) -> None:
        """Starts the child if there is none. Raises WorkerUnavailable."""
        if self._process is not None:
            return
        limits = [str(self.timeout), str(self.memory_mb)]
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "r1jax.sandbox.workers", self.function, *limits, json.dumps(self.setup)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # threads reserve address space
            start_new_session=True,  # so that the group can be killed, and Ctrl-C in the terminal does not reach it
        )
        self._end = weakref.finalize(self, _end, self._process)
        os.set_blocking(self._process.stdin.fileno(), False)  # pyright: ignore[reportOptionalMemberAccess]
        try:
            loaded, message = self._exchange(b"", START_SECONDS)
        except (WorkerTimeout, WorkerCrash) as error:
            raise WorkerUnavailable(str(error)) from None
        if not loaded:
            self.close()
            raise WorkerUnavailable(f"{self.function} cannot be loaded: {message}")

    def close(self) -> None:
        """Kills the child and its process group; a later call starts another."""
        if self._process is not None:
            self._end()
            self._process = None

    def _exchange(self, request: bytes, seconds: float) -> tuple[bool, Any]:
        """Sends a line and reads one; an interruption kills the child, which could otherwise answer the wrong call."""
        process = self._process
        assert process is not None
        try:
            line = self._transfer(process, request, seconds)
            if line.endswith(b"\n"):
                succeeded, result = json.loads(line)
                return succeeded, result
        except (ValueError, TypeError, RecursionError):
            self.close()
            raise WorkerCrash(f"{self.function} wrote to the pipe of the worker's results") from None
        except BaseException:
            self.close()
            raise
        self.close()
        status = process.returncode
        if status == -signal.SIGALRM:  # the child's own timer was first
            raise WorkerTimeout(f"{self.function} took longer than {seconds:g} s")
        if status == OUT_OF_MEMORY:
            raise WorkerCrash(f"{self.function} needed more than {self.memory_mb} MB of memory")
        how = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended its process with status {status}"
        raise WorkerCrash(f"{self.function} {how}")

    def _transfer(self, process: subprocess.Popen[bytes], request: bytes, seconds: float) -> bytes:
        """The child's line, or b"" where the child died. It reads while it writes, so that neither side can block."""
        assert process.stdin is not None and process.stdout is not None
        requests, results = process.stdin.fileno(), process.stdout.fileno()
        poll = select.poll()
        poll.register(results, select.POLLIN)
        if request:
            poll.register(requests, select.POLLOUT)
        unsent, line, deadline = memoryview(request), bytearray(), time.monotonic() + seconds
        while not line.endswith(b"\n"):
            # After the deadline this polls once more, since a result may have arrived while this thread did not run.
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                raise WorkerTimeout(f"{self.function} took longer than {seconds:g} s")
            for descriptor, _ in ready:
                if descriptor == requests:
                    with contextlib.suppress(BrokenPipeError):  # the child died, and its results end too
                        unsent = unsent[os.write(requests, unsent) :]
                        if unsent:
                            continue
                    poll.unregister(requests)
                elif chunk := os.read(results, 2**20):
                    line += chunk
                    if len(line) > MAX_RESULT:
                        raise WorkerCrash(f"{self.function} returned more than {MAX_RESULT >> 20} MiB")
                else:
                    return b""
        return bytes(line)


class WorkerPool:
    """`size` workers (by default one a CPU) with the settings of `Worker`, so that a slow call delays no other.

    Any number of threads may call; each call takes a free worker or waits for one.
    """

    def __init__(self, function: str, *, size: int | None = None, **settings: Any) -> None:
        self._free: queue.LifoQueue[Worker] = queue.LifoQueue()  # so that the worker used last is used next
        for _ in range(size or os.cpu_count() or 1):
            self._free.put(Worker(function, **settings))

    def call(self, *arguments: Any) -> Any:
        """Calls the function in a free worker, as `Worker.call` does."""
        with self._worker() as worker:
            return worker.call(*arguments)

    def start(self) -> None:
        """Starts the worker that the next call uses. Raises WorkerUnavailable."""
        with self._worker() as worker:
            worker.start()

    @contextlib.contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._free.get()
        try:
            yield worker
        finally:
            self._free.put(worker)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # before wait(), until which the number is not reused
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()  # pyright: ignore[reportOptionalMemberAccess]


def serve(name: str, timeout: float, memory_mb: int, setup: str) -> None:
    """What the child runs: reports whether the function is loaded, then answers each line until its stdin closes."""
    # The function gets an empty stdin and stdout; the pipes move to other descriptors.
    requests, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)

    def answer(text: str) -> None:
        results.write(text.encode() + b"\n")
        results.flush()

    try:
        function = pkgutil.resolve_name(name)
        if setup != "null":
            function(*json.loads(setup))
    except Exception as error:
        return answer(_failure(error))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit, and a stricter one may be set
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    answer("[true, null]")
    for line in requests:
        # The parent kills a child that exceeds its time. The kernel's timer does so a second later, in case the parent
        # has died or does not run.
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
    builtin = isinstance(error, ValueError) and type(error).__module__ == "builtins"
    return json.dumps([False, str(error) if builtin else f"{type(error).__name__}: {error}"])


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
