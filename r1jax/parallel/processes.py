"""The processes of one run: how they find each other, wait for each other, and agree.

    join_processes(config.mesh)
    check_agreement({"config": text})
    if any_process(stopped): ...

Every process has to call these functions, in the same order. With one process they do nothing, or return what they got.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings


def join_processes(config: MeshSettings) -> None:
    """Connects the processes of one run, where the config or JAX_COORDINATOR_ADDRESS says that there are several.

    On a TPU pod JAX finds the other processes by itself; elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID name them. Call it before the first use of a device.
    """
    if jax.distributed.is_initialized():
        return
    # JAX would catch SIGTERM to announce a preemption; it is for run.interrupt.
    jax.config.update("jax_enable_preemption_service", False)
    if address := os.environ.get("JAX_COORDINATOR_ADDRESS"):
        missing = [name for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") if name not in os.environ]
        if missing:
            raise ConfigError(f"JAX_COORDINATOR_ADDRESS is set but {' and '.join(missing)} is not; set all three")
        jax.distributed.initialize(address, int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"]))
    elif config.distributed:
        jax.distributed.initialize()


def wait_for_all(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
    """Whether it is true in some process, the same on every process."""
    return bool(greatest(int(flag)))


def greatest(number: int) -> int:
    """The greatest of the processes' numbers, the same on every process."""
    return number if jax.process_count() == 1 else int(multihost_utils.process_allgather(np.int32(number)).max())


def check_agreement(texts: Mapping[str, str]) -> None:
    """Raises ConfigError in every process where a text, named by its key, is not the same in all of them."""
    if jax.process_count() == 1:
        return
    digests = [
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts.values()
    ]
    number = np.frombuffer(b"".join(digests), np.uint32).reshape(-1, 2)
    for name, own in zip(texts, np.moveaxis(multihost_utils.process_allgather(number), 0, 1), strict=True):
        if others := np.flatnonzero((own != own[0]).any(axis=1)).tolist():
            raise ConfigError(
                f"{name}: not the same in process 0 and in {', '.join(map(str, others))} of {len(own)}; give every "
                f"process the same command, code and files"
            )
