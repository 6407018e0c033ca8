"""Stopping a run from outside: Ctrl-C or SIGTERM asks for a checkpoint and an end, a second one ends the process.

with StopSignals() as stop:
    stop.received  # the signal's number, or None
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A run stopped because a signal asked for it; the message is one line."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # as shells report a process that a signal ended


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """A signal ends the process with one line, as before a run has anything to save. The KeyboardInterrupt of Python
    would be lost where it came in a callback of JAX."""

    def end(number: int, _: object) -> None:
        print("interrupted; the same command resumes a run from its last checkpoint, if it has one", file=sys.stderr)
        os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _replace_handlers(end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _replace_handlers(handler: Callable[[int, object], None]) -> dict[int, Any]:
    """The handlers that there were; signals that are ignored, as in a job of `nohup`, stay so."""
    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heeded}


class StopSignals(contextlib.AbstractContextManager):
    """Takes the place of what Python does on SIGINT and SIGTERM, in the main thread; elsewhere it does nothing.

    A thread reads the signals, so that they are answered at once even while the main thread waits for a device.
    """

    received: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        pipe, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._handlers = _replace_handlers(lambda *_: None)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(pipe,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._write)  # which ends the thread

    def _watch(self, pipe: int) -> None:
        with open(pipe, "rb", buffering=0) as arriving:
            while byte := arriving.read(1):
                if byte[0] not in SIGNALS:
                    continue
                name = signal.Signals(byte[0]).name
                if self.received is not None:
                    print(f"{name}: ended at once; the same command resumes from the last checkpoint", file=sys.stderr)
                    os._exit(128 + byte[0])
                self.received = byte[0]
                print(
                    f"{name}: stopping with a checkpoint, after this step or its rollout; once more ends the run at "
                    f"once",
                    file=sys.stderr,
                )
