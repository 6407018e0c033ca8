"""Damages a run's folder in many ways, and checks what the next commands do with it.

    uv run python scripts/damage_test.py            # every kind of damage, and 60 flipped bits
    uv run python scripts/damage_test.py --bits 5

A run of two stages is stopped before its last step. Each damage is done to a copy of its folder, in which `r1jax
sample` and then `r1jax train` are run. Each must end well, or with one line of error; never with a traceback; and where
`train` ends well, the weights and metrics must be those of the run that was not damaged. Prints a line for each damage,
and exits with 1 where one did not hold.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from typer.testing import CliRunner

from r1jax.cli import app, quieten
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings

CONFIG = """
task: {name: arithmetic, max_digits: 1}
model: {family: qwen3, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 1,
        num_key_value_heads: 1, head_dim: 16, dtype: float32}
max_prompt_length: 6
max_completion_length: 8
evaluate: {problems: 8}
keep_checkpoints: 3
completions_every: 2
stages:
  - {name: cold_start, program: sft, steps: 2, prompts_per_step: 8, optimizer: {learning_rate: 1e-2},
     max_completion_length: 60}
  - {name: rl, program: grpo, steps: 6, save_every: 2, prompts_per_step: 8, group_size: 2, rewards: {accuracy: 1.0},
     optimizer: {learning_rate: 1e-3}}
"""
Damage = Callable[[Path], object]


def largest(folder: Path) -> Path:
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: (file.stat().st_size, file))


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Changes the bytes of the file of this name; of a folder, those of its largest file."""

    def damage(folder: Path) -> None:
        file = folder / name if (folder / name).is_file() else largest(folder / name)
        file.write_bytes(change(file.read_bytes()))

    return damage


def remove(*names: str) -> Damage:
    return lambda folder: [shutil.rmtree(folder / n) if (folder / n).is_dir() else (folder / n).unlink() for n in names]


def make(name: str) -> Damage:
    return lambda folder: (folder / name).mkdir(parents=True)


def move(before: str, after: str) -> Damage:
    return lambda folder: (folder / before).rename(folder / after)


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints/rl/4")
    (folder / "checkpoints/rl/4").write_text("not a folder")


def unreadable(name: str) -> Damage:
    return lambda folder: (folder / name).chmod(0)


def kinds() -> dict[str, Damage]:
    """Damages by what they are; the run has the checkpoints cold_start/2, rl/2 and rl/4."""
    half: Callable[[bytes], bytes] = lambda data: data[: len(data) // 2]  # noqa: E731
    empty: Callable[[bytes], bytes] = lambda _: b""  # noqa: E731
    noise: Callable[[bytes], bytes] = lambda data: random.Random(0).randbytes(len(data))  # noqa: E731
    last = "checkpoints/rl/4"
    return {
        "nothing": lambda folder: None,
        "the newest checkpoint is an empty folder": lambda f: (remove(last)(f), make(last)(f)),
        "an empty folder of a later step": make("checkpoints/rl/5"),
        "the newest checkpoint is a file": replace_by_file,
        "the newest checkpoint is gone": remove(last),
        "the newest checkpoint under another step": move(last, "checkpoints/rl/5"),
        "a save that was killed": make("checkpoints/rl/5.orbax-checkpoint-tmp"),
        "half of the newest checkpoint is deleted: weights": remove(f"{last}/params"),
        "half of the newest checkpoint is deleted: optimizer": remove(f"{last}/training"),
        "half of the newest checkpoint is deleted: checksums": remove(f"{last}/checksums"),
        "half of an older checkpoint is deleted": remove("checkpoints/rl/2/params"),
        "a truncated file of weights": rewrite(f"{last}/params", half),
        "an empty file of weights": rewrite(f"{last}/params", empty),
        "noise in a file of weights": rewrite(f"{last}/params", noise),
        "zeros in a file of weights": rewrite(f"{last}/params", lambda data: bytes(len(data))),
        "noise in the optimizer's state": rewrite(f"{last}/training", noise),
        "an empty index": rewrite(f"{last}/params/manifest.ocdbt", empty),
        "noise in the index": rewrite(f"{last}/params/manifest.ocdbt", noise),
        "no list of arrays": remove(f"{last}/params/_METADATA"),
        "half a list of arrays": rewrite(f"{last}/params/_METADATA", half),
        "no metadata": remove(f"{last}/_CHECKPOINT_METADATA"),
        "half of the metadata": rewrite(f"{last}/_CHECKPOINT_METADATA", half),
        "both checkpoints of a stage": lambda f: [rewrite(f"checkpoints/rl/{n}/params", noise)(f) for n in (2, 4)],
        "every checkpoint": lambda f: [
            rewrite(f"checkpoints/{n}/params", noise)(f) for n in ("cold_start/2", "rl/2", "rl/4")
        ],
        "an unreadable checkpoint": unreadable(last),
        "no checkpoints of a finished stage": remove("checkpoints/cold_start"),
        "no checkpoints": remove("checkpoints"),
        "no config.yaml": remove("config.yaml"),
        "an empty config.yaml": rewrite("config.yaml", empty),
        "half a config.yaml": rewrite("config.yaml", half),
        "noise in config.yaml": rewrite("config.yaml", noise),
        "no manifest": remove("manifest.json"),
        "half a manifest": rewrite("manifest.json", half),
        "no metrics": remove("metrics.jsonl"),
        "noise in the metrics": rewrite("metrics.jsonl", noise),
        "half a row of metrics": rewrite("metrics.jsonl", lambda data: data[:-20]),
        "a row of metrics that is no row": rewrite("metrics.jsonl", lambda data: b'["rl", 3]\n' + data),
        "no model folder": remove("model"),
        "no tokenizer": remove("model/tokenizer.json"),
        "half a tokenizer": rewrite("model/tokenizer.json", half),
        "noise in the tokenizer": rewrite("model/tokenizer.json", noise),
        "no model config": remove("model/config.json"),
        "half a model config": rewrite("model/config.json", half),
        "no completions": remove("completions"),
        "no tensorboard": remove("tensorboard"),
        "noise in tensorboard": rewrite("tensorboard", noise),
    }


def bits(folder: Path, count: int) -> Iterator[tuple[str, Damage]]:
    """Flipped bits, two thirds of them in the newest checkpoint."""
    rng = random.Random(0)
    for number in range(count):
        where = folder / "checkpoints/rl/4" if number % 3 else folder
        file = rng.choice(sorted(f for f in where.rglob("*") if f.is_file() and f.stat().st_size))
        position, bit = rng.randrange(file.stat().st_size), rng.randrange(8)
        name = file.relative_to(folder).as_posix()

        def flip(data: bytes, position: int = position, bit: int = bit) -> bytes:
            return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]

        yield f"bit {bit} of byte {position} of {name}", rewrite(name, flip)


