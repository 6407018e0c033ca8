"""What every program of a run shares: its folder, settings, devices, model, task and log.

A run folder holds config.yaml (resolved), manifest.json, metrics.jsonl, completions/, checkpoints/, tensorboard/.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from r1jax.checkpoint import Checkpoints
from r1jax.compiles import CompileWatch
from r1jax.config import Config, ConfigError, dump_config, load_config
from r1jax.data import Batches
from r1jax.mesh import SAMPLE_WEIGHTS, join_processes, make_mesh, move, row_shards, weight_shardings
from r1jax.metrics import RunLog, Timers
from r1jax.models.dense import Transformer
from r1jax.sampler import Samples, make_sampler
from r1jax.state import abstract_params, init_params
from r1jax.tasks import Task, make_task
from r1jax.tokenizer import Tokenizer, load_tokenizer

FREE = ("run_dir", "mesh.", "log.", "keep_checkpoints")  # settings that do not change what is computed
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

    @contextlib.contextmanager
    def devices(self) -> Iterator[None]:
        """Where the run's computations happen: its mesh, and float32 products in full where the model is float32."""
        precision = "float32" if self.config.model.dtype == "float32" else None
        with jax.set_mesh(self.mesh), jax.default_matmul_precision(precision):
            yield

    def first_example(self, number: int) -> int:
        """The index of the training example that stage `number` begins with: each goes on where the last one ended."""
        return sum(stage.steps * stage.prompts_per_step for stage in self.config.stages[:number])

    def close(self) -> None:
        """Closes the log and stops counting compilations."""
        self.log.close()
        self.watch.close()

    def checkpoints(self, stage: str) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoints" / stage, self.config.keep_checkpoints)

    def sampler(self, *, group_size: int, temperature: float) -> Callable[..., Samples]:
        """The jitted sampler for this run's model, lengths and stop ids; see `sampler.make_sampler`."""
        return make_sampler(
            self.model,  # pyright: ignore[reportArgumentType] (a Linen module is hashable where its fields are)
            self.mesh,
            stop_ids=self.tokenizer.stop_ids,
            group_size=group_size,
            max_new=self.config.max_completion_length,
            temperature=temperature,
        )

    def sampling_weights(self, params: Any) -> Any:
        """Weights moved from where training wants them to where decoding does."""
        return move(params, weight_shardings(self.mesh, params, SAMPLE_WEIGHTS))

    def initial_weights(self) -> Any:
        """Random weights from the seed, made in their shardings."""
        shardings = jax.tree.map(lambda x: x.sharding, abstract_params(self.model, self.mesh))
        key = jax.random.fold_in(self.key, 0)
        return jax.jit(lambda key: init_params(self.model, key), out_shardings=shardings)(key)


def open_run(config: Config, *, strict_compiles: bool = False) -> Run:
    """A run to train: checks the settings against task, tokenizer and devices, then makes or reopens its folder.

    Raises ConfigError before anything is written or compiled. A folder that was started with other settings is refused.
    """
    with user_errors():
        run = _build(config, strict_compiles)
        _check_stages(config, run.task, run.mesh)
        _check_examples(run)
        _check_same_settings(run.folder, config)
        _wait_for_all("settings")  # no process writes before all have looked
        if run.is_writer:
            _describe(run)
        _wait_for_all("folder")
    return run


