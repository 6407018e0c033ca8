"""What r1jax's measurements share: random weights, tokenizers with other stop tokens, peak memory, compilations."""

from __future__ import annotations

import copy
from typing import Any

import jax
from jax.sharding import Mesh

from r1jax.models import Model, abstract_params, init_params
from r1jax.text.tokenizer import Tokenizer

NO_ID = -1  # no token has it


def random_weights(model: Model, mesh: Mesh) -> Any:
    shardings = jax.tree.map(lambda x: x.sharding, abstract_params(model, mesh))
    return jax.jit(lambda key: init_params(model, key), out_shardings=shardings)(jax.random.key(0))


def stopping_at(tokenizer: Tokenizer, *ids: int) -> Tokenizer:
    """The same tokenizer with other stop tokens; without any, every sample has the full length."""
    changed = copy.copy(tokenizer)
    changed.stop_ids = ids or (NO_ID,)
    return changed


def device_peak() -> int | None:
    """The most memory that was used on the first device; None on a CPU, whose memory is the process's."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("peak_bytes_in_use")


class Compilations:
    """Counts compilations and their seconds."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration: float, **_: Any) -> None:
        from r1jax.parallel.compile_guard import COMPILE_EVENT

        if event == COMPILE_EVENT:
            self.count, self.seconds = self.count + 1, self.seconds + duration

    def result(self) -> dict[str, float]:
        return {"compiles": self.count, "compile_s": self.seconds}
