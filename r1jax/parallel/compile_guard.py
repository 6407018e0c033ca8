"""The compile guard: after the first step of each shape, a compilation is a bug, and is reported as one.

guard = CompileGuard()
with guard("update"):
    state = update(state, batch)
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import jax

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class CompileGuard:
    """Counts compilations, and warns of one in a named region that has run before; `reported` is the last warning."""

    def __init__(self) -> None:
        self.count = 0
        self.reported: str | None = None
        self._seen: set[str] = set()
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, *_: object, **__: object) -> None:
        self.count += event == COMPILE_EVENT

    @contextlib.contextmanager
    def __call__(self, region: str) -> Iterator[None]:
        before = self.count
        yield
        compiled = self.count - before
        if compiled and region in self._seen:
            self.reported = (
                f"{compiled} compilation(s) in {region}, which has run before: a shape or a type has changed"
            )
            warnings.warn(self.reported, stacklevel=3)
        self._seen.add(region)

    def forget(self) -> None:
        """No region has run before: functions are made anew."""
        self._seen.clear()

    def close(self) -> None:
        """Stops counting."""
        jax.monitoring.unregister_event_duration_listener(self._listen)
