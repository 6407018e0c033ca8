"""Stops, disturbs and changes a run at three moments, and prints what its user sees.

    uv run python scripts/stopping_trials.py configs/quickstart.yaml stages.cold_start.steps=200 stages.rl.steps=30

The moments are the compilation at the start, the first stage and the last stage. At each, the run gets Ctrl-C, SIGTERM,
a second start in its folder, another microbatch, more steps, a changed data file and, where this script may mount one
(as root), a full disk. The last stage reads its problems from a file, so that there is one to change. All of this but
the microbatch and the full disks happens to one run, which is resumed to its end and compared with one left alone.
Exits with 1 where an exit code is another than expected, a traceback is printed, or the two runs differ.
"""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from r1jax.config.load import load_config
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings

config, *given = sys.argv[1:]
root = Path(tempfile.mkdtemp(prefix="trials-"))
data, folder = root / "sums.jsonl", root / "run"
first, *_, last = [stage.name for stage in load_config(config, given).stages]
faults = []


def start(run_dir: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "r1jax.cli", "train", config, f"run_dir={run_dir}", *given]
    command += [f"stages.{last}.task={{jsonl: {data}}}", *overrides]
    with (root / "output").open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    (root / "output").rename(root / f"output {process.pid}")
    return process


def output(process: subprocess.Popen) -> str:
    return (root / f"output {process.pid}").read_text()


def wait(process: subprocess.Popen, run_dir: Path, moment: str, steps: int = 2) -> None:
    """Until the run has logged more steps of the stage, or has named its device, after which it compiles."""

    def logged() -> int:
        rows = read_metrics(run_dir) if (run_dir / "metrics.jsonl").exists() else []
        return sum(row["stage"] == moment and "loss" in row for row in rows)

    goal = logged() + steps
    while process.poll() is None:
        time.sleep(0.05)
        if "device(s)" in output(process) if moment == "compiling" else logged() >= goal:
            return


def show(case: str, moment: str, process: subprocess.Popen, expected: int, lines: int = 3) -> None:
    begun = time.monotonic()
    process.wait()
    text = output(process)
    print(f"\n## {case}, {moment}: exit code {process.returncode} after {time.monotonic() - begun:.1f} s")
    print("\n".join(text.strip().splitlines()[-lines:]).replace(str(root), "…"), flush=True)
    if process.returncode != expected or "Traceback" in text:
        faults.append(f"{case}, {moment}: exit code {process.returncode}, expected {expected}\n{text}")


def stopped(case: str, moment: str, number: int, *overrides: str) -> None:
    wait(process := start(folder, *overrides), folder, moment)
    process.send_signal(number)
    show(case, moment, process, 128 + number)


def write_data(answer: int) -> None:
    """Sums, the first of which has `answer` added to its own."""
    sums = [(100 + 37 * i % 900, 100 + 91 * i % 900) for i in range(600)]
    rows = [{"question": f"{a}+{b}=", "answer": str(a + b + answer * (i == 0))} for i, (a, b) in enumerate(sums)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))


def full_disks() -> None:
    """A disk that is full from the start, before a checkpoint, and within the last stage."""
    for case, size, moment in (("at the start", "8k", ""), ("at a checkpoint", "6m", ""), ("later", "64m", last)):
        disk = root / "disk"
        disk.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]).returncode:
            return print("full disk: not tried, as it needs root")
        try:
            process = start(disk / "run")
            if moment:
                wait(process, disk / "run", moment)
                (disk / "other").write_bytes(bytes(shutil.disk_usage(disk).free - 2**20))
            show("full disk", case, process, 1)
            if moment:
                (disk / "other").unlink()
                show("full disk, with room again", case, start(disk / "run"), 0, 1)
        finally:
            subprocess.run(["umount", disk], check=True)


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores, and its runs too
    write_data(0)
    more = f"stages.{last}.steps={load_config(config, given).stages[-1].steps + 10}"
    for moment in ("compiling", first, last):
        stopped("Ctrl-C", moment, signal.SIGINT)
        stopped("SIGTERM", moment, signal.SIGTERM)
        wait(process := start(folder), folder, moment)
        show("second start", moment, start(folder), 2)
        process.terminate()
        process.wait()
        copy = root / "copy"  # since sums of another order are rounded otherwise
        shutil.copytree(folder, copy)
        process = start(copy, f"stages.{last}.microbatch=32")
        wait(process, copy, moment)
        process.terminate()
        show("another microbatch", moment, process, 128 + signal.SIGTERM, lines=5)
        shutil.rmtree(copy)
        if moment == last:
            show("more steps, falling rate", moment, start(folder, more), 2)
        else:
            stopped("more steps of a stage that has not begun", moment, signal.SIGTERM, more)
        write_data(1)
        if moment == last:
            show("changed data", moment, start(folder), 2)
        else:
            stopped("changed data of a stage that has not begun", moment, signal.SIGTERM)
        write_data(0)
    show("resumed", "to its end", start(folder), 0)
    show("alone", "from its start", start(root / "alone"), 0)
    runs = [root / "run", root / "alone"]
    rows, others = ([without_timings(row) for row in read_metrics(run)] for run in runs)
    weights, other_weights = (jax.tree.leaves(load_model(str(run)).model.weights) for run in runs)
    same = rows == others and all(np.array_equal(a, b) for a, b in zip(weights, other_weights, strict=True))
    print(f"\n{len(rows)} rows and {len(weights)} arrays of weights: {'equal' if same else 'DIFFER'}")
    full_disks()
    print(f"\n{len(faults)} faults", *faults, sep="\n\n")
    return int(bool(faults) or not same)


if __name__ == "__main__":
    sys.exit(main())
