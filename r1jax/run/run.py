"""A run to train: its folder, devices, model, stages and log.

    run = open_run(config)
    with contextlib.closing(run), run.devices():
        weights = run.stage_weights(run.stages[0])

A run folder holds config.yaml (resolved), manifest.json, model/ (config.json and tokenizer; also model-STAGE/ for a
stage with a model of its own), metrics.jsonl, completions/, data/, checkpoints/ and tensorboard/, and with
`decontaminate` the questions that were removed from each stage's data, in decontaminated/STAGE.jsonl.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from r1jax.config.base import ConfigError, RunStopped, user_errors
from r1jax.config.experiment import Config, RejectStage
from r1jax.config.load import dump_config
from r1jax.huggingface.config import model_config, write_description
from r1jax.huggingface.folder import find_model, find_tokenizer
from r1jax.huggingface.weights import import_params
from r1jax.models import Model, ModelConfig, abstract_params, init_params, make_model
from r1jax.models.splash import kernel_of
from r1jax.parallel.compile_cache import use_compile_cache
from r1jax.parallel.compile_guard import CompileGuard
from r1jax.parallel.mesh import make_mesh
from r1jax.parallel.processes import any_process, check_agreement, join_processes, wait_for_all
from r1jax.run.auto_mesh import auto_mesh, least_memory
from r1jax.run.changes import Changes, check_same_settings, find_changes
from r1jax.run.checks import (
    check_examples,
    check_judges,
    check_reward_models,
    check_stages,
    check_weights,
    warn_of_settings,
)
from r1jax.run.interrupt import Interrupted, StopSignals
from r1jax.run.loading import (
    MODEL_FOLDER,
    checked_model_folder,
    load_weights,
    model_folder,
    reward_model,
    saved_tokenizer,
)
from r1jax.run.lock import LOCK, locked
from r1jax.run.manifest import (
    MANIFEST,
    check_same_data,
    data_fingerprint,
    manifest,
    read_manifest,
    write_checksums,
)
from r1jax.run.metrics import RunLog, Timers, write_atomically
from r1jax.run.stages import StageRun, StageTasks, data_file, finished_parts, stage_runs
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.tasks import Mixture, Task
from r1jax.tasks.contamination import tables_of
from r1jax.text.tokenizer import CharacterTokenizer, Tokenizer, load_tokenizer
from r1jax.training.checkpoint import Checkpoints


@dataclass(frozen=True)
class Run:
    """Built by `build_run` or `open_run` and read by the programs; only what logs, counts or locks in it changes."""

    config: Config
    folder: Path
    mesh: Mesh
    tokenizer: Tokenizer
    model: Model
    stages: tuple[StageRun, ...]
    key: jax.Array
    log: RunLog
    timers: Timers
    guard: CompileGuard
    stop: StopSignals
    held: contextlib.ExitStack  # the lock of the folder

    @property
    def is_writer(self) -> bool:
        return jax.process_index() == 0  # one process writes: the first

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(math.prod(x.shape) for x in jax.tree.leaves(abstract_params(self.model, self.mesh)))

    def loaded(self, stage: StageRun, weights: Any) -> LoadedModel:
        """A stage's model with these weights."""
        return LoadedModel(stage.model, self.tokenizer, self.mesh, weights)

    def devices(self) -> contextlib.AbstractContextManager[None]:
        """Where the run's computations happen; see `LoadedModel.devices`."""
        return LoadedModel(self.model, self.tokenizer, self.mesh, None).devices()

    def checkpoints(self, stage: str) -> Checkpoints:
        """Those of a stage by its name."""
        scored = getattr(self.config.stage(stage), "keep", None) == "best"
        config, folder = self.config, self.folder / "checkpoints" / stage
        return Checkpoints(folder, config.keep_checkpoints, every=config.keep_every, scored=scored)

    def stage(self, name: str) -> StageRun:
        """The stage of this name."""
        return next(stage for stage in self.stages if stage.settings.name == name)

    def initial_weights(self, stage: StageRun | None = None) -> Any:
        """The model of a stage (None: the config's) before any training: pretrained, or random from the seed."""
        model = self.model if stage is None else stage.model
        abstract = abstract_params(model, self.mesh)
        if path := self.config.model_of(stage and stage.settings.name).path:
            return import_params(find_model(path), model.config, abstract)
        shardings = jax.tree.map(lambda x: x.sharding, abstract)  # no device ever holds all of a weight
        key = jax.random.fold_in(self.key, 0)
        return jax.jit(lambda key: init_params(model, key), out_shardings=shardings)(key)

    def stage_weights(self, stage: StageRun) -> Any:
        """What a stage begins with, as its `init_from` says, read from where it was saved."""
        source = self.config.source(stage.settings.name)
        if source == "base":
            return self.initial_weights(stage)
        if source in [other.settings.name for other in self.stages]:
            return load_weights(self.folder, source, stage.model, self.mesh)
        return load_weights(Path(source), None, stage.model, self.mesh)

    def finished_steps(self, stage: StageRun) -> int | None:
        """The steps that a stage has finished and saved; None where it has none."""
        if isinstance(stage.settings, RejectStage):
            return finished_parts(data_file(self.folder, stage.settings.name)) or None
        with self.checkpoints(stage.settings.name) as checkpoints:
            return checkpoints.latest()

    def list_removed(self, stage: StageRun) -> None:
        """Writes the questions that `decontaminate` removed from a stage's data, the same whenever the run resumes."""
        tables = tables_of(stage.batches.task)
        if self.is_writer and self.config.decontaminate and tables:
            rows = [json.dumps(row, ensure_ascii=False) + "\n" for table in tables for row in table.removed]
            text = "".join(rows).encode("utf-8", "backslashreplace")
            write_atomically(self.folder / "decontaminated" / f"{stage.settings.name}.jsonl", text)

    @property
    def attention(self) -> str:
        """How the stages' models attend in forwards without a cache."""
        return "; ".join(sorted({kernel_of(stage.model.config, self.mesh) for stage in self.stages}))

    @property
    def is_asked_to_end(self) -> bool:
        """Whether a signal came, or a program was compiled again with `recompilation: error`."""
        return self.stop.received is not None or bool(self.guard.reported and self.config.recompilation == "error")

    def end_if_asked(self) -> None:
        """Raises Interrupted or RunStopped where it is asked for. It is called where all that was done is saved."""
        if any_process(self.is_asked_to_end):
            line = f"{self.folder}: the same command resumes it from what is saved"
            if not any_process(self.stop.received is not None):
                reported = self.guard.reported or "another process compiled again"
                raise RunStopped(f"{reported} (recompilation: error). {line}")
            raise Interrupted(line, self.stop.received or signal.SIGTERM)

    def print(self, line: str) -> None:
        """Prints one line, on the first process alone."""
        if self.is_writer:
            print(line, flush=True)

    def close(self) -> None:
        """Closes the log, stops counting compilations and leaves the folder to others."""
        self.log.close()
        self.guard.close()
        self.held.close()


