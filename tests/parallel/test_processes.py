"""What two processes of 4 devices exchange. tests/programs/test_processes.py has whole runs of them."""

import json
import socket
import subprocess
import sys

import pytest
from two_processes import environment, in_two_processes

from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings
from r1jax.parallel.processes import (
    _launched,
    any_process,
    check_agreement,
    gather_texts,
    greatest,
    join_processes,
    wait_for_all,
)

EXCHANGE = """
import json, sys
import jax, numpy as np
from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings
from r1jax.parallel.mesh import gather, make_mesh, own_rows, to_global, to_host, to_local
from r1jax.parallel.processes import any_process, check_agreement, gather_texts, greatest, join_processes, wait_for_all

join_processes(MeshSettings())
me, found = jax.process_index(), {}
for sizes in ({}, {"data": 1, "context": 8}, {"data": 1, "tensor": 2, "expert": 4}):
    mesh = make_mesh(MeshSettings(**sizes))
    own = own_rows(mesh, 8)
    scores = np.where(own == 3, np.nan, own - 4 + 100 * me).astype(np.float32)
    # What differs from process to process is what the owner of a row gave.
    local = {"score": scores, "flag": own % 2 == me, "reason": np.stack([own, own + me], axis=1).astype(np.uint32)}
    everywhere = to_global(mesh, local, 8)
    whole = gather(mesh, local, 8)
    jax.tree.map(np.testing.assert_array_equal, to_local(everywhere), local)
    jax.tree.map(np.testing.assert_array_equal, to_host(everywhere), whole)
    for name, array in everywhere.items():
        assert array.dtype == local[name].dtype
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(shard.data, whole[name][shard.index])
    found[str(sizes)] = {"own": own.tolist(), **{name: array.tolist() for name, array in whole.items()}}
wait_for_all("here")
found["texts"] = gather_texts(["", "one: é\\n"][me])
found["numbers"] = [greatest(me + 5), any_process(me == 1), any_process(False)]
check_agreement({"a": "same", "b": "same"})
try:
    check_agreement({"a": "same", "b": str(me)})
except ConfigError as error:
    found["error"] = str(error)
print("FOUND" + json.dumps(found))
"""


@pytest.mark.slow
def test_every_row_has_one_owner_and_is_the_same_everywhere():
    codes, outputs = in_two_processes([sys.executable, "-c", EXCHANGE])
    assert codes == [0, 0], outputs
    one, two = (json.loads(output.partition("FOUND")[2]) for output in outputs)
    meshes = [name for name in one if name.startswith("{")]
    owned = [(one[mesh].pop("own"), two[mesh].pop("own")) for mesh in meshes]
    assert owned == [([0, 1, 2, 3], [4, 5, 6, 7]), ([*range(8)], []), ([*range(8)], [])]
    assert json.dumps(one) == json.dumps(two)  # NaN is itself in it
    assert [one[mesh]["score"][5] for mesh in meshes] == [101, 1, 1]
    assert [one[mesh]["flag"][5] for mesh in meshes] == [True, False, False]
    assert [one[mesh]["reason"][5] for mesh in meshes] == [[5, 6], [5, 5], [5, 5]]
    assert one["numbers"] == [6, True, False] and one["texts"] == ["", "one: é\n"]
    assert one["error"].startswith("b: not the same in process 0 and in 1 of 2; give every process the same command")


def test_one_process_agrees_with_itself():
    wait_for_all("nobody")
    check_agreement({"a": "b"})
    assert [greatest(3), any_process(True), any_process(False)] == [3, True, False]
    assert gather_texts("é") == ["é"]


def test_half_an_address_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    with pytest.raises(ConfigError, match="JAX_COORDINATOR_ADDRESS is set but JAX_NUM_PROCESSES is not; set all three"):
        join_processes(MeshSettings())


ALONE = """
from r1jax.config.training import MeshSettings
from r1jax.parallel import processes

processes.JOIN_SECONDS = 2.0
processes.join_processes(MeshSettings())
"""


@pytest.mark.slow
@pytest.mark.parametrize("process", ["0", "1"])
def test_a_process_alone_does_not_wait_for_ever(process):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    more = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": process}
    ended = subprocess.run([sys.executable, "-c", ALONE], env=environment(1, **more), capture_output=True, text=True)
    assert ended.returncode == 75
    line = f"stopped: process {process} of 2 at {address} waited 2 s for the others; start the same command in all"
    assert ended.stderr.strip().splitlines()[-1] == line


SLURM = """
import os, pathlib, jax
from r1jax.config.training import MeshSettings
from r1jax.parallel.processes import greatest, join_processes

join_processes(MeshSettings())
found = jax.process_index(), jax.process_count(), jax.device_count(), greatest(jax.process_index())
pathlib.Path(os.environ["SLURM_PROCID"]).write_text(str(found))
"""


def test_slurm_says_who_the_processes_are(tmp_path):
    """As `srun --ntasks=2` sets the variables; JAX makes the port out of the job's number."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        job = free.getsockname()[1] % 4096
    step = {"SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SLURM],
            env=environment(4, **step, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)),
            cwd=tmp_path,
        )
        for i in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert [(tmp_path / str(i)).read_text() for i in range(2)] == ["(0, 2, 8, 1)", "(1, 2, 8, 1)"]


def test_processes_are_found_only_where_there_are_several(monkeypatch):
    names = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")
    for name in (*names, "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert _launched() is None
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "pod-0.pod")
    assert _launched() is None
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "pod-0.pod,pod-1.pod")
    assert _launched() == "worker 1 of 2 of TPU_WORKER_HOSTNAMES"
    for name, value in zip(names[:4], ("7", "a[01-02]", "0", "0"), strict=True):
        monkeypatch.setenv(name, value)
    assert _launched() is None  # a job of one task, whatever the machine is
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert _launched() == "process 0 of 2 of Slurm"