def load_run(folder: Path, overrides: Sequence[str] = ()) -> tuple[Run, Any, str]:
    """A run that has been trained, to be used: (run, its last weights, "STAGE-STEP"). Writes nothing.

    Of the mesh, `distributed` is off unless overridden: a run trained on a pod can be used anywhere.
    """
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder} is no run folder: it has no config.yaml; give the run_dir of a trained config")
    config = load_config(folder / "config.yaml", ["mesh.distributed=false", *overrides])
    config = config.model_copy(update={"run_dir": str(folder)})
    with user_errors():
        run = _build(config, strict=False)
    for stage in reversed(config.stages):
        if not (folder / "checkpoints" / stage.name).is_dir():
            continue
        with run.checkpoints(stage.name) as checkpoints:
            step = checkpoints.latest()
            if step is not None:
                params = checkpoints.restore(step, {"params": abstract_params(run.model, run.mesh)})["params"]
                return run, params, f"{stage.name}-{step}"
    raise ConfigError(f"{folder} has no checkpoint yet; go on with: r1jax train {folder / 'config.yaml'}")


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """While input is checked: what a task or tokenizer refuses is the user's to mend, a ConfigError."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _wait_for_all(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _build(config: Config, strict: bool) -> Run:
    join_processes(config.mesh)
    task = make_task(config.task, config.seed)
    tokenizer = load_tokenizer(config.tokenizer.kind, config.tokenizer.path, task.symbols)
    mesh = make_mesh(config.mesh)
    model = Transformer(config.model, tokenizer.size)
    abstract_params(model, mesh)  # refuses a mesh that does not divide the weights
    return Run(
        config=config,
        folder=Path(config.run_dir),
        mesh=mesh,
        tokenizer=tokenizer,
        task=task,
        batches=Batches(
            task,
            tokenizer,
            max_prompt_length=config.max_prompt_length,
            max_completion_length=config.max_completion_length,
        ),
        model=model,
        key=jax.random.key(config.seed),
        log=RunLog(
            Path(config.run_dir),
            is_writer=jax.process_index() == 0,
            tensorboard=config.log.tensorboard,
            wandb_project=config.log.wandb_project,
        ),
        timers=Timers(),
        watch=CompileWatch(strict=strict),
    )


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
    """Stops the run, before anything more is saved, where loss, gradients or new weights are not finite."""
    bad = [name for name in ("loss", "grad_norm", "param_norm") if not math.isfinite(metrics[name])]
    if bad:
        latest = checkpoints.latest()
        saved = (
            "there is no checkpoint yet"
            if latest is None
            else f"the last good checkpoint is {checkpoints.folder / str(latest)}"
        )
        raise FloatingPointError(
            f"stage {stage}, step {step}: {' and '.join(f'{name} is {metrics[name]}' for name in bad)}; {saved}"
        )


def _check_stages(config: Config, task: Task, mesh: Mesh) -> None:
    """What a stage asks for must fit the mesh and the task."""
    shards, width = row_shards(mesh), config.max_prompt_length + config.max_completion_length
    if width % mesh.shape["context"]:
        raise ConfigError(
            f"mesh.context: {mesh.shape['context']} devices cannot split max_prompt_length + max_completion_length = "
            f"{width} positions; need a multiple"
        )
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
                raise ConfigError(f"{where}.rewards: no reward {unknown[0]!r}; the task has {', '.join(task.rewards)}")
        if rows % shards:
            raise ConfigError(
                f"{where}.minibatches: an update of {rows} sequences cannot be split over {shards} devices; "
                f"need a multiple of {shards}"
            )
        if rows % ((stage.microbatch or 1) * shards):
            raise ConfigError(
                f"{where}.microbatch: an update of {rows} sequences cannot be split into microbatches of "
                f"{stage.microbatch or 1} on each of {shards} devices; need {rows} to be a multiple of their product"
            )


def _check_examples(run: Run, at_most: int = 2048) -> None:
    """Looks at the first examples that the run will use, so that limits that are too low are seen at once."""
    config, index = run.config, 0
    run.batches.prompts("test", 0, np.arange(min(config.evaluate.problems, at_most)))
    for stage in config.stages:
        rows = np.arange(min(stage.steps * stage.prompts_per_step, at_most))
        if stage.program == "sft":
            run.batches.demonstrations(index, rows)
        else:
            run.batches.prompts("train", index, rows)
        index += stage.steps * stage.prompts_per_step


def _check_same_settings(folder: Path, config: Config) -> None:
    """A run goes on only with the settings it began with; where it runs and what it logs may change."""
    file = folder / "config.yaml"
    if not file.is_file():
        if folder.exists() and any(entry.suffix != ".tmp" for entry in folder.iterdir()):
            raise ConfigError(f"run_dir: {folder} is not empty and is no run folder; choose another with run_dir=...")
        return
    before, now = _flat(load_config(file).model_dump()), _flat(config.model_dump())
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key) and not key.startswith(FREE)]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"run_dir: {folder} was started with {key}={before.get(key)}, this config has {key}={now.get(key)}{more}; "
            f"choose another folder with run_dir=..., or delete that one to start again"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        return {prefix: tree}
    return {k: v for name, item in items for k, v in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()}


def _describe(run: Run) -> None:
    """Writes the resolved config and the manifest, once."""
    folder, config, mesh = run.folder, run.config, run.mesh
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.yaml").is_file():
        _write(folder / "config.yaml", dump_config(config))
    if (folder / "manifest.json").is_file():
        return
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    first = run.task.example("train", 0)
    manifest = {
        "commit": commit or None,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": mesh.devices.flat[0].platform,
        "devices": [str(device) for device in mesh.devices.flat],
        "processes": jax.process_count(),
        "mesh": dict(mesh.shape),
        "seed": config.seed,
        "parameters": sum(math.prod(x.shape) for x in jax.tree.leaves(abstract_params(run.model, mesh))),
        "data_fingerprint": data_fingerprint(run.task),
        "first_example": {"prompt": first.prompt, "answer": first.answer},
    }
    _write(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")


def data_fingerprint(task: Task, examples: int = 64) -> str:
    """A hash over the first examples of both splits: it changes where generator, data or seed do."""
    digest = hashlib.blake2b(digest_size=16)
    for split in ("train", "test"):
        for index in range(examples):
            example = task.example(split, index)
            digest.update(f"{example.prompt}\0{example.answer}\0{example.demonstration}\0".encode())
    return digest.hexdigest()


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, file)