def build_run(
    config: Config,
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    data: Sequence[Mapping[str, Any]] | None = None,
    memory: float | None = None,
) -> Run:
    """A run in memory: nothing is written. Raises ConfigError for settings that do not fit task, tokenizer or devices.

    `functions` are Python functions by the names of the rewards that they are; see `rewards.function`. `data` are rows
    that replace every stage's task; see `tasks.table.rows_table`. `memory` is what `mesh: auto` counts with.
    """
    folder = Path(config.run_dir)
    with user_errors():
        use_compile_cache()
        join_processes(config.mesh)
        if not config.stages:
            raise ConfigError("stages: got none; training needs at least one")
        # A run that has begun has copies of its model's description and tokenizer. One of other settings lends nothing.
        begun = (folder / "config.yaml").is_file() and (folder / MODEL_FOLDER).is_dir()
        changes = find_changes(folder, config) if begun else Changes({}, {})
        begun = begun and not changes.refused
        owners = dict.fromkeys([None, *(config.model_owner(stage.name) for stage in config.stages)])
        described = {owner: begun and _is_described(folder, owner, changes) for owner in owners}
        folders = {owner: checked_model_folder(folder, owner) if described[owner] else None for owner in owners}
        architectures = {owner: model_config(config.model_of(owner), folders[owner]) for owner in owners}
        mesh = _make_mesh(config, architectures.values(), memory)
        tasks = StageTasks(config, functions or {}, data, functools.partial(reward_model, folder, mesh))
        tasks.check_names()
        tasks.decontaminate()
        tokenizer = saved_tokenizer(config, folder) if begun else new_tokenizer(config, tasks.all_expected())
        if begun and changes.accepted:
            _check_alphabet(tokenizer, tasks.all_expected(), folder)
        models = {owner: make_model(architecture, tokenizer.size) for owner, architecture in architectures.items()}
        for model in models.values():
            abstract_params(model, mesh)  # refuses a mesh that does not divide the weights
        run = Run(
            config=config,
            folder=folder,
            mesh=mesh,
            tokenizer=tokenizer,
            model=models[None],
            stages=tuple(stage_runs(config, tasks, tokenizer, models)),
            key=jax.random.key(config.seed),
            log=RunLog(folder, is_writer=jax.process_index() == 0, wandb_project=config.wandb_project),
            timers=Timers(),
            guard=CompileGuard(),
            stop=StopSignals(),
            held=contextlib.ExitStack(),
        )
        check_stages([stage.expected for stage in run.stages], mesh)
        warn_of_settings(run.stages)
        return run


