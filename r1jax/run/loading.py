"""Models that were trained or downloaded, ready to use: from a run folder, a Hugging Face folder or a hub id.

loaded = load_model("runs/quickstart")
loaded.model  # a LoadedModel; no task, data set or log is needed, and nothing is written
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from r1jax.config.base import ConfigError, user_errors
from r1jax.config.experiment import Config, RewardModelStage
from r1jax.config.load import load_config, parse_config
from r1jax.config.paths import expand
from r1jax.config.rewards import ModelReward
from r1jax.config.shared import Shared
from r1jax.config.tasks import sampled_task, stages_read
from r1jax.huggingface.config import model_config, read_config
from r1jax.huggingface.folder import CONFIG, find_model, find_tokenizer
from r1jax.huggingface.weights import import_params
from r1jax.models import Model, ModelConfig, abstract_params, make_model
from r1jax.parallel.compile_cache import use_compile_cache
from r1jax.parallel.mesh import make_mesh
from r1jax.parallel.processes import check_agreement, join_processes
from r1jax.run.manifest import check_checksums
from r1jax.run.stages import reading_of
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.sampling.reward_model import ROWS, RewardModel, Scorer
from r1jax.text.chat_template import read_chat_template
from r1jax.text.tokenizer import CharacterTokenizer, Tokenizer, load_tokenizer
from r1jax.training.checkpoint import Checkpoints

MODEL_FOLDER = "model"  # of a run folder: the model's config.json and tokenizer
FIXED = ("model", "tokenizer", "stages")  # settings that a trained model cannot have otherwise
LENGTH = 512  # of prompts and completions, where a model says nothing about them


@dataclass(frozen=True)
class Loaded:
    """A model with the settings to use it by.

    `config` has no stages: its top level is what the stage that trained the model had, with its changes. `name` is the
    stage and step, such as "rl-90", or the pretrained model's name. `folder` has its config.json and its tokenizer.
    """

    model: LoadedModel
    config: Config
    name: str
    folder: Path


def load_model(path: str, overrides: Sequence[str] = (), *, checkpoint: str | None = None) -> Loaded:
    """The model of a run folder, a Hugging Face folder or a hub id. Raises ConfigError where there is none.

    Of a run it is the last checkpoint, or the `checkpoint` named "STEP", "STAGE" or "STAGE-STEP". The mesh is all
    devices along data unless overridden, so that a run trained on a pod can be used anywhere.
    """
    path = expand("model", path)
    use_compile_cache()
    with user_errors():
        if (Path(path) / "config.yaml").is_file():
            return _load_run(Path(path), overrides, checkpoint)
        return _load_pretrained(path, overrides)


def _load_run(folder: Path, overrides: Sequence[str], checkpoint: str | None) -> Loaded:
    if fixed := [name for name in overrides if name.startswith(FIXED)]:
        raise ConfigError(f"{fixed[0]}: model, tokenizer and stages of a trained run are fixed; leave it out")
    trained = load_config(folder / "config.yaml")
    tree = trained.model_dump() | {"run_dir": str(folder), "mesh": {"data": -1}, "stages": [], "table": {}}
    # Looking for checkpoints asks for devices, and the processes have to be joined before that.
    join_processes(parse_config(tree, [o for o in overrides if o.startswith("mesh")]).mesh)
    check_agreement({"MODEL": str(folder), "KEY=VALUE": repr([*overrides]), "--step": str(checkpoint)})
    for other in trained.stages:
        if not other.makes_policy and checkpoint and other.name in (checkpoint, checkpoint.rpartition("-")[0]):
            raise ConfigError(f"{folder}: stage {other.name} ends with no model that writes text; name another stage")
    stage, step = find_checkpoint(folder, policies(trained), checkpoint)
    check_agreement({f"the checkpoint in {folder}": f"{stage}-{step}"})
    settings = trained.stage(stage)
    task = sampled_task(settings.task, lambda source: trained.stage(source).task)
    complete = settings.model_dump() | {"task": task.model_dump()}
    for source in stages_read(settings.task):  # whose rewards grade its data
        complete["rewards"] = trained.stage(source).model_dump()["rewards"] | complete["rewards"]
    config = parse_config(tree | {name: complete[name] for name in Shared.model_fields}, overrides)
    tokenizer = saved_tokenizer(config, folder)
    described = checked_model_folder(folder, trained.model_owner(stage))
    architecture = model_config(trained.model_of(stage), described)
    model, mesh = make_model(architecture, tokenizer.size), make_mesh(config.mesh)
    weights = _restore(folder, stage, step, model, mesh)
    config = config.model_copy(update={"model": trained.model_of(stage)})
    return Loaded(LoadedModel(model, tokenizer, mesh, weights), config, f"{stage}-{step}", described)


def _load_pretrained(path: str, overrides: Sequence[str]) -> Loaded:
    """A pretrained model, by default greedy, evaluated on all test problems, with its chat template if it has one."""
    parent = Path(path).parent
    if not Path(path).exists() and (parent.name == "runs" or (parent != Path() and parent.is_dir())):
        raise ConfigError(f"{path}: there is no such run and no such model folder; r1jax train CONFIG makes a run")
    folder = find_model(path)
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{path} is neither a run folder (no config.yaml) nor a model's (no config.json)")
    tree: dict[str, Any] = {
        "run_dir": f"evals/{folder.resolve().name if folder == Path(path) else path.replace('/', '--')}",
        "prompt": {"chat": read_chat_template(folder) is not None},
        "model": {"path": path},
        "max_prompt_length": LENGTH,
        "max_completion_length": LENGTH,
        "evaluate": {"problems": None, "temperature": 0.0},
    }
    join_processes(parse_config(tree, overrides).mesh)  # before a device is asked for
    check_agreement({"MODEL": path, "KEY=VALUE": repr([*overrides])})
    tree["model"] = {"path": path, "dtype": "float32" if jax.default_backend() == "cpu" else "bfloat16"}
    config = parse_config(tree, overrides)
    tokenizer = load_tokenizer(find_tokenizer(config.tokenizer) if config.tokenizer else folder, (), config.stop)
    mesh = make_mesh(config.mesh)
    model = make_model(model_config(config.model), tokenizer.size)
    weights = import_params(folder, model.config, abstract_params(model, mesh))
    return Loaded(LoadedModel(model, tokenizer, mesh, weights), config, Path(config.run_dir).name, folder)


def policies(config: Config) -> list[str]:
    """The stages that end with a model that writes text, by name."""
    return [stage.name for stage in config.stages if stage.makes_policy]


def saved_tokenizer(config: Config, folder: Path) -> Tokenizer:
    """The tokenizer in a run folder."""
    checked_model_folder(folder, None)
    if (config.tokenizer or config.model.path or "characters") == "characters":
        tokenizer: Tokenizer = CharacterTokenizer.load(folder / MODEL_FOLDER)
        tokenizer.stop_at(config.stop)
        return tokenizer
    return load_tokenizer(str(folder / MODEL_FOLDER), (), config.stop)


def model_folder(folder: Path, owner: str | None) -> Path:
    """Where a run folder describes the config's model (None), or that of a stage with its own."""
    return folder / (MODEL_FOLDER if owner is None else f"{MODEL_FOLDER}-{owner}")


