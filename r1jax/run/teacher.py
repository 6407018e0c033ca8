"""The teacher of a distill stage, on its own mesh: an earlier stage, a run's last checkpoint, or a pretrained model.

teacher = load_teacher(run, stage)
with teacher.devices():
    scores = score(teacher.weights, batch)
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from r1jax.config.base import ConfigError
from r1jax.config.experiment import DistillStage
from r1jax.config.load import load_config
from r1jax.huggingface.folder import find_model
from r1jax.huggingface.weights import check_params
from r1jax.models import ModelConfig, abstract_params, make_model
from r1jax.parallel.mesh import TRAIN_WEIGHTS, make_mesh
from r1jax.parallel.processes import wait_for_all
from r1jax.run.loading import describe, find_checkpoint, load_weights, policies
from r1jax.run.metrics import write_atomically
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.text.tokenizer import check_same_tokens

TEACHERS = "teachers.json"  # of a run folder: the checkpoints of other runs that its stages learn from

if TYPE_CHECKING:
    from r1jax.run.run import Run
    from r1jax.run.stages import StageRun


def find_teacher(run: Run, stage: StageRun) -> LoadedModel:
    """The teacher with abstract weights. Raises ConfigError where there is none, or one that does not fit."""
    settings = stage.settings
    assert isinstance(settings, DistillStage)
    try:
        mesh = run.mesh if settings.teacher_mesh is None else make_mesh(settings.teacher_mesh)
        own = stage.model.config
        config = _config(run, settings.teacher)
        config = dataclasses.replace(config, dtype=own.dtype, attention=own.attention, remat="none")
        model = make_model(config, run.tokenizer.size)
        abstract = abstract_params(model, mesh)
        path = run.config.model.path if settings.teacher == "base" else settings.teacher
        if path and not _is_run(path) and settings.teacher not in _stages(run):
            check_params(find_model(path), config, abstract)
    except ValueError as error:
        more = or_a_stage(run, stage, settings.teacher)
        raise ConfigError(f"stages.{settings.name}.teacher: {error}{more}") from None
    return LoadedModel(model, run.tokenizer, mesh, abstract)


def or_a_stage(run: Run, stage: StageRun, source: str) -> str:
    """What to add to an error of weights of a `source` that may be a misspelt name: the stages that could be meant."""
    earlier = [other.settings.name for other in run.stages[: stage.number] if other.settings.makes_policy]
    if not earlier or Path(source).exists() or source in ("base", *earlier):
        return ""
    return f"; the earlier stages with a policy are {', '.join(earlier)}"


def _config(run: Run, teacher: str) -> ModelConfig:
    if teacher == "base":
        return run.model.config
    if teacher in _stages(run):
        return run.stage(teacher).model.config
    config, theirs = describe(teacher)
    if theirs.size != run.tokenizer.size:
        raise ValueError(
            f"the tokenizer of {teacher} has {theirs.size} tokens and the run's {run.tokenizer.size}, and a divergence "
            f"compares the probabilities of the same tokens; take a teacher of the same vocabulary, or train on its "
            f"samples with program: sft"
        )
    check_same_tokens(teacher, theirs, run.tokenizer)
    return config


def _stages(run: Run) -> list[str]:
    return [stage.settings.name for stage in run.stages]


def _is_run(path: str) -> bool:
    return (Path(path) / "config.yaml").is_file()


def load_teacher(run: Run, stage: StageRun) -> LoadedModel:
    """The teacher with its weights, in the type that it computes in, split over its mesh as for training."""
    found, settings = find_teacher(run, stage), stage.settings
    assert isinstance(settings, DistillStage)
    if settings.teacher == "base":
        weights = dataclasses.replace(run, mesh=found.mesh).initial_weights()
    elif settings.teacher in _stages(run):
        weights = load_weights(run.folder, settings.teacher, found.model, found.mesh)
    else:
        folder = Path(settings.teacher)
        checkpoint = _same_checkpoint(run, stage, folder) if _is_run(settings.teacher) else None
        weights = load_weights(folder, None, found.model, found.mesh, checkpoint=checkpoint)
    return dataclasses.replace(
        found, weights=dataclasses.replace(found, weights=weights).sampling_weights(TRAIN_WEIGHTS)
    )


def _same_checkpoint(run: Run, stage: StageRun, folder: Path) -> str:
    """The last checkpoint of another run, or once this stage has saved something, the one that it began with."""
    file, key = run.folder / TEACHERS, f"{stage.settings.name}: {folder}"
    known = json.loads(file.read_text()) if file.is_file() else {}
    begun = known.get(key) if run.finished_steps(stage) else None
    name = "-".join(map(str, find_checkpoint(folder, policies(load_config(folder / "config.yaml")), begun)))
    wait_for_all("teacher")  # all have read it
    if run.is_writer and known.get(key) != name and (run.folder / "config.yaml").is_file():
        write_atomically(file, (json.dumps(known | {key: name}, indent=1) + "\n").encode())
    return name
