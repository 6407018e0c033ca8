"""A run to train: its folder, devices, model, stages and log.

    run = open_run(config)
    with contextlib.closing(run), run.devices():
        weights = run.initial_weights()

A run folder holds config.yaml (resolved), manifest.json, model/ (config.json and tokenizer), metrics.jsonl,
completions/, checkpoints/ and tensorboard/.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from r1jax.config.base import ConfigError, user_errors
from r1jax.config.experiment import Config, GrpoStage, SftStage
from r1jax.config.load import dump_config
from r1jax.data.batches import Batches
from r1jax.huggingface.config import model_config, write_description
from r1jax.huggingface.folder import find_model
from r1jax.huggingface.weights import import_params
from r1jax.models import Model, abstract_params, init_params, make_model
from r1jax.parallel.compile_guard import CompileGuard
from r1jax.parallel.mesh import join_processes, make_mesh
from r1jax.run.checks import changed_settings, check_examples, check_same_settings, check_stages, check_weights
from r1jax.run.loading import MODEL_FOLDER, load_weights, saved_tokenizer
from r1jax.run.manifest import manifest
from r1jax.run.metrics import RunLog, Timers, write_atomically
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.tasks import Mixture, Task, make_task
from r1jax.text.tokenizer import Tokenizer, load_tokenizer
from r1jax.training.checkpoint import Checkpoints


@dataclass(frozen=True)
class StageRun:
    """A stage of a run: its complete settings, its data, and the position of its first training example."""

    number: int
    settings: SftStage | GrpoStage
    batches: Batches
    first_example: int


@dataclass(frozen=True)
class Run:
    """Built by `build_run` or `open_run` and read by the programs; only the log, timers and guard in it change."""

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

    @property
    def is_writer(self) -> bool:
        """One process writes: the first."""
        return jax.process_index() == 0

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(math.prod(x.shape) for x in jax.tree.leaves(abstract_params(self.model, self.mesh)))

    @property
    def sequences_at_once(self) -> int:
        """As many as the largest stage has: whoever can train can evaluate."""
        stages = [stage.settings for stage in self.stages]
        return max(s.prompts_per_step * (s.group_size if isinstance(s, GrpoStage) else 1) for s in stages)

    def loaded(self, weights: Any) -> LoadedModel:
        """The model with these weights."""
        return LoadedModel(self.model, self.tokenizer, self.mesh, weights)

    def devices(self) -> contextlib.AbstractContextManager[None]:
        """Where the run's computations happen; see `LoadedModel.devices`."""
        return self.loaded(None).devices()

    def checkpoints(self, stage: str) -> Checkpoints:
        """Those of a stage by its name."""
        return Checkpoints(self.folder / "checkpoints" / stage, self.config.keep_checkpoints)

    def stage(self, name: str) -> StageRun:
        """The stage of this name."""
        return next(stage for stage in self.stages if stage.settings.name == name)

    def initial_weights(self) -> Any:
        """The weights of the pretrained model, or random ones from the seed, made in their shardings."""
        abstract = abstract_params(self.model, self.mesh)
        if path := self.config.model.path:
            return import_params(find_model(path), self.model.config, abstract)
        shardings = jax.tree.map(lambda x: x.sharding, abstract)
        key = jax.random.fold_in(self.key, 0)
        return jax.jit(lambda key: init_params(self.model, key), out_shardings=shardings)(key)

    def stage_weights(self, stage: StageRun) -> Any:
        """What a stage begins with, as its `init_from` says, read from where it was saved."""
        source = self.source(stage)
        if source == "base":
            return self.initial_weights()
        if source in [other.settings.name for other in self.stages]:
            return load_weights(self.folder, source, self.model, self.mesh)
        return load_weights(Path(source), None, self.model, self.mesh)

    def source(self, stage: StageRun) -> str:
        """Where a stage's weights come from: "base", the name of an earlier stage, or a path."""
        before = self.stages[stage.number - 1].settings.name if stage.number else "base"
        return stage.settings.init_from or before

    def print(self, line: str) -> None:
        """Prints one line, on the first process alone."""
        if self.is_writer:
            print(line, flush=True)

    def close(self) -> None:
        """Closes the log and stops counting compilations."""
        self.log.close()
        self.guard.close()


def build_run(
    config: Config,
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    data: Sequence[Mapping[str, Any]] | None = None,
) -> Run:
    """A run in memory: nothing is written. Raises ConfigError for settings that do not fit task, tokenizer or devices.

    `functions` are Python functions by the names of the rewards that they are; see `rewards.function`. `data` are rows
    that replace every stage's task; see `tasks.table.rows_table`.
    """
    folder = Path(config.run_dir)
    with user_errors():
        join_processes(config.mesh)
        if not config.stages:
            raise ConfigError("stages: got none; training needs at least one")
        # A run that has begun has copies of its model's description and tokenizer. One of other settings lends nothing.
        begun = (folder / "config.yaml").is_file() and (folder / MODEL_FOLDER).is_dir()
        begun = begun and not changed_settings(folder, config)
        architecture = model_config(config.model, folder / MODEL_FOLDER if begun else None)
        tasks = _tasks(config, functions or {}, data)
        tokenizer = saved_tokenizer(config, folder) if begun else _tokenizer(config, tasks)
        mesh = make_mesh(config.mesh)
        model = make_model(architecture, tokenizer.size)
        abstract_params(model, mesh)  # refuses a mesh that does not divide the weights
        run = Run(
            config=config,
            folder=folder,
            mesh=mesh,
            tokenizer=tokenizer,
            model=model,
            stages=tuple(_stage_runs(config, tasks, tokenizer)),
            key=jax.random.key(config.seed),
            log=RunLog(folder, is_writer=jax.process_index() == 0, wandb_project=config.wandb_project),
            timers=Timers(),
            guard=CompileGuard(),
        )
        check_stages(run.stages, mesh)
        return run


