"""What a config needs on a TPU slice, before one is rented: memory, time, and the bill.

    for stage in plan(load_config("configs/r1_zero_qwen2.5-7b_math.yaml"), "v5p:2x2x1").stages:
        print(stage.name, stage.peak, stage.step_seconds)

The functions that training runs are compiled for the slice by the TPU compiler, which needs no TPU. Nothing else of the
run is needed, neither its data nor its weights: prompts are taken to have max_prompt_length tokens, and completions
max_completion_length, so that a real run takes less time, dynamic sampling aside, and no more memory.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from r1jax.config.base import ConfigError, user_errors
from r1jax.config.experiment import (
    Config,
    DistillStage,
    GrpoStage,
    RejectStage,
    RewardModelStage,
    SftStage,
    StageSettings,
    models_read,
)
from r1jax.config.model import ModelSettings
from r1jax.config.tasks import DataSet, MixtureTask
from r1jax.config.training import MeshSettings
from r1jax.huggingface.config import model_config
from r1jax.huggingface.folder import find_description
from r1jax.huggingface.published import PUBLISHED
from r1jax.models import ModelConfig, abstract_params, make_model
from r1jax.models.flops import forward_flops
from r1jax.parallel.jitted import Jitted
from r1jax.parallel.mesh import TRAIN_WEIGHTS, make_mesh, row_shards
from r1jax.planning.estimate import Estimate, bytes_on_device, estimate_of
from r1jax.planning.slices import Chip, find_slice, without_cache
from r1jax.programs import distill, grpo, reward_model, sft
from r1jax.programs.steps import is_due
from r1jax.rl.evaluation import WAITING, call_sizes
from r1jax.run.auto_mesh import auto_mesh
from r1jax.run.checks import mesh_problems
from r1jax.run.loading import describe
from r1jax.run.memory import cache_bytes, sequences_at_once
from r1jax.run.run import new_tokenizer
from r1jax.run.stages import StageTasks
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.sampling.reward_model import RewardModel
from r1jax.sampling.sampler import loop_trips
from r1jax.training.state import TrainState

COMPILERS = 4  # at once, each of which takes some GB of memory


@dataclass(frozen=True)
class Call:
    """A program that a step calls `times` times, with what is in memory beside its arguments."""

    name: str
    program: Jitted
    times: int = 1
    beside: Any = ()
    open_loops: tuple[int, ...] = ()


@dataclass(frozen=True)
class StagePlan:
    """What a stage needs: its programs with their estimates, and how often each is called, in a step and in all."""

    name: str
    steps: int
    state: dict[str, float]
    cache: float
    calls: dict[str, tuple[int, Estimate]]
    evaluations: int
    tokens: float
    model_flops: float
    chip: Chip

    @property
    def peak(self) -> float:
        """The most bytes on a chip at any time."""
        return max(estimate.peak for _, estimate in self.calls.values())

    @property
    def fits(self) -> bool:
        """Whether no program is refused by the compiler, or exceeds a chip's memory with what is beside it."""
        return self.peak <= self.chip.memory and all(estimate.fits for _, estimate in self.calls.values())

    @property
    def step_seconds(self) -> float:
        """Seconds of a step, without evaluation."""
        return sum(times * estimate.seconds for name, (times, estimate) in self.calls.items() if name != "evaluate")

    @property
    def hours(self) -> float:
        """Of all steps and evaluations."""
        evaluating = self.calls["evaluate"][1].seconds * self.evaluations if "evaluate" in self.calls else 0.0
        return (self.steps * self.step_seconds + evaluating) / 3600

    @property
    def mfu(self) -> float | None:
        """The model's FLOPs in a step's updates as a share of the chips' in that time; None without updates."""
        if not self.model_flops or not self.fits:
            return None
        times, update = self.calls["update"]
        return self.model_flops / (times * update.seconds * self.chip.flops)


