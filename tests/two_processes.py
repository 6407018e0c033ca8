"""Runs commands as the two processes of one run, on this machine."""

import os
import socket
import subprocess


def environment(devices: int, **more: str) -> dict[str, str]:
    return {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", **more}


def in_two_processes(*commands: list[str]) -> tuple[list[int], list[str]]:
    """The exit codes and outputs of a command in two processes of 4 devices each; a second command is the other's."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            command,
            env=environment(4, JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(i)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i, command in enumerate([commands[0], commands[-1]])
    ]
    outputs = [process.communicate(timeout=1200)[0] for process in processes]
    return [process.returncode for process in processes], outputs
