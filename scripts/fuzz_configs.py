"""Runs r1jax with wrong configs and command lines; each has to end with one clear line and exit code 2.

    uv run scripts/fuzz_configs.py 400

The cases are a valid config in which one setting has a value that it cannot have, files that are no config, paths that
no run can have, and commands that are none; among them are valid configs, which have to be accepted. No model is
trained: a case is accepted where work begins. Prints the cases that end otherwise, and exits with 1 if there are any.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
MAX_LINE = 700  # characters
CONFIG = """\
run_dir: FOLDER/run
task: {name: arithmetic, min_digits: 1, max_digits: 2}
model: {family: qwen3, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 8,
        num_key_value_heads: 8, head_dim: 4, dtype: float32}
max_prompt_length: 6
max_completion_length: 32
evaluate: {problems: 8, samples: 2}
stages:
  - {name: cold_start, program: sft, steps: 3, prompts_per_step: 16, optimizer: {learning_rate: 1e-2}}
  - {name: rl, program: grpo, steps: 3, prompts_per_step: 8, group_size: 4, minibatches: 2, kl: {coef: 0.01},
     rewards: {accuracy: 1.0, format: 0.2}, optimizer: {learning_rate: 1e-3}}
"""
NOT_FINITE = (".inf", "-.inf", ".nan", "1e400", "1e300", "-1e300")
NO_NUMBER = ("abc", "[1]", "{a: 1}", "true", "'1'", "0x", "2020-01-01", "1:30", "010")
WRONG = {
    "count": (*NOT_FINITE, *NO_NUMBER, "-1", "1.5", "1e3", str(10**10), str(10**30)),
    "size": (*NOT_FINITE, *NO_NUMBER, "0", "-1", "1.5", str(10**8), str(10**10), str(10**30)),
    "number": (*NOT_FINITE, *NO_NUMBER, "0", "-1", "1.5", "1e3", str(10**10), str(10**30)),
    "rate": (*NOT_FINITE, *NO_NUMBER, "0", "-1", "1e-300"),
    "factor": (*NOT_FINITE, *NO_NUMBER, "-1", "1e-300"),
    "share": (*NOT_FINITE, *NO_NUMBER, "-0.1", "1.1"),
    "weight": (*NOT_FINITE, "abc", "[1]", "{a: 1}", "2e6"),
    "choice": (*NOT_FINITE, *NO_NUMBER, "gpro", "''"),
    "block": ("3", "abc", "[1]", ".nan", "{a: 1}", "{1: 2}", "{null: 2}"),
    "flag": ("maybe", "1", "[true]", "1.0", "null"),
    "text": ("3", "[a]", "{a: b}", "true", ".nan"),
    "path": ("3", "[]", "''", "' '", "gs://bucket/x", "s3://b/x", "file:///x", "$R1JAX_UNSET/x", '"a\\nb"', '"a\\0b"'),
}
SETTINGS = {
    "seed": "count", "completions_every": "count", "keep_checkpoints": "number", "max_prompt_length": "size",
    "max_completion_length": "size", "evaluate.problems": "number", "evaluate.samples": "size",
    "evaluate.temperature": "factor", "evaluate.top_p": "rate", "evaluate.top_k": "size", "task.max_digits": "size",
    "task.direct_share": "share", "task.name": "choice", "task": "block", "model": "block", "prompt": "block",
    "evaluate": "block", "mesh": "block", "mesh.data": "number", "mesh.fsdp": "size", "model.hidden_size": "size",
    "model.num_hidden_layers": "size", "model.head_dim": "size", "model.rope_theta": "rate", "model.dtype": "choice",
    "model.family": "choice", "prompt.chat": "flag", "prompt.system": "text", "wandb_project": "text",
    "tokenizer": "path", "run_dir": "path", "stages.cold_start.init_from": "path", "stages.cold_start.steps": "number",
    "stages.cold_start.prompts_per_step": "size", "stages.cold_start.microbatch": "size",
    "stages.cold_start.optimizer": "block", "stages.cold_start.optimizer.learning_rate": "rate",
    "stages.cold_start.optimizer.eps": "rate", "stages.cold_start.optimizer.weight_decay": "factor",
    "stages.cold_start.optimizer.min_lr_ratio": "share", "stages.cold_start.optimizer.max_grad_norm": "rate",
    "stages.cold_start.optimizer.schedule": "choice", "stages.cold_start.eval_every": "count",
    "stages.cold_start.program": "choice", "stages.cold_start.keep": "choice", "stages.rl.group_size": "size",
    "stages.rl.minibatches": "size", "stages.rl.temperature": "rate", "stages.rl.top_k": "size",
    "stages.rl.top_p": "rate", "stages.rl.kl": "block", "stages.rl.kl.coef": "factor",
    "stages.rl.kl.sync_reference_every": "number",
    "stages.rl.loss.clip_low": "rate", "stages.rl.loss.clip_high": "rate",
    "stages.rl.loss.dual_clip": "rate", "stages.rl.loss.kind": "choice", "stages.rl.loss.entropy_coef": "factor",
    "stages.rl.off_policy_mask_threshold": "rate", "stages.rl.rewards.accuracy": "weight",
    "stages.rl.rewards.format": "weight", "stages.rl.advantage.scale": "choice", "stages.rl.truncated": "choice",
}  # fmt: skip
RIGHT = (
    "seed=4294967295", "evaluate.temperature=0.7", "evaluate.problems=1", "stages.rl.rewards.format=-0.5",
    "stages.rl.kl.coef=0", "stages.rl.temperature=0.001", "stages.cold_start.optimizer.learning_rate=1e-30",
    "table={'Write ${answer}$ last': rl}", "table={'$\\frac{1}{2}$': rl}", "stages.rl.top_k=3", "mesh.data=1",
    "run_dir=$R1JAX_SET/x", "run_dir='${R1JAX_SET}/y'", "stages.rl.loss.clip_high=1000", "model.rope_theta=1e10",
)  # fmt: skip
OVERRIDES = (
    "seed", "=3", ".seed=3", "seed.=3", "seed..x=3", "stages[x].steps=3", "stages[9].steps=3", "stages.nope.steps=3",
    "stages=3", "stages=[3]", "stages=[]", "stages={}", "stages=[[]]", "stages.rl=3", "stages.rl=null",
    "stages.rl.name=3", "stages.rl.name=null", "stages.rl.name=''", "stages.rl.name=base", "stages.rl.name=cold_start",
    "stages.rl.name='../x'", "rewards.x=3", "rewards=3", "rewards={x: {name: nope}}", "rewards={x: {}}",
    "stages.rl.rewards={}", "stages.rl.rewards={nope: 1}", "stages.rl.rewards=[accuracy]", "sed=1", "model.path=nope",
    "model.path=./nope", "tokenizer=nope", "task={jsonl: nope.jsonl}", "task={jsonl: .}", "task={parquet: nope}",
    "task={name: x", "task=[", "seed=&a [*a]", "seed=!!python/object:os.system x", "prompt={template: nope}",
    "prompt.template=no question", "table={x: nope}", "table=3", "decontaminate=3", "decontaminate=[3]",
    "stages.rl.preset=nope.yaml", "stages.rl.preset=3", "stages.rl.init_from=nope", "stages.rl.init_from=rl",
    "stages.rl.group_sise=4", "stages.rl.learning_rate=1", "stages.rl.optimizer=null", "mesh.tensor=7", "mesh.data=-2",
    "stages.rl.kl={coef: 0.1, coef: 0.2}", "seed=" + "[" * 500 + "]" * 500, "sys.path=3", "run_dir.x=3",
    "model={path: /dev/null}", "model={}", "stages.rl.model=3", "stages.cold_start.optimizer={}", "seed=\ud800",
)  # fmt: skip
COMMANDS = (
    ["trian", "CONFIG"], ["train"], ["train", "--nope", "CONFIG"], ["train", "nope.yaml"], ["train", "FOLDER"],
    ["train", ""], ["train", "/dev/null"], ["train", "gs://bucket/x.yaml"], ["eval"], ["eval", "/nope"],
    ["eval", "FOLDER"], ["eval", "FOLDER", "--task", "gsm8k"], ["eval", "CONFIG"], ["eval", "CONFIG", "--step"],
    ["eval", "gs://b/x"], ["sample", "/nope", "x"], ["sample", "FOLDER"], ["sample", "FOLDER", "x", "-n", "0"],
    ["sample", "FOLDER", "x", "-n", "x"], ["sample", "FOLDER", "x", "--temperature", "-1"],
    ["sample", "FOLDER", "x", "--seed", str(10**30)], ["chat", "nope"], ["chat", "FOLDER"], ["export", "nope"],
    ["export", "nope", "gs://b/out"], ["export", "nope", "CONFIG/out"], ["export", "FOLDER", "FOLDER/out"],
    ["export", "nope", "/proc/out"], ["reward", "nope"], ["reward", "FOLDER"], ["reward", "CONFIG", "--config", "nope"],
    ["reward", "nope", "--config", "CONFIG"], ["reward", "CONFIG", "--config", "CONFIG"], ["--nope"],
)  # fmt: skip
RUN_DIRS = (
    "CONFIG",
    "CONFIG/run",
    "CONFIG/run/deeper",
    "/proc/run",
    "/proc/1/run",
    "/sys/run",
    "/dev/null",
    "/dev/null/x",
)


@dataclass(frozen=True)
class Case:
    """A command line; CONFIG stands for the file with `content`, and FOLDER for the one that it is in."""

    arguments: list[str]
    content: bytes = CONFIG.encode()
    right: bool = False


def files(chance: random.Random) -> Iterator[bytes]:
    """Files that are no config."""
    text = CONFIG.encode()
    yield from (
        b"",
        b"\n",
        b"# nothing\n",
        b"3",
        b"3.5",
        b"true",
        b"null",
        b"abc",
        b"- a",
        b"[]",
        b"{}",
        b"a: 1\n---\nb: 2",
    )
    yield from (b"\xff\xfe" + CONFIG.encode("utf-16-le"), CONFIG.encode("utf-16"), b"\x00" + text, text + b"x: \xff")
    yield from (b"[" * 500 + b"]" * 500, b"a: " * 500, b"{a: " * 500 + b"}" * 500, b"seed: 010\n" + text)
    yield from (b"seed: 0b11_1:0\n" + text, b"seed: 1:30\n" + text, b"1: 2\n" + text, b"null: 2\n" + text)
    yield from (b"true: 2\n" + text, b"? [a]\n: 2\n" + text, b"1.5: x\n" + text, b"seed: 1\nseed: 2\n" + text)
    yield from (b"a: &a [*a]\n" + text, b"seed: ${nope}\n" + text, b"seed: ${seed}\n" + text, b"seed: ${\n" + text)
    yield b"seed:\n\t- 1\n" + text
    yield b"seed: !!python/object/apply:os.system [ls]\n" + text
    laughs = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 12))
    yield b"x0: &x0 [1, 2]\n" + laughs.encode() + b"\n" + text
    for _ in range(8):
        yield bytes(chance.randrange(256) for _ in range(200))
        yield text[: chance.randrange(20, len(text) - 120)]


def cases(seed: int) -> list[Case]:
    """All cases, in an order that the seed gives."""
    chance = random.Random(seed)
    made = [Case(["train", "CONFIG", f"{key}={value}"]) for key, kind in SETTINGS.items() for value in WRONG[kind]]
    made = [case for case in made if case.arguments[2] != "mesh.data=-1"]
    made += [Case(["train", "CONFIG", override]) for override in OVERRIDES]
    made += [Case(["train", "CONFIG", f"run_dir={folder}"]) for folder in RUN_DIRS]
    made += [Case(command) for command in COMMANDS]
    made += [Case(["train", "CONFIG"], content) for content in files(chance)]
    made += [Case(["train", "CONFIG", override], right=True) for override in RIGHT] + [
        Case(["train", "CONFIG"], right=True)
    ]
    chance.shuffle(made)
    return made


class WorkBegan(Exception):
    """The config was accepted."""


def outcome(case: Case, folder: Path) -> str | None:
    """What is wrong with how a case ends; None where nothing is."""
    from typer.testing import CliRunner

    from r1jax.cli import app
    from r1jax.programs import pipeline

    def began(*_: object) -> None:
        raise WorkBegan

    config = folder / "config.yaml"
    config.write_bytes(case.content.replace(b"FOLDER", bytes(folder)))
    arguments = [text.replace("CONFIG", str(config)).replace("FOLDER", str(folder)) for text in case.arguments]
    original, pipeline.evaluate_stage = pipeline.evaluate_stage, began
    try:
        with contextlib.chdir(folder):
            result = CliRunner().invoke(app, arguments)
    finally:
        pipeline.evaluate_stage = original
    if case.right != isinstance(result.exception, WorkBegan):
        if not case.right:
            return "was accepted"
        return f"was refused: {result.stderr.strip()[-MAX_LINE:]} {result.exception!r}"
    if case.right:
        return None
    lines = [line for line in result.stderr.strip().split("\n") if not line.startswith("warning: ")]
    if result.exit_code != 2 or len(lines) != 1 or not lines[0].startswith("error: ") or len(lines[0]) > MAX_LINE:
        return f"ended with code {result.exit_code}, {result.exception!r:.300} and {result.stderr[-MAX_LINE:]!r}"
    return None


def main() -> None:
    """Runs as many cases as are asked for."""
    os.environ["R1JAX_SET"] = tempfile.mkdtemp()
    chosen = cases(seed=0)[: int(sys.argv[1]) if len(sys.argv) > 1 else None]
    ends: Counter[bool] = Counter()
    for number, case in enumerate(chosen):
        with tempfile.TemporaryDirectory() as folder:
            problem = outcome(case, Path(folder))
        ends[problem is None] += 1
        if problem:
            content = "" if case.content == CONFIG.encode() else f" {case.content[:60]!r}"
            command = textwrap.shorten(ascii(" ".join(case.arguments)), 200)
            print(f"{number}: {command}{content}: {problem}", flush=True)
    print(f"{len(chosen)} cases: {ends[True]} ended as they should, {ends[False]} otherwise")
    sys.exit(ends[False] > 0)


if __name__ == "__main__":
    main()
