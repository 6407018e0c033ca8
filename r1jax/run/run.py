"""What every program of a run shares: its folder, settings, devices, model, task and log.

A run folder holds config.yaml (resolved), manifest.json, metrics.jsonl, completions/, checkpoints/, tensorboard/.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from r1jax.config.base import ConfigError
from r1jax.config.experiment import Config, ModelConfig, Shared
from r1jax.config.load import dump_config, load_config, parse_config
from r1jax.config.tasks import TaskSettings
from r1jax.data.batches import Batches
from r1jax.huggingface.config import copy_description
from r1jax.huggingface.weights import check_params, find_model, import_params, resolve_model
from r1jax.models.transformer import Transformer
from r1jax.parallel.compile_guard import CompileWatch
from r1jax.parallel.mesh import SAMPLE_WEIGHTS, join_processes, make_mesh, weight_shardings
from r1jax.run.checks import check_examples, check_same_settings, check_stages
from r1jax.run.manifest import manifest
from r1jax.run.metrics import RunLog, Timers, write_whole
from r1jax.sampling.sampler import Samples, make_sampler
from r1jax.tasks import Mixture, Task, make_task
from r1jax.text.chat_template import read_chat_template
from r1jax.text.tokenizer import Tokenizer, load_tokenizer
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.state import abstract_params, init_params

MODEL_FOLDER = "model"  # of a run folder: a pretrained model's tokenizer and description


@dataclass(frozen=True)
class Run:
    """Built by `open_run`, read by the programs; nothing in it changes except the log and the clocks."""

    config: Config
    folder: Path
    mesh: Mesh
    tokenizer: Tokenizer
    task: Task | Mixture
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

    @property
    def settings(self) -> Shared:
        """Task, prompt, lengths and evaluation: those of the first stage."""
        return shared_settings(self.config)

    @property
    def platform(self) -> str:
        """cpu, gpu or tpu."""
        return self.mesh.devices.flat[0].platform

    @property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        return sum(math.prod(x.shape) for x in jax.tree.leaves(abstract_params(self.model, self.mesh)))

    def say(self, line: str) -> None:
        """One line to the console, by the first process."""
        if self.is_writer:
            print(line, flush=True)

    def first_example(self, number: int) -> int:
        """The index of the training example that stage `number` begins with: each goes on where the last one ended."""
        return sum(stage.most_prompts for stage in self.config.stages[:number])

    def close(self) -> None:
        """Closes the log and stops counting compilations."""
        self.log.close()
        self.watch.close()

    def checkpoints(self, stage: str) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoints" / stage, self.config.keep_checkpoints)

    def sampler(
        self, *, group_size: int, temperature: float, top_k: int | None = None, top_p: float = 1.0
    ) -> Callable[..., Samples]:
        """The jitted sampler for this run's model, lengths and stop ids; see `sampler.make_sampler`."""
        return make_sampler(
            self.model,  # pyright: ignore[reportArgumentType] (a Linen module is hashable where its fields are)
            self.mesh,
            stop_ids=self.tokenizer.stop_ids,
            group_size=group_size,
            max_new=self.settings.max_completion_length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )

    def sampling_weights(self, params: Any) -> Any:
        """Weights moved from where training wants them to where decoding does, in the type that they are used in."""
        shardings = weight_shardings(self.mesh, params, SAMPLE_WEIGHTS)
        return jax.jit(_cast, static_argnums=1, out_shardings=shardings)(params, self.config.model.dtype)

    def initial_weights(self) -> Any:
        """The pretrained model's weights, or random ones from the seed, made in their shardings."""
        abstract = abstract_params(self.model, self.mesh)
        if source := _described(self.config).path:
            return import_params(find_model(source), abstract, _described(self.config).vocab_size)
        shardings = jax.tree.map(lambda x: x.sharding, abstract)
        key = jax.random.fold_in(self.key, 0)
        return jax.jit(lambda key: init_params(self.model, key), out_shardings=shardings)(key)