def run(*command: str) -> tuple[int, str, BaseException | None]:
    """(exit code, what it printed, the exception that was no clean exit) of a command of r1jax."""
    result = CliRunner().invoke(app, command)
    error = None if isinstance(result.exception, SystemExit) else result.exception
    return result.exit_code, result.output, error


def outcome(folder: Path) -> tuple[list, list]:
    """What a finished run must have: its rows without timings, and its weights."""
    rows = [without_timings(row) for row in read_metrics(folder)]
    return rows, [np.asarray(x).tobytes() for x in jax.tree.leaves(load_model(str(folder)).model.weights)]


def check(damage: Damage, stopped: Path, whole: tuple[list, list], before: str) -> tuple[bool, str]:
    """Whether what happens after a damage is right, and what did happen. `before` is what `sample` prints without."""
    folder = stopped.with_name("damaged")
    shutil.copytree(stopped, folder)
    try:
        damage(folder)
        code, said, error = run("sample", str(folder), "1+1=")
        told = said.strip().splitlines()
        if error or not (code == 0 or (code == 2 and len(told) == 1)):
            return False, f"sample: {error!r} {said[-500:]}"
        same = "the same sample" if said == before else "ANOTHER SAMPLE" if code == 0 else told[0]
        command = ["train", str(stopped.with_name("config.yaml")), f"run_dir={folder}"]
        code, said, error = run(*command)
        if code == 1 and "the same command then resumes" in said.strip().splitlines()[-1]:  # two in a row are damaged
            code, said, error = run(*command)
        told = [
            line for line in said.splitlines() if line.startswith(("error:", "stopped:", "the checkpoint", "stage"))
        ]
        if error or code not in (0, 1, 2) or (code and len(told) != 1):
            return False, f"{same}; train: {error!r} {said[-500:]}"
        if code == 0:
            rows, weights = outcome(folder)
            told.append("same weights" if weights == whole[1] else "OTHER WEIGHTS")
            told.append("same rows" if rows == whole[0] else "other rows")
            if weights != whole[1]:
                return False, f"{same}; {'; '.join(told)}"
        return True, f"{same}; {'; '.join(told)}"
    finally:
        for part in folder.rglob("*"):
            part.chmod(0o700)
        shutil.rmtree(folder)


def main(names: list[str] | None, flipped: int) -> int:
    quieten()  # as the console script does
    root = Path(tempfile.mkdtemp(prefix="damage-"))
    stopped, config = root / "stopped", root / "config.yaml"
    config.write_text(CONFIG + "run_dir: none\n")
    code, said, error = run("train", str(config), f"run_dir={stopped}")
    if code:
        sys.exit(f"{error!r}\n{said}")
    whole = outcome(stopped)
    shutil.rmtree(stopped / "checkpoints/rl/6")
    before = run("sample", str(stopped), "1+1=")[1]
    damages = kinds() if names is None else {name: kinds()[name] for name in names}
    failed = 0
    for name, damage in [*damages.items(), *bits(stopped, flipped)]:
        held, text = check(damage, stopped, whole, before)
        failed += not held
        print(f"{'held' if held else 'FAILED'}: {name}: {text.replace(str(root), '')}", flush=True)
    shutil.rmtree(root)
    print(f"{len(damages)} kinds of damage and {flipped} flipped bits, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bits", type=int, default=60)
    parser.add_argument("--only", action="append", help="this kind of damage")
    given = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main(given.only, given.bits))
