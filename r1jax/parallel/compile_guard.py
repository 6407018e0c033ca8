"""The compile guard: after the first step of each shape, a compilation is a bug, and is reported as one.

guard = CompileGuard(strict=False)
with guard("update"):
    state = update(state, batch)
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import jax

from r1jax.config.base import RunStopped

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class CompileGuard:
    """Counts compilations, and warns of one in a named region that has run before; raises RunStopped if `strict`."""

    def __init__(self, *, strict: bool = False) -> None:
        self.count = 0
        self._strict = strict
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
            message = f"{compiled} compilation(s) in {region}, which has run before: a shape or a type has changed"
            if self._strict:
                raise RunStopped(f"{message}; recompilation=warn goes on with a warning")
            warnings.warn(message, stacklevel=3)
        self._seen.add(region)

    def close(self) -> None:
        """Stops counting."""
        jax.monitoring.unregister_event_duration_listener(self._listen)