@dataclass(frozen=True)
class Plan:
    """What a config's stages need on a slice; `dollars` are those of a chip for an hour, `reason` is why `mesh: auto`
    chose the mesh."""

    topology: str
    chip: Chip
    mesh: Mesh
    parameters: int
    stages: list[StagePlan]
    dollars: float
    reason: str = ""

    @property
    def fits(self) -> bool:
        return all(stage.fits for stage in self.stages)

    @property
    def hours(self) -> float:
        return sum(stage.hours for stage in self.stages)

    @property
    def axes(self) -> str:
        """The mesh, but for axes of one chip."""
        return " ".join(f"{axis}={size}" for axis, size in self.mesh.shape.items() if size > 1) or "one chip"


def plan(config: Config, topology: str, *, progress: Callable[[str], None] = lambda what: None) -> Plan:
    """Compiles every stage for a slice such as `v5p:4x4x8`. Raises ConfigError for what the slice or mesh refuses.

    `progress` is called with what is compiled next.
    """
    with user_errors():
        if not config.stages:
            raise ConfigError("stages: got none; a plan needs at least one")
        chip, devices = find_slice(topology)
        owners = dict.fromkeys([None, *(config.model_owner(stage.name) for stage in config.stages)])
        architectures = {owner: architecture(config.model_of(owner)) for owner in owners}
        vocabulary = architectures[None].vocab_size or _new_vocabulary(config)
        models = {
            owner: make_model(one, min(vocabulary, one.vocab_size or vocabulary))
            for owner, one in architectures.items()
        }
        if config.mesh.auto:
            mesh, reason = auto_mesh(config, [*models.values()], devices, chip.memory)
        else:
            mesh, reason = make_mesh(config.mesh, devices), ""
        tokenizer: Any = types.SimpleNamespace(stop_ids=(0,), size=vocabulary)
        stages = []
        for stage in config.stages:
            if problem := next(mesh_problems(stage, mesh, stage.max_prompt_length), None):
                raise ConfigError(f"stages.{stage.name}.{problem}")
            loaded = LoadedModel(models[config.model_owner(stage.name)], tokenizer, mesh, None)
            teacher = _teacher(config, stage, loaded) if isinstance(stage, DistillStage) else None
            with loaded.devices():
                read = [models[config.model_owner(name)] for name in dict.fromkeys(models_read(stage).values())]
                scorers = [abstract_params(model, mesh, with_head=True) for model in read]
                stages.append(_stage_plan(config, stage, loaded, scorers, teacher, chip, progress))
        parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(abstract_params(models[None], mesh)))
    dollars = config.dollars_per_chip_hour.get(topology.partition(":")[0], math.nan)
    return Plan(topology, chip, mesh, parameters, stages, dollars, reason)


def sweep(
    config: Config, topology: str, *, progress: Callable[[str], None] = lambda what: None
) -> tuple[list[Plan], list[str]]:
    """Plans of the slice's layouts of fsdp and tensor, the fastest that fit first; and why others are refused."""
    plans, refused = list[Plan](), list[str]()
    chips = len(find_slice(topology)[1])
    for tensor in (size for size in (1, 2, 4, 8) if chips % size == 0):
        mesh = MeshSettings(data=1, fsdp=chips // tensor, tensor=tensor)
        what = f"fsdp={chips // tensor} tensor={tensor}"
        try:
            layout = config.model_copy(update={"mesh": mesh})
            plans.append(plan(layout, topology, progress=lambda name, what=what: progress(f"{what}, {name}")))
        except ConfigError as error:
            refused.append(f"{what}: {error}")
    return sorted(plans, key=lambda plan: (not plan.fits, plan.hours)), refused


def architecture(settings: ModelSettings) -> ModelConfig:
    """The architecture of a model, for which its config.json is enough; published ones need no network."""
    if settings.path is None:
        return model_config(settings)
    if settings.path not in PUBLISHED or Path(settings.path).is_dir():
        return model_config(settings, find_description(settings.path))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(PUBLISHED[settings.path]))
        return model_config(settings, Path(folder))