def checked_model_folder(folder: Path, owner: str | None) -> Path:
    """The same. Raises ConfigError where its files are no more those that the run wrote."""
    check_checksums(described := model_folder(folder, owner))
    return described


def describe(path: str) -> tuple[ModelConfig, Tokenizer]:
    """The architecture and the tokenizer of a run's last checkpoint, of a Hugging Face folder or of a hub id."""
    folder = Path(path)
    if not (folder / "config.yaml").is_file():
        folder = find_model(path)
        return read_config(folder), load_tokenizer(str(folder), ())
    config = load_config(folder / "config.yaml")
    last, _ = find_checkpoint(folder, policies(config))
    described = checked_model_folder(folder, config.model_owner(last))
    return model_config(config.model_of(last), described), saved_tokenizer(config, folder)


def find_checkpoint(folder: Path, stages: Sequence[str], wanted: str | None = None) -> tuple[str, int]:
    """(stage, step) of the checkpoint that the last stage ends with, or the one named "STAGE", or by its step:
    "STAGE-STEP", or "STEP" of the last stage."""
    saved: dict[str, list[int]] = {}
    final: dict[str, int] = {}
    for stage in stages:
        if (folder / "checkpoints" / stage).is_dir():
            with Checkpoints(folder / "checkpoints" / stage) as checkpoints:
                if (step := checkpoints.final()) is not None:
                    saved[stage], final[stage] = checkpoints.steps(), step
    if not saved:
        raise ConfigError(f"{folder} has no checkpoint yet; train it with: r1jax train {folder / 'config.yaml'}")
    every = {f"{stage}-{step}": (stage, step) for stage, steps in saved.items() for step in steps}
    last, *_ = reversed(saved)
    named = every | {f"{step}": (last, step) for step in saved[last]} | {s: (s, step) for s, step in final.items()}
    if (wanted or last) not in named:
        raise ConfigError(f"{folder} has no checkpoint {wanted!r}; there are {', '.join(every)}")
    return named[wanted or last]