def _cast(params: Any, dtype: str) -> Any:
    """What a forward would do to each weight at every token: all in `dtype` but the norms' scales, which stay."""
    return jax.tree.map_with_path(lambda path, w: w if path[-1].key.startswith("scale") else w.astype(dtype), params)


def open_run(config: Config, *, strict_compiles: bool = False) -> Run:
    """A run to train: checks the settings against task, tokenizer and devices, then makes or reopens its folder.

    Raises ConfigError before anything is written or compiled. A folder that was started with other settings is refused.
    """
    with user_errors():
        run = _build(resolve_model(config), strict=strict_compiles, training=True)
        check_stages(run.config, run.task, run.batches, run.mesh)
        check_examples(run.config, run.batches)
        check_same_settings(run.folder, run.config)
        source = _described(run.config).path
        if source is not None and not (run.folder / "config.yaml").is_file():
            abstract = abstract_params(run.model, run.mesh)
            check_params(find_model(source), abstract, _described(run.config).vocab_size)
        _wait_for_all("settings")  # no process writes before all have looked
        if run.is_writer:
            _describe(run)
        _wait_for_all("folder")
    return run


def load_model(path: str, overrides: Sequence[str] = (), task: Mapping[str, Any] | None = None) -> tuple[Run, Any, str]:
    """A trained run or a pretrained model, to be used: (run, its weights, a name for them). Writes nothing.

    `path` is a run folder, a Hugging Face folder or a hub id; `task` replaces the run's own.
    """
    with user_errors():
        if (Path(path) / "config.yaml").is_file():
            return load_run(Path(path), overrides, task)
        return load_pretrained(path, overrides, task)


def load_run(
    folder: Path, overrides: Sequence[str] = (), task: Mapping[str, Any] | None = None
) -> tuple[Run, Any, str]:
    """A run that has been trained: (run, its last weights, "STAGE-STEP").

    Its mesh is all devices along data unless overridden: a run trained on a pod can be used anywhere. Its tokenizer
    stays that of its own task.
    """
    file = folder / "config.yaml"
    fixed = [name for name in overrides if name.startswith(("model", "tokenizer", "stages"))]
    if fixed:
        raise ConfigError(f"{fixed[0]}: a trained run's model, tokenizer and stages are what they are; leave it out")
    own = shared_settings(load_config(file)).task
    replaced = {} if task is None else {"task": task}
    config = load_config(file, ["mesh={data: -1}", *overrides], replaced)
    config = config.model_copy(update={"run_dir": str(folder)})
    run = _build(config, tokenizer_task=own)
    for stage in reversed(config.stages):
        if not (folder / "checkpoints" / stage.name).is_dir():
            continue
        with run.checkpoints(stage.name) as checkpoints:
            step = checkpoints.latest()
            if step is not None:
                params = checkpoints.restore(step, {"params": abstract_params(run.model, run.mesh)})["params"]
                return run, params, f"{stage.name}-{step}"
    raise ConfigError(f"{folder} has no checkpoint yet; go on with: r1jax train {file}")


def load_pretrained(
    path: str, overrides: Sequence[str] = (), task: Mapping[str, Any] | None = None
) -> tuple[Run, Any, str]:
    """A pretrained model as it is: (run, its weights, its name). Greedy, all test problems, chat where it can."""
    folder = find_model(path)
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{path} is neither a run folder (no config.yaml) nor a model's (no config.json)")
    tree = {
        "run_dir": f"evals/{folder.resolve().name if folder == Path(path) else path.replace('/', '--')}",
        "task": task or {"name": "arithmetic"},  # sampling and chat use none
        "prompt": {"chat": read_chat_template(folder) is not None},
        "model": {"path": path},
        "max_prompt_length": 512,
        "max_completion_length": 512,
        "evaluate": {"problems": None, "temperature": 0.0},
    }
    join_processes(parse_config(copy.deepcopy(tree), overrides).mesh)  # before a device is asked for
    tree["model"]["dtype"] = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    run = _build(resolve_model(parse_config(tree, overrides)))
    return run, run.initial_weights(), run.folder.name


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


