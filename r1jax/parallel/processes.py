"""The processes of one run: how they find each other, wait for each other, and agree.

    join_processes(config.mesh)
    check_agreement({"config": text})
    if any_process(stopped): ...

Every process has to call these functions, in the same order. With one process they do nothing, or return what they got.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings

ALONE = 75  # the exit code where the others are not there, "try again" (EX_TEMPFAIL)
JOIN_SECONDS = 60.0  # in which all processes have to be there
HEARTBEAT_SECONDS = 30  # after which a process that is not heard of ends the others; JAX has 100


def join_processes(config: MeshSettings) -> None:
    """Connects the processes of one run, where the environment or the config says that there are several.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID name them, or Slurm or GKE has started them; on TPU
    VMs, which say so to whoever asks their metadata server, `mesh.distributed` has JAX ask. Call it before the first
    use of a device. Where the others do not come within a minute, the process ends.
    """
    if jax.distributed.is_initialized():
        return
    # JAX would catch SIGTERM to announce a preemption; it is for run.interrupt.
    jax.config.update("jax_enable_preemption_service", False)
    if address := os.environ.get("JAX_COORDINATOR_ADDRESS"):
        missing = [name for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") if name not in os.environ]
        if missing:
            raise ConfigError(f"JAX_COORDINATOR_ADDRESS is set but {' and '.join(missing)} is not; set all three")
        count, own = os.environ["JAX_NUM_PROCESSES"], os.environ["JAX_PROCESS_ID"]
        with _or_give_up(f"process {own} of {count} at {address}"):
            jax.distributed.initialize(address, int(count), int(own), heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    elif (found := _launched()) or config.distributed:
        with _or_give_up(found or "this process (mesh.distributed)"):
            jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


def _launched() -> str | None:
    """Which of several processes this one is, where `srun` or GKE has started it; JAX reads the same variables."""
    own = os.environ.get
    if {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= os.environ.keys():
        count, name = int(own("SLURM_NTASKS", "1")), f"process {own('SLURM_PROCID')} of {own('SLURM_NTASKS')} of Slurm"
    else:
        hosts = own("TPU_WORKER_HOSTNAMES", "").split(",")
        count, name = len(hosts), f"worker {own('TPU_WORKER_ID')} of {len(hosts)} of TPU_WORKER_HOSTNAMES"
    return name if count > 1 else None


@contextlib.contextmanager
def _or_give_up(who: str) -> Iterator[None]:
    """Ends the process, in one line, where the others have not come in time; JAX would abort with its stack."""

    def give_up() -> None:
        print(
            f"stopped: {who} waited {JOIN_SECONDS:g} s for the others; start the same command in all", file=sys.stderr
        )
        sys.stderr.flush()
        os._exit(ALONE)

    timer = threading.Timer(JOIN_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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


def gather_texts(text: str) -> list[str]:
    """Every process's text, on every process."""
    if jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    padded = np.zeros(max(greatest(len(own)), 1), np.uint8)
    padded[: len(own)] = own
    every, lengths = multihost_utils.process_allgather((padded, np.int32(len(own))))
    pairs = zip(every, lengths, strict=True)
    return [each[:length].tobytes().decode("utf-8", "surrogatepass") for each, length in pairs]


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