def open_run(config: Config, *, functions: Mapping[str, Callable[..., Any]] | None = None) -> Run:
    """`build_run`, then makes the run's folder or reopens it.

    Raises ConfigError before anything is written or compiled. A folder that was started with other settings is refused.
    """
    run = build_run(config, functions=functions)
    with user_errors():
        check_examples(run.stages)
        check_same_settings(run.folder, config)
        if not (run.folder / "config.yaml").is_file():
            check_weights(run)
        _wait_for_all("settings")  # no process writes before all have looked
        if run.is_writer:
            _describe(run)
        _wait_for_all("folder")
    return run


def _tasks(
    config: Config,
    functions: Mapping[str, Callable[..., Any]],
    data: Sequence[Mapping[str, Any]] | None,
) -> list[Task | Mixture]:
    """The task of each stage; stages whose tasks and rewards are the same share one."""
    made: dict[str, Task | Mixture] = {}
    tasks = []
    for stage in config.stages:
        definitions = {n: d.model_copy(update={"weight": None}) for n, d in stage.reward_definitions.items()}
        what = repr((stage.task, sorted(definitions.items()), stage.max_completion_length))
        if what not in made:
            made[what] = make_task(
                stage.task if data is None else data,
                config.seed,
                rewards={**definitions, **functions},
                max_completion_length=stage.max_completion_length,
            )
        if "accuracy" not in made[what].rewards:
            known = ", ".join(made[what].rewards)
            raise ConfigError(f"rewards: there are {known} and none named accuracy, which stages are evaluated by")
        tasks.append(made[what])
    known = dict.fromkeys(name for task in tasks for name in task.rewards)
    if unknown := [name for name in config.rewards if name not in known]:
        raise ConfigError(f"rewards: no task of a stage has the reward {unknown[0]!r}; there are {', '.join(known)}")
    return tasks


def _stage_runs(config: Config, tasks: list[Task | Mixture], tokenizer: Tokenizer) -> Iterator[StageRun]:
    """The stages with their data; stages that see the same data share it, and each begins where the last one ended."""
    made: dict[Any, Batches] = {}
    stages = config.stages
    data = [(id(task), stage.prompt, stage.max_prompt_length) for task, stage in zip(tasks, stages, strict=True)]
    for number, stage in enumerate(stages):
        if data[number] not in made:
            sharing = [other for what, other in zip(data, stages, strict=True) if what == data[number]]
            made[data[number]] = Batches(
                tasks[number],
                tokenizer,
                prompt=stage.prompt,
                seed=config.seed,
                max_prompt_length=stage.max_prompt_length,
                max_completion_length=stage.max_completion_length,
                needs_completions=any(other.program == "sft" for other in sharing),
            )
        before = [other.most_prompts for other in stages[:number] if other.task == stage.task]
        yield StageRun(number, stage, made[data[number]], sum(before))


def _tokenizer(config: Config, tasks: list[Task | Mixture]) -> Tokenizer:
    """The config's tokenizer, else the pretrained model's."""
    source = config.tokenizer or config.model.path or "characters"
    if source == "characters":
        return load_tokenizer(source, tuple(dict.fromkeys(symbol for task in tasks for symbol in task.symbols)))
    return load_tokenizer(source if Path(source).exists() else str(find_model(source)), ())


def role_key(key: jax.Array, stage: int, step: int, role: str) -> jax.Array:
    """The key of one use of randomness: folded from the root by stage, step and role, never carried along."""
    for number in (stage + 1, step, ("rollout", "minibatches", "evaluate").index(role)):
        key = jax.random.fold_in(key, number)
    return key


def _wait_for_all(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _describe(run: Run) -> None:
    """Writes the resolved config, the model's description with its tokenizer, and the manifest, once."""
    folder, config = run.folder, run.config
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.yaml").is_file():
        write_atomically(folder / "config.yaml", dump_config(config).encode())
    if not (folder / MODEL_FOLDER).is_dir():
        # What using and exporting the run needs, even where the pretrained model's own folder is gone.
        temporary = folder / f"{MODEL_FOLDER}.tmp"
        temporary.mkdir(exist_ok=True)
        positions = max(s.settings.max_prompt_length + s.settings.max_completion_length for s in run.stages)
        source = None if config.model.path is None else find_model(config.model.path)
        write_description(temporary, run.model.config, run.tokenizer, positions=positions, source=source)
        temporary.rename(folder / MODEL_FOLDER)
    if not (folder / "manifest.json").is_file():
        batches = {stage.settings.name: stage.batches for stage in run.stages}
        described = manifest(run.mesh, batches, seed=config.seed, parameters=run.parameters)
        write_atomically(folder / "manifest.json", (json.dumps(described, indent=1) + "\n").encode())
