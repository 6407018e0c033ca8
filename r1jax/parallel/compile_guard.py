"""Counts what XLA compiles, because after the first step of each shape a compile is a bug.

with watch("update"):
    state = update(state, batch)
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import jax

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class CompileGuard:
    """Counts compilations; one inside a named region that has run before is reported, or raised if `strict`."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.count = 0
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
            message = f"{compiled} compilation(s) in {region}, which had run before: some shape or type has changed"
            if self.strict:
                raise RuntimeError(message)
            warnings.warn(message, stacklevel=3)
        self._seen.add(region)

    def close(self) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)
