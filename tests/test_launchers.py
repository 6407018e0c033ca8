"""The launchers: what they would run, and what they do with stand-ins for gcloud, uv, r1jax, srun and scontrol.

The stand-in for gcloud records its arguments and runs what it is given on workers that are folders on this machine.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from math import prod
from pathlib import Path

import jsonschema
import pytest
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet
from stand_ins import GCLOUD, PYTHON, WAITS, environment, stand_in, wait_for

ROOT = Path(__file__).parent.parent
LAUNCH = ROOT / "scripts" / "launch"
TOKENS = {"HF_TOKEN": "hf_secret_of_the_test", "WANDB_API_KEY": "wandb_secret_of_the_test"}


@pytest.fixture
def repository(tmp_path):
    """A repository with the launchers and two configs, committed."""
    folder = tmp_path / "repository"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "tpu_pod.sh", folder / "scripts")
    shutil.copytree(LAUNCH, folder / "scripts" / "launch")
    (folder / "sums.yaml").write_text("run_dir: runs/sums\ntask: {name: arithmetic}\n")
    (folder / "gym.yaml").write_text("run_dir: runs/gym  # tfds:\ntask: {gym: chain_sum}\n")
    (folder / ".gitignore").write_text("/data/\n.venv/\n")
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], check=True)
    return folder


@pytest.fixture
def pod(repository, tmp_path):
    """Runs tpu_pod.sh with the stand-ins, and ends what is left on the workers."""
    folder, pods = tmp_path / "stand_ins", tmp_path / "pods"
    pods.mkdir()
    for name, text in {"gcloud": GCLOUD, "python3": PYTHON, "r1jax_that_waits": WAITS}.items():
        stand_in(folder, name, text)

    def run(command, *arguments, check=True, popen=False, **variables):
        known = environment(folder, PODS=pods, STAND_INS=folder, TPU_ZONE="zone-a", TPU_POLL_SECONDS=0.2, **variables)
        line = ["bash", str(repository / "scripts" / "tpu_pod.sh"), command, "pod-1", *arguments]
        if popen:
            return subprocess.Popen(line, env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        done = subprocess.run(line, env=known, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, done.stderr
        return done

    run.pods = pods
    yield run
    for file in pods.glob("*/r1jax-run/pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.fixture
def dry(repository, tmp_path):
    """Runs tpu_pod.sh --dry-run with a gcloud that fails, and returns what it printed."""
    stand_in(tmp_path / "stand_ins", "gcloud", "#!/usr/bin/env bash\ntouch $CALLED\nexit 9\n")
    known = environment(tmp_path / "stand_ins", CALLED=tmp_path / "called", **TOKENS)

    def run(command, *arguments):
        line = ["bash", str(repository / "scripts" / "tpu_pod.sh"), command, "pod-1", "--zone", "zone-a", "--dry-run"]
        done = subprocess.run([*line, *arguments], env=known, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "called").exists()
        assert not any(token in done.stdout + done.stderr for token in TOKENS.values())
        return done.stdout

    return run


def test_shell_files_pass_shellcheck():
    files = sorted(map(str, [*(ROOT / "scripts").glob("*.sh"), *LAUNCH.glob("*.sh")]))
    assert len(files) >= 5
    done = subprocess.run([Path(sys.executable).parent / "shellcheck", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_jobset_is_one_and_restarts_on_all_but_errors():
    written = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    read = JobsetV1alpha2JobSet.from_dict(written)
    assert read is not None and read.to_dict() == written, "a key that JobSet or Kubernetes does not know"
    assert (written["apiVersion"], written["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (rule,) = written["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    job = written["spec"]["replicatedJobs"][0]["template"]["spec"]
    (policy,) = job["podFailurePolicy"]["rules"]
    assert (policy["action"], policy["onExitCodes"]["values"]) == ("FailJob", [1, 2])
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert policy["onExitCodes"]["containerName"] == container["name"]
    assert job["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = prod(int(side) for side in topology.split("x"))
    for kind in ("requests", "limits"):
        assert container["resources"][kind]["google.com/tpu"] * job["parallelism"] == chips
    assert job["completions"] == job["parallelism"]
    secrets = [entry for entry in container["env"] if "valueFrom" in entry]
    assert {entry["name"] for entry in secrets} == set(TOKENS)
    assert all(entry["valueFrom"]["secretKeyRef"]["optional"] for entry in secrets)
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_a_pod_of_the_jobset_waits_for_the_others_and_then_becomes_r1jax(tmp_path):
    """There is one other here, which comes late; bash is then the process that was started, and so gets the signals."""
    manifest = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    (container,) = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    stand_in(tmp_path, "r1jax", '#!/usr/bin/env bash\necho "$$ $*"\n')
    stand_in(tmp_path, "python", f'#!/usr/bin/env bash\ntouch {tmp_path}/waits; sleep 1\nexec python3 "$@"\n')
    known = environment(tmp_path, TPU_WORKER_HOSTNAMES="localhost,127.0.0.1")
    line = [*container["command"], *container["args"]]
    process = subprocess.Popen(line, env=known, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert (tmp_path / "waits").exists()
    assert words[:3] == [str(process.pid), "train", "configs/quickstart.yaml"]
    assert words[-1] == "mesh.distributed=true"


def test_the_skypilot_task_is_one():
    schemas = json.loads((ROOT / "tests" / "references" / "skypilot_schemas.json").read_text())
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    jsonschema.validate(task, schemas["task"])
    jsonschema.validate(task["resources"], schemas["resources"])
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [143, 75]
    assert set(task["secrets"]) == set(TOKENS)
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n", "-c", script], check=True)


@pytest.mark.parametrize("extras, variables", [("--extra tpu", "none"), ("--extra cuda", "10.0.0.1:8482 2 1")])
def test_the_skypilot_task_tells_gpu_machines_where_the_others_are(tmp_path, extras, variables):
    said = 'echo "$* ${JAX_COORDINATOR_ADDRESS-none} ${JAX_NUM_PROCESSES-} ${JAX_PROCESS_ID-} ${HF_TOKEN-no token}"'
    stand_in(tmp_path / ".venv" / "bin", "r1jax", f"#!/usr/bin/env bash\n{said}\n")
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    nodes = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    known = os.environ | task["secrets"] | nodes | {"EXTRAS": extras, "COMMAND": task["envs"]["COMMAND"]}
    done = subprocess.run(["bash", "-c", task["run"]], env=known, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == f"{task['envs']['COMMAND']} mesh.distributed=true {variables} no token".split()


def test_dry_runs_print_the_commands_and_call_nothing(dry):
    created = dry("create", "--type", "v5litepod-16", "--spot")
    assert "queued-resources create pod-1 --zone=zone-a --node-id=pod-1 --accelerator-type=v5litepod-16" in created
    assert "--runtime-version=v2-alpha-tpuv5-lite --spot\n" in created
    assert "--runtime-version=mine\n" in dry("create", "--type", "v9-8", "--version", "mine")
    installed = dry("setup", "--prepare", "mount it", "--extra", "language", "gym.yaml")
    assert "standard input: the files of git, uv.lock and no data" in installed
    assert "pod-1:r1jax.tar.gz --zone=zone-a --worker=all" in installed
    assert "(mount it) && mkdir -p r1jax && tar -xzf r1jax.tar.gz -C r1jax" in installed
    assert "tpu_worker.sh setup --extra tpu --extra language --extra gym'" in installed
    assert "tpu_worker.sh setup --extra tpu'" in dry("setup", "sums.yaml")
    started = dry("run", "train", "sums.yaml", "task={name: x}")
    assert "networkEndpoints.len()" in started
    assert r"tpu_worker.sh start train sums.yaml task=\{name:\ x\} mesh.distributed=true'" in started
    assert "# standard input: NAME=value of HF_TOKEN WANDB_API_KEY, where set" in started
    assert "HF_TOKEN WANDB_API_KEY HF_HOME, where set" in dry("run", "--env", "HF_HOME", "train", "sums.yaml")
    assert "--worker=1 '--command=bash r1jax/scripts/launch/tpu_worker.sh log'" in dry("logs", "--worker", "1")
    assert "--worker=all '--command=bash r1jax/scripts/launch/tpu_worker.sh stop'" in dry("stop")
    assert "tpu_worker.sh status" in dry("status")
    assert "tpu-vm scp pod-1:/mnt/run here --zone=zone-a --worker=0 --recurse" in dry("fetch", "/mnt/run", "here")
    assert "queued-resources delete pod-1 --zone=zone-a --force --quiet" in dry("delete")
    watched = dry("watch", "--type", "v6e-16", "train", "gym.yaml")
    for part in (
        " list ",
        " delete ",
        " create ",
        "tpu_worker.sh status",
        "setup --extra tpu --extra gym",
        "start train",
    ):
        assert part in watched


def test_the_commands_of_the_documentation_pass_their_dry_run(dry, repository):
    text = (ROOT / "docs" / "pods.md").read_text()
    commands = re.findall(r"^scripts/tpu_pod.sh (.+)$", text, re.MULTILINE)
    assert len(commands) > 8
    shutil.copytree(ROOT / "configs", repository / "configs")
    (repository / "data").mkdir()
    for name in ("math_train.jsonl", "math_test.jsonl"):
        (repository / "data" / name).write_text("{}\n")
    for command in commands:
        name, _, *arguments = shlex.split(command)
        dry(name, "--type", "v5p-8", "--dirty", *arguments)
    settings = re.findall(r"^export .+$", text, re.MULTILINE)
    script = "\n".join([*settings, 'bash -n -c "$TPU_PREPARE" && echo $TPU_TYPE'])
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert printed.stdout == "v5p-8\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["fly", "pod-1"], "fly is no command"),
        (["create"], "nothing is no name of a pod"),
        (["create", "pod-1", "--type", "v4-8"], "give --zone or TPU_ZONE"),
        (["create", "pod-1", "--zone", "a"], "give --type or TPU_TYPE"),
        (["create", "pod-1", "--zone", "a", "--type", "v9-8"], "no runtime version is known for v9-8"),
        (["run", "pod-1", "--zone", "a"], "run needs a verb"),
        (["run", "pod-1", "--zones", "a"], "--zones is no option"),
        (["run", "pod-1", "--zone"], "--zone needs a value"),
        (["setup", "pod-1", "--zone", "a", "--data", "nowhere"], "--data nowhere: there is no such file"),
        (["setup", "pod-1", "--zone", "a", "--data", "/tmp"], "needs a path in the repository"),
        (["run", "pod-1", "--zone", "a", "--env", "A=b"], "--env A=b: needs the name"),
        (["fetch", "pod-1", "--zone", "a"], "fetch needs the folder"),
    ],
)
def test_bad_input_is_refused_in_one_line(repository, arguments, message):
    line = ["bash", str(repository / "scripts" / "tpu_pod.sh"), *arguments]
    done = subprocess.run(line, env=environment(repository), capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


def test_uncommitted_work_is_named_and_copied_only_when_asked(pod, repository):
    (repository / "sums.yaml").write_text("run_dir: runs/changed\n")
    (repository / "new.py").write_text("new\n")
    (repository / "gym.yaml").unlink()
    (repository / "data").mkdir()
    (repository / "data" / "train.jsonl").write_text("{}\n")
    pod("create", "--type", "v5litepod-8")
    refused = pod("setup", check=False)
    assert refused.returncode == 2
    assert all(name in refused.stderr for name in ("sums.yaml", "new.py", "gym.yaml", "--dirty"))
    pod("setup", "--dirty")
    copied = pod.pods / "1" / "r1jax"
    assert (copied / "sums.yaml").read_text() == "run_dir: runs/changed\n"
    assert (copied / "new.py").exists() and not (copied / "gym.yaml").exists() and not (copied / "data").exists()
    pod("setup", "--dirty", "--data", "data")
    assert (copied / "data" / "train.jsonl").exists()


def test_a_run_on_a_pod_from_its_creation_to_its_deletion(pod, tmp_path):
    pod("create", "--type", "v5litepod-16")
    assert "not set up" in pod("status").stdout
    pod("setup", "gym.yaml")
    assert (pod.pods / "0" / "sync").read_text() == "-m uv sync --quiet --extra tpu --extra gym\n"
    assert pod("status").stdout.count("not started") == 2
    started = pod(
        "run", "train", "sums.yaml", "task={name: x y}", **TOKENS
    )  # the launcher has ended, and the run goes on
    assert started.stdout.count("started, process") == 2
    wait_for(lambda: len(list(pod.pods.glob("*/run/token"))) == 2)
    assert pod("status").stdout.count("running, process") == 2
    again = pod("run", "train", "sums.yaml", check=False)
    assert again.returncode == 1 and "a run is going on" in again.stderr
    log = (pod.pods / "1" / "r1jax-run" / "log").read_text()
    assert log == "arguments: train sums.yaml task={name: x y} mesh.distributed=true\n"
    expected = subprocess.run(["md5sum"], input=f"{TOKENS['HF_TOKEN']}\n", capture_output=True, text=True).stdout
    assert (pod.pods / "1" / "run" / "token").read_text() == expected

    following = pod("logs", popen=True)
    assert "arguments: train" in following.stdout.readline()
    assert pod("stop").stdout.count("asked to stop") == 2
    assert "ended, exit code 143, as stop asked" in following.communicate(timeout=60)[0]
    wait_for(lambda: pod("status").stdout.count("ended, exit code 143, as stop asked") == 2)
    assert (pod.pods / "1" / "run" / "checkpoint").exists()
    pod("fetch", str(pod.pods / "0" / "run"), str(tmp_path / "fetched"))
    assert (tmp_path / "fetched" / "checkpoint").read_text() == "checkpoint\n"

    written = [file.read_bytes() for file in pod.pods.rglob("*") if file.is_file()]
    assert not any(token.encode() in text for token in TOKENS.values() for text in written)
    pod("delete")
    assert "not there" in pod("status").stdout


def test_no_process_has_a_token_among_its_arguments(pod):
    pod("create", "--type", "v5litepod-16")
    pod("setup")
    pod("run", "train", "sums.yaml", **TOKENS)
    lines = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True).stdout
    assert "train sums.yaml" in lines
    assert not any(token in lines for token in TOKENS.values())


def test_watch_brings_a_pre_empted_run_back(pod):
    watching = pod("watch", "--type", "v5litepod-16", "--spot", "train", "sums.yaml", popen=True, **TOKENS)
    running = lambda: len(list(pod.pods.glob("*/run/token"))) == 2  # noqa: E731
    wait_for(running)
    for file in pod.pods.glob("*/r1jax-run/pid"):  # the machines go
        os.kill(int(file.read_text()), signal.SIGKILL)
    (pod.pods / "state").write_text("SUSPENDED\n")
    calls = pod.pods / "calls"
    wait_for(lambda: calls.read_text().count("queued-resources create") == 2)
    wait_for(running)
    wait_for(lambda: "start train sums.yaml" in calls.read_text().split("queued-resources create")[2])
    pod("stop")
    output = watching.communicate(timeout=60)[0]
    assert watching.returncode == 143, output
    assert "the request is SUSPENDED" in output
    assert not any(token in output for token in TOKENS.values())


@pytest.mark.parametrize("code, starts, returned", [(0, 1, 0), (1, 1, 1), (137, 5, 1)])
def test_watch_ends_when_the_run_has_ended_or_needs_a_person(pod, code, starts, returned):
    done = pod("watch", "--type", "v5litepod-16", "--delete", "train", "sums.yaml", f"ends_with={code}", check=False)
    assert done.returncode == returned, done.stderr
    assert (pod.pods / "calls").read_text().count("--worker=0 --command=bash") == starts
    assert (pod.pods / "state").exists() == (returned != 0)
    assert ("the run needs you" in done.stderr) == (code == 1)


@pytest.fixture
def local(tmp_path):
    """Runs local_pod.sh with a stand-in for r1jax, which ends with $CODE in process $BAD and waits in the others."""
    text = """#!/usr/bin/env bash