def _new_vocabulary(config: Config) -> int:
    """How many tokens a run whose tokenizer is not a model's would have; characters are those of its tasks."""
    of_tasks = (config.tokenizer or "characters") == "characters"
    unread = RewardModel(lambda: None, 1.0)  # pyright: ignore[reportArgumentType] (its weights are never asked for)
    return new_tokenizer(config, StageTasks(config, {}, None, lambda _: unread).all_expected() if of_tasks else []).size


def _stage_plan(
    config: Config,
    stage: StageSettings,
    model: LoadedModel,
    scorers: Any,
    teacher: LoadedModel | None,
    chip: Chip,
    progress: Callable[[str], None],
) -> StagePlan:
    """`scorers` are the abstract weights of the reward models that are among the stage's rewards."""
    calls, mesh = {call.name: call for call in _calls(stage, model, teacher)}, model.mesh
    state: Any = (calls.get("update") or calls["cast"]).program.arguments[0]
    evaluations = 0
    if stage.makes_policy and stage.evaluate.problems != 0:
        beside = calls["rollout"].beside if "rollout" in calls else state
        trained = dataclasses.replace(model, weights=state.params)
        calls["evaluate"], evaluations = _evaluation(config, stage, trained, beside)

    def estimate(call: Call) -> tuple[int, Estimate]:
        progress(f"{stage.name}: {call.name}")
        where = teacher if teacher is not None and call.name.endswith("teacher") else model
        beside = call.beside, scorers
        with where.devices():
            return call.times, estimate_of(call.program, where.mesh, chip, beside=beside, open_loops=call.open_loops)

    with without_cache(), ThreadPoolExecutor(min(COMPILERS, len(os.sched_getaffinity(0)))) as pool:
        estimates = dict(zip(calls, pool.map(estimate, calls.values()), strict=True))
    P, G = stage.prompts_per_step, getattr(stage, "group_size", 0)
    S, T = stage.max_prompt_length, stage.max_completion_length
    rows, width, predicted = P * max(G, 1), S + T, T
    if isinstance(stage, SftStage):
        width = predicted = stage.pack_length or width
    if isinstance(stage, RewardModelStage):
        rows, predicted = P * _responses(stage), 0
    forward = forward_flops(model.model.config, positions=width, predicted=predicted) * rows / mesh.devices.size
    if isinstance(stage, GrpoStage) and stage.value is not None:
        forward += forward_flops(model.model.config, positions=width, predicted=0) * rows / mesh.devices.size
    return StagePlan(
        name=stage.name,
        steps=stage.steps,
        state=_parts(state),
        cache=cache_bytes(stage, model.model, model.mesh),
        calls=estimates,
        evaluations=evaluations,
        tokens=rows * (T if G else width),
        model_flops=0.0 if isinstance(stage, RejectStage) else 3 * forward,
        chip=chip,
    )


def _calls(stage: StageSettings, model: LoadedModel, teacher: LoadedModel | None) -> Iterator[Call]:
    """The programs of a step, in their order."""
    width, shards = stage.max_prompt_length, row_shards(model.mesh)
    if isinstance(stage, SftStage):
        yield Call("update", sft.functions(model, stage, width)["update"])
    elif isinstance(stage, RewardModelStage):
        yield Call("update", reward_model.functions(model, stage, responses=_responses(stage))["update"])
    elif isinstance(stage, RejectStage):
        weighted = dataclasses.replace(model, weights=abstract_params(model.model, model.mesh))
        rollout = weighted.rollout(
            stage,
            prompts=stage.prompts_per_step,
            width=width,
            group_size=stage.group_size,
            max_new=stage.max_completion_length,
        )
        yield Call("cast", weighted.cast(), times=0)  # once in the stage
        yield Call("rollout", rollout, beside=weighted.weights, open_loops=_rollout_trips(stage, shards))
    else:
        if isinstance(stage, GrpoStage):
            functions, others = grpo.functions(model, stage, width), [None, None]
        else:
            assert teacher is not None
            functions = distill.functions(model, teacher, stage, width, [*stage.reward_weights])
            others = [functions["teacher"].arguments[0], functions["update"].arguments[3]]  # its weights, its head
        state: TrainState = functions["update"].arguments[0]
        if teacher is not None:
            weighted = dataclasses.replace(teacher, weights=abstract_params(teacher.model, teacher.mesh))
            yield Call("load teacher", weighted.cast(TRAIN_WEIGHTS), times=0, beside=state)
        cast = dataclasses.replace(model, weights=state.params).cast()
        yield Call("cast", cast, beside=(dataclasses.replace(state, params=None), others))
        yield Call("rollout", functions["rollout"], beside=(state, others), open_loops=_rollout_trips(stage, shards))
        if isinstance(stage, GrpoStage):
            yield Call("prepare", functions["prepare"])
            yield Call("update", functions["update"], times=stage.minibatches)
        else:
            yield Call("teacher", functions["teacher"], beside=(state, others[1]))
            yield Call("update", functions["update"], beside=others[0])