def _make_mesh(config: Config, architectures: Iterable[ModelConfig], memory: float | None) -> Mesh:
    if not config.mesh.auto:
        return make_mesh(config.mesh)
    models = [make_model(one, one.vocab_size or 1) for one in architectures]  # a new tokenizer's is small
    mesh, reason = auto_mesh(config, models, jax.devices(), memory)
    if jax.process_index() == 0:
        print(reason, flush=True)
    return mesh


def open_run(config: Config, *, functions: Mapping[str, Callable[..., Any]] | None = None) -> Run:
    """`build_run`, then makes the run's folder or reopens it.

    Raises ConfigError before anything is written or compiled, in every process of the run. A folder that was started
    with other settings is refused, but for those of stages that have saved nothing yet.
    """
    with user_errors():
        join_processes(config.mesh)
        check_agreement({name: json.dumps(value) for name, value in config.model_dump(mode="json").items()})
        memory = least_memory(jax.devices()) if config.mesh.auto else None  # before a process may refuse
    refusal = checked = None
    try:
        checked = _checked_run(config, functions, memory)
    except ConfigError as error:
        refusal = error
    if any_process(refusal is not None):
        raise refusal or ConfigError("another process of the run refused it; what it printed says why")
    assert checked is not None
    run, changes, fingerprints = checked
    with user_errors():
        check_agreement({f"stages.{name}.task": fingerprint for name, fingerprint in fingerprints.items()})
        changed = check_same_data(run.folder, fingerprints, changes.begun)
        wait_for_all("settings")  # no process writes before all have looked
        with contextlib.ExitStack() as held:  # not any more where something fails
            if run.is_writer:
                held.enter_context(locked(run.folder))
                _describe(run, changes, fingerprints)
            run.held.push(held.pop_all())
        wait_for_all("folder")
        if any_process(not (run.folder / "config.yaml").is_file()):
            raise ConfigError(
                f"run_dir: not every process sees what the first one wrote into {run.folder}; give a folder on a file "
                f"system that all share"
            )
        for line in changes.lines():
            run.print(line)
        for name in changed:
            run.print(f"the data of stage {name}, which has saved nothing yet, changed")
    return run


def _checked_run(
    config: Config, functions: Mapping[str, Callable[..., Any]] | None, memory: float | None
) -> tuple[Run, Changes, dict[str, str]]:
    """The run in memory, what has changed since it began, and its data's fingerprints; a process does it by itself."""
    with user_errors():
        if jax.process_index() == 0 and (Path(config.run_dir) / LOCK).exists():
            with locked(Path(config.run_dir)):  # a folder in use is refused before data are read
                pass
    run = build_run(config, functions=functions, memory=memory)
    with user_errors():
        expected = [stage.expected for stage in run.stages]
        check_judges([stage.batches.task for stage in expected])
        check_examples(expected)
        check_reward_models(expected, config)
        changes = check_same_settings(run.folder, config)
        if changes.accepted or not (run.folder / "config.yaml").is_file():
            check_weights(run, run.stages[len(changes.begun) :])
        ready = [stage for stage in run.stages if not stage.waits_for]
        return run, changes, {stage.settings.name: data_fingerprint(stage.batches) for stage in ready}