def load_weights(folder: Path, stage: str | None, model: Model, mesh: Mesh, *, checkpoint: str | None = None) -> Any:
    """Weights for `model` from a Hugging Face folder or hub id, or from a run folder: of a finished stage, or else its
    last ones, or those of a `checkpoint` by its name."""
    if (folder / "config.yaml").is_file():
        config = load_config(folder / "config.yaml")
        found = find_finished(folder, config, stage) if stage else find_checkpoint(folder, policies(config), checkpoint)
        return _restore(folder, *found, model, mesh)
    return import_params(find_model(str(folder)), model.config, abstract_params(model, mesh))


def find_finished(folder: Path, config: Config, stage: str) -> tuple[str, int]:
    """(stage, step) of the checkpoint that a finished stage ends with.

    Raises ConfigError where the one of its last step is gone, so that no earlier one takes its place.
    """
    found, steps = find_checkpoint(folder, [stage]), config.stage(stage).steps
    with Checkpoints(folder / "checkpoints" / stage) as checkpoints:
        if checkpoints.latest() != steps:
            raise ConfigError(
                f"{checkpoints.folder} has no checkpoint of step {steps}, the last one of stage {stage}, whose weights "
                f"are needed; delete what the stages after it have in checkpoints/ and data/ to run it and them again"
            )
    return found


def reward_model(folder: Path, mesh: Mesh, settings: ModelReward) -> RewardModel:
    """The reward that a stage of the run in a folder trained; its weights are read when it first scores."""

    def load() -> Scorer:
        config = load_config(folder / "config.yaml")
        stage = config.stage(settings.stage)
        assert isinstance(stage, RewardModelStage)
        tokenizer = saved_tokenizer(config, folder)
        described = checked_model_folder(folder, config.model_owner(stage.name))
        model = make_model(model_config(config.model_of(stage.name), described), tokenizer.size)
        weights = _restore(folder, *find_finished(folder, config, stage.name), model, mesh, with_head=True)
        loaded = LoadedModel(model, tokenizer, mesh, weights)
        return Scorer(loaded, reading_of(stage, tokenizer), 2 * stage.microbatch if stage.microbatch else ROWS)

    return RewardModel(load, settings.scale)


def _restore(folder: Path, stage: str, step: int, model: Model, mesh: Mesh, *, with_head: bool = False) -> Any:
    with Checkpoints(folder / "checkpoints" / stage) as checkpoints:
        return checkpoints.restore(step, {"params": abstract_params(model, mesh, with_head=with_head)})["params"]
