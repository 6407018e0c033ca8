"""What every program of a run shares: its folder, settings, devices, model, task and log.

A run folder holds config.yaml (resolved), manifest.json, metrics.jsonl, completions/, checkpoints/, tensorboard/.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from r1jax.checkpoint import Checkpoints
from r1jax.compiles import CompileWatch
from r1jax.config import Config, ConfigError, dump_config, load_config
from r1jax.data import Batches
from r1jax.mesh import SAMPLE_WEIGHTS, join_processes, make_mesh, move, row_shards, weight_shardings
from r1jax.metrics import RunLog, Timers
from r1jax.models.dense import Transformer
from r1jax.state import abstract_params, init_params
from r1jax.tasks import Task, make_task
from r1jax.tokenizer import Tokenizer, load_tokenizer

PACKAGES = ("r1jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@dataclass(frozen=True)
class Run:
    """Built by `open_run`, read by the programs; nothing in it changes except the log and the clocks."""

    config: Config
    folder: Path
    mesh: Mesh
    tokenizer: Tokenizer
    task: Task
    batches: Batches
    model: Transformer
    key: jax.Array
    log: RunLog
    timers: Timers
    watch: CompileWatch

    @property
    def is_writer(self) -> bool:
        """One process writes: the first."""
        return jax.process_index() == 0

    def close(self) -> None:
        self.log.close()
        self.watch.close()

    def checkpoints(self, stage: str) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoints" / stage, self.config.keep_checkpoints)

    def sampling_weights(self, params: Any) -> Any:
        """Weights moved from where training wants them to where decoding does."""
        return move(params, weight_shardings(self.mesh, params, SAMPLE_WEIGHTS))

    def initial_weights(self) -> Any:
        """Random weights from the seed, made in their shardings."""
        shardings = jax.tree.map(lambda x: x.sharding, abstract_params(self.model, self.mesh))
        key = jax.random.fold_in(self.key, 0)
        return jax.jit(lambda key: init_params(self.model, key), out_shardings=shardings)(key)


def open_run(config: Config, *, strict_compiles: bool = False) -> Run:
    """Checks the settings against task, tokenizer and devices, then makes or reopens the run folder.

    Raises ValueError before anything is written or compiled. A folder that was started with other settings is refused.
    """
    join_processes(config.mesh)
    task = make_task(config.task, config.seed)
    tokenizer = load_tokenizer(config.tokenizer.kind, config.tokenizer.path, task.symbols)
    mesh = make_mesh(config.mesh)
    model = Transformer(config.model, tokenizer.size)
    abstract_params(model, mesh)
    _check_stages(config, task, mesh)
    batches = Batches(
        task,
        tokenizer,
        max_prompt_length=config.max_prompt_length,
        max_completion_length=config.max_completion_length,
    )
    folder, writer = Path(config.run_dir), jax.process_index() == 0
    _check_same_settings(folder, config)
    log = RunLog(folder, is_writer=writer, tensorboard=config.log.tensorboard, wandb_project=config.log.wandb_project)
    if writer:
        _describe(folder, config, mesh, model, batches)
    jax.set_mesh(mesh)
    watch = CompileWatch(strict=strict_compiles)
    key = jax.random.key(config.seed)
    return Run(config, folder, mesh, tokenizer, task, batches, model, key, log, Timers(), watch)


def role_key(key: jax.Array, stage: int, step: int, role: str) -> jax.Array:
    """The key of one use of randomness: folded from the root by stage, step and role, never carried along."""
    roles = ("rollout", "minibatches", "evaluate")
    for number in (stage + 1, step, roles.index(role)):
        key = jax.random.fold_in(key, number)
    return key


def due(step: int, every: int, total: int) -> bool:
    """Whether something done every `every` steps (0: only at the end) is due after `step` of `total` steps."""
    return step == total or (every > 0 and step % every == 0)


def check_finite(metrics: Mapping[str, float], stage: str, step: int, checkpoints: Checkpoints) -> None:
    """Stops the run, before anything more is saved, where loss or gradients are not finite."""
    bad = [name for name in ("loss", "grad_norm") if not math.isfinite(metrics[name])]
    if bad:
        latest = checkpoints.latest()
        saved = "there is no checkpoint yet" if latest is None else f"the last good checkpoint is {checkpoints.folder / str(latest)}"
        raise FloatingPointError(
            f"stage {stage}, step {step}: {' and '.join(f'{name} is {metrics[name]}' for name in bad)}; {saved}"
        )


def _check_stages(config: Config, task: Task, mesh: Mesh) -> None:
    """What a stage asks for must fit the mesh and the task."""
    shards = row_shards(mesh)
    for stage in config.stages:
        where = f"stages.{stage.name}"
        if stage.prompts_per_step % shards:
            raise ConfigError(
                f"{where}.prompts_per_step: {stage.prompts_per_step} prompts cannot be split over {shards} devices "
                f"(data × fsdp × expert); need a multiple of {shards}"
            )
        rows = stage.prompts_per_step
        if stage.program == "grpo":
            rows = rows * stage.group_size // stage.minibatches
            unknown = sorted(set(stage.rewards) - set(task.rewards))
            if unknown:
                raise ConfigError(f"{where}.rewards: unknown reward {unknown[0]!r}; the task has {', '.join(task.rewards)}")
        if rows % shards or rows % ((stage.microbatch or 1) * shards):
            raise ConfigError(
                f"{where}.microbatch: an update of {rows} sequences cannot be split into microbatches of "
                f"{stage.microbatch or 1} on each of {shards} devices; need {rows} to be a multiple of their product"
            )


def _check_same_settings(folder: Path, config: Config) -> None:
    file = folder / "config.yaml"
    if not file.is_file():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"run_dir: {folder} is not empty and is no run folder; choose another with run_dir=...")
        return
    before, now = _flat(load_config(file).model_dump()), _flat(config.model_dump())
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"run_dir: {folder} was started with {key}={before.get(key)} and this config has {key}={now.get(key)}{more}; "
            f"choose another folder with run_dir=..., or delete that one to start again"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        return {prefix: tree}
    return {k: v for name, item in items for k, v in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()}


def _describe(folder: Path, config: Config, mesh: Mesh, model: Transformer, batches: Batches) -> None:
    """Writes the resolved config and the manifest, once."""
    if (folder / "config.yaml").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    first = batches.task.example("train", 0)
    manifest = {
        "commit": commit or None,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": mesh.devices.flat[0].platform,
        "devices": [str(device) for device in mesh.devices.flat],
        "processes": jax.process_count(),
        "mesh": dict(mesh.shape),
        "seed": config.seed,
        "parameters": sum(math.prod(x.shape) for x in jax.tree.leaves(abstract_params(model, mesh))),
        "data_fingerprint": data_fingerprint(batches),
        "first_example": {"prompt": first.prompt, "answer": first.answer},
    }
    _write(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    _write(folder / "config.yaml", dump_config(config))


def data_fingerprint(batches: Batches, examples: int = 64) -> str:
    """A hash over the first examples of both splits: it changes where generator, data or seed do."""
    digest = hashlib.blake2b(digest_size=16)
    for split in ("train", "test"):
        for index in range(examples):
            example = batches.task.example(split, index)
            digest.update(f"{example.prompt}\0{example.answer}\0{example.demonstration}\0".encode())
    return digest.hexdigest()


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, file)