def _build(
    config: Config, *, strict: bool = False, training: bool = False, tokenizer_task: TaskSettings | None = None
) -> Run:
    join_processes(config.mesh)
    shared = shared_settings(config)
    task = make_task(
        shared.task,
        config.seed,
        rewards=shared.reward_definitions,
        max_completion_length=shared.max_completion_length,
    )
    named = task if tokenizer_task in (None, shared.task) else make_task(tokenizer_task, config.seed)
    tokenizer = _tokenizer(config, named.symbols)
    if "accuracy" not in task.rewards:
        raise ConfigError(f"rewards: there are {', '.join(task.rewards)} and none named accuracy, to be evaluated by")
    mesh = make_mesh(config.mesh)
    model = Transformer(_described(config), tokenizer.size)
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
            prompt=shared.prompt,
            seed=config.seed,
            max_prompt_length=shared.max_prompt_length,
            max_completion_length=shared.max_completion_length,
            needs_completions=training and any(stage.program == "sft" for stage in config.stages),
        ),
        model=model,
        key=jax.random.key(config.seed),
        log=RunLog(
            Path(config.run_dir),
            is_writer=jax.process_index() == 0,
            wandb_project=config.log.wandb_project,
        ),
        timers=Timers(),
        watch=CompileWatch(strict=strict),
    )


def shared_settings(config: Config) -> Shared:
    """The first stage's settings, or the top level's where there is no stage."""
    return config.stage(0) if config.stages else config


def _described(config: Config) -> ModelConfig:
    if not isinstance(config.model, ModelConfig):
        raise TypeError("resolve_model comes first")
    return config.model


def _tokenizer(config: Config, symbols: Sequence[str]) -> Tokenizer:
    """The config's tokenizer; of a run with a pretrained model, the copy in its folder, where there is one."""
    source, kept = config.tokenizer or "characters", Path(config.run_dir) / MODEL_FOLDER
    if source == "characters":
        tokenizer = load_tokenizer(source, None, symbols)
    else:
        path = str(kept) if kept.is_dir() else source if Path(source).exists() else str(find_model(source))
        tokenizer = load_tokenizer("sentencepiece" if path.endswith(".model") else "huggingface", path, symbols)
    rows = _described(config).vocab_size
    if rows is not None and tokenizer.size > rows:
        raise ConfigError(
            f"tokenizer: it has ids up to {tokenizer.size - 1} and the model's embedding {rows} rows; "
            f"give the tokenizer that came with the model"
        )
    return tokenizer


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
    watched = ("loss", "grad_norm", "param_norm", "value/loss", "value/grad_norm", "value/param_norm")
    bad = [name for name in watched if not math.isfinite(metrics.get(name, 0.0))]
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


def _describe(run: Run) -> None:
    """Writes the resolved config and the manifest, once."""
    folder, config = run.folder, run.config
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.yaml").is_file():
        write_whole(folder / "config.yaml", dump_config(config).encode())
    source = _described(config).path
    if source is not None and not (folder / MODEL_FOLDER).is_dir():
        # What using and exporting the run will need, even where the pretrained model is not.
        temporary = folder / f"{MODEL_FOLDER}.tmp"
        temporary.mkdir(exist_ok=True)
        copy_description(find_model(source), temporary)
        run.tokenizer.save(temporary)
        temporary.rename(folder / MODEL_FOLDER)
    if not (folder / "manifest.json").is_file():
        described = manifest(run.mesh, run.batches, seed=config.seed, parameters=run.parameters)
        write_whole(folder / "manifest.json", (json.dumps(described, indent=1) + "\n").encode())