def _rollout_trips(stage: GrpoStage | DistillStage | RejectStage, shards: int) -> tuple[int, ...]:
    rows = stage.prompts_per_step * stage.group_size // shards
    return loop_trips(rows, stage.decode_batch, stage.max_completion_length)


def _evaluation(config: Config, stage: Any, model: LoadedModel, beside: Any) -> tuple[Call, int]:
    """The sampler of the stage's evaluations, and how often all of them call it; 0 where that depends on the data."""
    settings, shards = stage.evaluate, row_shards(model.mesh)
    S, T, sequences = stage.max_prompt_length, stage.max_completion_length, sequences_at_once(config, stage, shards)
    problems = settings.problems or WAITING * sequences  # a whole call
    chunk, decode_batch = call_sizes(settings, problems, shards, sequences, S, T)
    settings = settings.model_copy(update={"decode_batch": decode_batch})
    rollout = model.rollout(settings, prompts=chunk, width=S, group_size=settings.samples, max_new=T)
    every = [stage.eval_every, *([stage.save_every] if stage.keep == "best" else [])]
    times = int(settings.before) + sum(
        any(is_due(step, n, stage.steps) for n in every) for step in range(1, stage.steps + 1)
    )
    trips = loop_trips(chunk * settings.samples // shards, decode_batch, T)
    call = Call("evaluate", rollout, beside=beside, open_loops=trips)
    return call, times * math.ceil(problems / chunk) if settings.problems else 0


def _teacher(config: Config, stage: DistillStage, model: LoadedModel) -> LoadedModel:
    """The teacher of a stage, without weights, on its own mesh over the same devices."""
    names = [other.name for other in config.stages]
    if stage.teacher == "base":
        settings = config.model
    elif stage.teacher in names:
        settings = config.model_of(stage.teacher)
    else:
        settings = ModelSettings(path=stage.teacher)
    own, mesh = model.model.config, model.mesh
    try:
        if stage.teacher_mesh is not None:
            mesh = make_mesh(stage.teacher_mesh, mesh.devices.flatten().tolist())
        is_run = (Path(stage.teacher) / "config.yaml").is_file()
        theirs = describe(stage.teacher)[0] if is_run else architecture(settings)
        theirs = dataclasses.replace(theirs, dtype=own.dtype, attention=own.attention, remat="none")
        return LoadedModel(make_model(theirs, model.model.vocabulary), model.tokenizer, mesh, None)
    except ValueError as error:
        raise ConfigError(f"stages.{stage.name}.teacher: {error}") from None


def _responses(stage: RewardModelStage) -> int:
    """How many responses an example has: 2 in pairs, or 1 with a label."""
    tables = [part.task for part in stage.task.mixture] if isinstance(stage.task, MixtureTask) else [stage.task]
    return 1 if any(isinstance(table, DataSet) and table.label is not None for table in tables) else 2


def _parts(state: Any) -> dict[str, float]:
    """Bytes on a chip of what a stage keeps from step to step: a TrainState, or weights alone."""
    if not isinstance(state, TrainState):
        return {"weights": bytes_on_device(state)}
    parts = {"weights": state.params, "optimizer": state.opt_state, "reference": state.reference, "value": state.value}
    return {name: bytes_on_device(part) for name, part in parts.items() if part is not None}