def new_tokenizer(config: Config, tasks: list[Task | Mixture]) -> Tokenizer:
    """The config's tokenizer, else the pretrained model's."""
    source = config.tokenizer or config.model.path or "characters"
    if source == "characters":
        return load_tokenizer(source, _alphabet(tasks), config.stop)
    return load_tokenizer(find_tokenizer(source), (), config.stop)


def _alphabet(tasks: list[Task | Mixture]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(symbol for task in tasks for symbol in task.symbols))


def _check_alphabet(tokenizer: Tokenizer, tasks: list[Task | Mixture], folder: Path) -> None:
    """Raises ConfigError where tasks of changed stages would have given the run another alphabet."""
    if isinstance(tokenizer, CharacterTokenizer) and tokenizer.symbols != _alphabet(tasks):
        raise ConfigError(
            f"run_dir: the tokenizer in {folder} has the characters of the tasks that the run was started with, and "
            f"now they are others, or in another order; choose another folder with run_dir=..."
        )


def role_key(key: jax.Array, stage: int, step: int, role: str) -> jax.Array:
    """The key of one use of randomness: folded from the root by stage, step and role, never carried along."""
    for number in (stage + 1, step, ("rollout", "minibatches", "evaluate").index(role)):
        key = jax.random.fold_in(key, number)
    return key


def _is_described(folder: Path, owner: str | None, changes: Changes) -> bool:
    return model_folder(folder, owner).is_dir() and not changes.is_of(owner, "model")


def _describe(run: Run, changes: Changes, fingerprints: Mapping[str, str]) -> None:
    """Writes the resolved config, the model's description with its tokenizer, and the manifest; what has changed again.

    A description that is no longer right is away before the config changes, so that none is ever taken for another's.
    """
    folder, config = run.folder, run.config
    folder.mkdir(parents=True, exist_ok=True)
    longer = any(key.endswith(("max_prompt_length", "max_completion_length")) for key in changes.accepted)
    for owner in [None, *(stage.name for stage in config.stages)]:
        described = model_folder(folder, owner)
        stale = changes.is_of(owner, "model") or (longer and config.model_of(owner).path is None)
        if stale and described.is_dir():
            temporary = described.with_name(f"{described.name}.tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            described.rename(temporary)
    resolved, file = dump_config(config).encode(), folder / "config.yaml"
    if not file.is_file() or file.read_bytes() != resolved:
        write_atomically(file, resolved)
    for stage in [None, *run.stages]:
        owner = None if stage is None else config.model_owner(stage.settings.name)
        if (described := model_folder(folder, owner)).is_dir():
            continue
        # What using and exporting the run needs, even where the pretrained model's own folder is gone.
        temporary = described.with_name(f"{described.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)  # another model's description may be left there
        temporary.mkdir()
        positions = max(s.settings.max_prompt_length + s.settings.max_completion_length for s in run.stages)
        path, model = config.model_of(owner).path, run.model if stage is None else stage.model
        source = None if path is None else find_model(path)
        write_description(temporary, model.config, run.tokenizer, positions=positions, source=source)
        write_checksums(temporary)
        temporary.rename(described)
    for stage in run.stages:
        if not stage.waits_for:
            run.list_removed(stage)
    before = read_manifest(folder)
    if changes.accepted or before is None or before.get("data_fingerprints") != fingerprints:
        batches = {stage.settings.name: stage.batches for stage in run.stages if not stage.waits_for}
        facts = {"seed": config.seed, "parameters": run.parameters, "attention": run.attention}
        made = manifest(run.mesh, batches, fingerprints, facts)
        if before is not None:  # the rest is what the run began with
            made = before | {key: made[key] for key in ("data_fingerprints", "first_examples")}
        write_atomically(folder / MANIFEST, (json.dumps(made, indent=1) + "\n").encode())
