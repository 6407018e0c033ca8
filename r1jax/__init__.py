"""r1jax: reasoning models trained the way DeepSeek-R1 was trained, in JAX; the Python API is documented in docs/api.md.

    import r1jax
    run = r1jax.train("configs/quickstart.yaml", overrides=["stages.rl.steps=20"])
    print(run.model().generate("347+285=", samples=4))

Importing this imports nothing heavy and touches no device; each function imports what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1jax.api import LivePlot, TrainedRun, load, load_config, prepare, train

    __version__: str

__all__ = ["LivePlot", "TrainedRun", "__version__", "load", "load_config", "prepare", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'r1jax' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name == "__version__":  # looked up when it is asked for, since a source checkout need not be installed
        import importlib.metadata

        return importlib.metadata.version("r1jax")
    from r1jax import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
