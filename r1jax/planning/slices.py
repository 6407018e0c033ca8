"""TPU slices that are not there: the figures of their chips, and their devices, to compile for.

chip, devices = find_slice("v5p:2x2x1")
mesh = make_mesh(config.mesh, devices)
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from jax.experimental.compilation_cache import compilation_cache

from r1jax.config.base import ConfigError


class Chip(NamedTuple):
    """Figures of one chip: bytes of memory that programs may use; per second bfloat16 FLOPs, bytes sent to other chips
    over all its links, and cycles."""

    memory: float
    flops: float
    sent: float
    cycles: float


# As published by Google Cloud (TPU v5e, v5p, v6e: system architecture); memory as the compiler names it, cycles such
# that the matrix units of a chip give its FLOPs.
CHIPS = {
    "v5e": Chip(15.75 * 2**30, 197e12, 200e9, 1.5e9),
    "v5p": Chip(95.73 * 2**30, 459e12, 600e9, 1.75e9),
    "v6e": Chip(31.24 * 2**30, 918e12, 448e9, 1.75e9),
}


def find_slice(topology: str) -> tuple[Chip, Sequence[Any]]:
    """The chip of a slice such as `v5e:4x4`, and the slice's devices. Raises ConfigError where there is no such slice.

    It needs libtpu, and no TPU.
    """
    kind = topology.partition(":")[0]
    if kind not in CHIPS:
        raise ConfigError(f"--topology: got {topology!r}; give a slice of {', '.join(CHIPS)}, such as v5e:2x4")
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError("--topology: the TPU compiler is not installed; it comes with the extra `plan`: r1jax[plan]")
    # libtpu looks for the TPU of this machine otherwise, and several of it may be at work.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_STDERR_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3"}
    os.environ |= {"TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    from jax.experimental import topologies

    try:
        return CHIPS[kind], topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(f"--topology: {topology} is no slice: {str(error).splitlines()[0]}") from None


@contextmanager
def without_cache() -> Iterator[None]:
    """Nothing is compiled by way of JAX's cache, which cannot read what has no devices."""
    if not jax.config.jax_enable_compilation_cache:
        yield  # among the threads of one that is open already
        return
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX asks once whether there is one
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
        compilation_cache.reset_cache()


def compiled(traced: jax.stages.Traced) -> jax.stages.Compiled:
    """A traced function compiled for its devices."""
    with without_cache():
        return traced.lower().compile()