trap 'echo stopped $JAX_PROCESS_ID >> "$SEEN"; sleep 0.3; exit 143' TERM
trap 'echo stopped $JAX_PROCESS_ID >> "$SEEN"; exit 130' INT
echo "process $JAX_PROCESS_ID of $JAX_NUM_PROCESSES: $*"
if [ "$JAX_PROCESS_ID" = "${BAD-none}" ]; then echo "it broke" >&2; exit "$CODE"; fi
echo here >> "$SEEN"
for ((i = 0; i < ${WAIT:-0}; i++)); do sleep 0.1; done
"""
    stand_in(tmp_path / "stand_ins", "r1jax", text)

    def start(processes, **variables):
        known = environment(tmp_path / "stand_ins", SEEN=tmp_path / "seen", TMPDIR=tmp_path, **variables)
        line = ["bash", str(ROOT / "scripts" / "local_pod.sh"), str(processes), "1", "train", "sums.yaml"]
        return subprocess.Popen(
            line, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    return start


def test_a_local_pod_that_ends_well(local):
    process = local(3)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "process 0 of 3: train sums.yaml\n", "")


@pytest.mark.parametrize("bad", [0, 1])
def test_a_local_pod_says_which_process_broke(local, bad):
    process = local(2, WAIT=1200, CODE=7, BAD=bad)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 7
    assert f"process {bad} of 2 ended with exit code 7" in errors
    assert "it broke" in errors
    assert ("1.log" in errors) == (bad == 1)


@pytest.mark.parametrize(
    "number, whom", [(signal.SIGTERM, os.kill), (signal.SIGTERM, os.killpg), (signal.SIGINT, os.killpg)]
)
def test_a_local_pod_hands_signals_on_once(local, tmp_path, number, whom):
    process = local(3, WAIT=1200)
    wait_for(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text().count("here") == 3)
    whom(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert sorted((tmp_path / "seen").read_text().split("\n"))[-3:] == ["stopped 0", "stopped 1", "stopped 2"]


@pytest.mark.parametrize("code, requeued", [(0, False), (1, False), (75, True), (143, True)])
def test_a_slurm_job_goes_back_into_the_queue_when_its_time_is_over(tmp_path, code, requeued):
    stand_in(tmp_path / "stand_ins", "srun", f'#!/usr/bin/env bash\necho "srun $*"\nexit {code}\n')
    stand_in(tmp_path / "stand_ins", "scontrol", '#!/usr/bin/env bash\necho "scontrol $*"\n')
    known = environment(tmp_path / "stand_ins", SLURM_JOB_ID=17)
    line = ["bash", str(LAUNCH / "slurm.sh"), "train", "sums.yaml"]
    refused = subprocess.run(line, env=known, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2 and "uv sync --extra cuda" in refused.stderr
    stand_in(tmp_path / ".venv" / "bin", "r1jax", "")
    done = subprocess.run(line, env=known, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code
    assert ".venv/bin/r1jax train sums.yaml mesh.distributed=true" in done.stdout
    assert ("scontrol requeue 17" in done.stdout) == requeued
