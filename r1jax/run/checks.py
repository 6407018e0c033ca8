"""What a run refuses before anything is compiled or written: stages that do not fit the devices, the task or the
lengths, and weights of another architecture."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jax.sharding import Mesh

from r1jax.config.base import ConfigError
from r1jax.config.experiment import (
    Config,
    DistillStage,
    GrpoStage,
    RejectStage,
    SftStage,
    StageSettings,
    models_read,
)
from r1jax.huggingface.folder import find_model
from r1jax.huggingface.weights import check_params
from r1jax.models import ModelConfig, abstract_params
from r1jax.parallel.mesh import make_mesh, row_shards
from r1jax.rewards.accuracy import no_gold
from r1jax.rewards.example import rewards_in
from r1jax.rewards.format import think_answer, think_text
from r1jax.rewards.judge import Judge
from r1jax.run.loading import describe
from r1jax.run.memory import memory_problem
from r1jax.run.stages import stage_errors
from r1jax.run.teacher import find_teacher, or_a_stage
from r1jax.tasks import Mixture, Task
from r1jax.tasks.stage_data import Awaited
from r1jax.text.prompt import make_prompt
from r1jax.text.tokenizer import check_same_tokens

if TYPE_CHECKING:
    from r1jax.run.run import Run
    from r1jax.run.stages import StageRun

FORMATS = ((think_answer, "<think>{0}</think><answer>{0}</answer>"), (think_text, "<think>{0}</think>{0}"))


def check_stages(stages: Sequence[StageRun], mesh: Mesh) -> None:
    """What the stages ask for must fit the mesh and their tasks. Raises ConfigError.

    Of a stage that waits for data its `expected` can be checked before any stage has run.
    """
    for stage in stages:
        where = f"stages.{stage.settings.name}"
        for problem in (*_problems(stage, mesh), memory_problem(stage, mesh)):
            if problem:
                raise ConfigError(f"{where}.{problem}")
        if isinstance(stage.settings, DistillStage) and stage.settings.teacher_mesh is not None:
            try:
                problem = next(_problems(stage, make_mesh(stage.settings.teacher_mesh)), None)
            except ConfigError as error:  # of its axes
                problem = error
            if problem:
                raise ConfigError(f"{where}.teacher_mesh: {problem}")


def warn_of_settings(stages: Sequence[StageRun]) -> None:
    """Warns of settings that will not do what they say."""
    for stage in stages:
        where = f"stages.{stage.settings.name}"
        if isinstance(stage.settings, RejectStage):
            continue
        longest = max(
            (other.settings.max_completion_length for other in stages if other.settings.name in stage.waits_for),
            default=0,
        )
        if isinstance(stage.settings, SftStage) and stage.settings.max_completion_length < longest:
            warnings.warn(
                f"{where}.max_completion_length: {stage.settings.max_completion_length}, and the completions that are "
                f"sampled for it have up to {longest} tokens; longer ones will be dropped",
                stacklevel=2,
            )
        warmup, updates = stage.settings.optimizer.warmup_updates, stage.settings.updates
        if warmup >= updates:
            warnings.warn(
                f"{where}.optimizer.warmup_updates: the learning rate rises for {warmup} updates, and the stage ends "
                f"after {updates}; give fewer, or more steps",
                stacklevel=2,
            )
        kl = stage.settings.kl if isinstance(stage.settings, GrpoStage) else None
        if kl and kl.coef == 0 and (kl.sync_reference_every is not None or kl.place == "reward"):
            warnings.warn(
                f"{where}.kl: coef is 0, so there is no KL, wherever it is placed, and no reference to sync",
                stacklevel=2,
            )


def _problems(stage: StageRun, mesh: Mesh) -> Iterator[str]:
    """What does not fit, with the key of the stage that it is about."""
    settings, batches = stage.settings, stage.batches
    key = {"grpo": "rewards", "distill": "rewards", "reject": "keep"}.get(settings.program)
    named = settings.keep if isinstance(settings, RejectStage) else settings.reward_weights
    if key and (unknown := sorted(named.keys() - batches.task.rewards)):
        yield f"{key}: no reward {unknown[0]!r}; there are {', '.join(batches.task.rewards)}"
    if settings.program == "distill":  # which only logs them
        key = None
    if key and isinstance(batches.task, Mixture):
        used = {name for name, value in named.items() if value or key == "keep"}
        for name, part in zip(batches.task.names, batches.task.parts, strict=True):
            if not used & part.rewards.keys():
                yield (
                    f"{key}: names {', '.join(sorted(used))}, and a part of task.mixture"
                    f"{'' if name is None else f' ({name})'} has {', '.join(part.rewards) or 'no rewards'}: name one "
                    f"of these with a {'least score' if key == 'keep' else 'weight'}, or leave the part out"
                )
    for name in (name for name, number in named.items() if key == "keep" or (key and number)):
        if any(task.rewards.get(name) is no_gold for task in batches.parts):
            yield (
                f"{key}: {name} compares with gold answers, and the task has none (task.answer is null); name their "
                f"column, reward what needs none, or in a mixture give the part rewards: {{{name}: null}}"
            )
    for key, top in {"top_k": getattr(settings, "top_k", None), "evaluate.top_k": settings.evaluate.top_k}.items():
        if (top or 0) > (size := batches.tokenizer.size):
            yield f"{key}: {top} is more than the {size} tokens of the vocabulary; give fewer, or null for all"
    yield from mesh_problems(settings, mesh, batches.width["train"])
    if isinstance(settings, RejectStage):
        return
    if settings.evaluate.problems is None and batches.size("test") is None:
        yield "evaluate.problems: null means all, and this task's problems have no end; give a number"
    prompt, completion, pack = batches.width["train"], settings.max_completion_length, settings.pack_length
    width, examples, prompts = prompt + completion, batches.size("train"), settings.prompts_per_step
    if expected := [part.most for part in batches.parts if isinstance(part, Awaited)]:
        examples = None if len(expected) < len(batches.parts) else sum(expected)
    if examples is not None and prompts > examples:
        yield (
            f"prompts_per_step: {prompts} prompts a step, and the task has {'at most ' if expected else ''}{examples} "
            f"to train on; give fewer, or more data"
        )
    if pack is not None and pack < width:
        yield (
            f"pack_length: rows of {pack} tokens cannot hold the longest prompt and completion, {prompt} + "
            f"{completion}; need at least {width}"
        )


def mesh_problems(settings: StageSettings, mesh: Mesh, prompt: int) -> Iterator[str]:
    """Which numbers of a stage, whose prompts have at most `prompt` tokens, the mesh does not divide."""
    shards, context, prompts = row_shards(mesh), mesh.shape["context"], settings.prompts_per_step
    if prompts % shards:
        yield (
            f"prompts_per_step: {prompts} prompts cannot be split over {shards} devices (data × fsdp × expert); need a "
            f"multiple of {shards}"
        )
    if isinstance(settings, RejectStage):
        return
    completion, pack = settings.max_completion_length, settings.pack_length
    if (prompt + completion) % context:
        yield (
            f"max_completion_length: {prompt} prompt positions + {completion} = {prompt + completion} cannot be split "
            f"over the {context} devices of mesh.context; need a multiple of {context}"
        )
    if pack is not None and pack % context:
        yield (
            f"pack_length: rows of {pack} cannot be split over the {context} devices of mesh.context; need a "
            f"multiple of {context}"
        )
    at_once = (settings.microbatch or 1) * shards
    if isinstance(settings, SftStage) and pack is not None:  # an update has as many rows as the examples fill
        if at_once > prompts:
            yield f"microbatch: {at_once} rows on {shards} devices, and a step has {prompts} examples; give fewer"
        return
    rows = prompts * getattr(settings, "group_size", 1) // getattr(settings, "minibatches", 1)
    if rows % shards:
        yield f"minibatches: an update of {rows} sequences is split over {shards} devices; need a multiple of {shards}"
    if rows % at_once:
        yield (
            f"microbatch: an update of {rows} sequences cannot be split into microbatches of {settings.microbatch} on "
            f"each of {shards} devices; need {rows} to be a multiple of their product"
        )


def check_examples(stages: Sequence[StageRun], at_most: int = 2048) -> None:
    """Looks at the first examples that each stage will use, so that limits that are too low are seen at once."""
    for stage in stages:
        with stage_errors(stage.settings.name):
            _check_examples(stage, at_most)


def _check_examples(stage: StageRun, at_most: int) -> None:
    settings, batches, first = stage.settings, stage.batches, stage.first_example
    problems = settings.evaluate.problems
    batches.prompts("test", 0, np.arange(at_most if problems is None else min(problems, at_most)))
    rows = np.arange(min(settings.steps * settings.prompts_per_step, at_most))
    if any(isinstance(part, Awaited) for part in batches.parts):  # of other parts alone
        rows = np.array([row for row in rows if not isinstance(batches.part("train", first + int(row)), Awaited)], int)
    if settings.program == "sft":
        batches.demonstrations(first, rows)
    elif settings.program == "reward_model":
        judged = batches.judged("train", first, rows)
        if len(rows) > 1 and batches.responses == 1 and len({each.label for each in judged}) == 1:
            raise ConfigError(
                f"task: all labels of its first {len(rows)} examples are {judged[0].label}; a reward model learns from "
                f"both kinds"
            )
        if (held_out := batches.size("test") or 32) < 32:
            warnings.warn(f"stages.{settings.name}: only {held_out} examples are held out to test on", stacklevel=2)
    else:
        batches.prompts("train", first, rows)
        if len(rows):
            _warn_of_format(stage, first + int(rows[0]))


def _warn_of_format(stage: StageRun, position: int) -> None:
    """Warns where prompts close `<think>` themselves, and where no completion can have the format that is rewarded."""
    settings, batches = stage.settings, stage.batches
    where, example = f"stages.{settings.name}", batches.example("train", position)
    if example.prompt.rstrip().endswith("</think>"):
        warnings.warn(
            f"{where}.prompt: prompts end in a closed <think>, so that completions have no reasoning; for a chat "
            f"template that asks, set prompt.chat_template_kwargs: {{enable_thinking: true}}",
            stacklevel=2,
        )
    asked = [text for reward, text in FORMATS if reward is batches.task.rewards.get("format")]
    if not asked or not settings.reward_weights.get("format"):
        return
    # The shortest text that has it, of a character that the task's answers have.
    ideal = asked[0].format(str(example.answer or "a")[0]).removeprefix("<think>" if example.prompt_opens_think else "")
    try:
        ids = batches.tokenizer.encode(ideal)
        if len(ids) >= settings.max_completion_length:
            raise ValueError(f"with a stop token these are {len(ids) + 1} tokens; raise max_completion_length")
        stops = [text for text in batches.tokenizer.stop_texts if text in ideal]
        if stops or {*batches.tokenizer.stop_ids} & {*ids}:
            raise ValueError("a stop token or text is in it")
    except ValueError as error:  # of a tokenizer of characters too
        warnings.warn(f"{where}.rewards: no completion can have the format {ideal}: {error}", stacklevel=2)


def check_reward_models(stages: Sequence[StageRun], config: Config) -> None:
    """The reward models of earlier stages must be able to read the first questions. Raises ConfigError."""
    for stage in stages:
        for reward, model in models_read(stage.settings).items():
            for position in range(stage.first_example, stage.first_example + stage.settings.prompts_per_step):
                try:
                    question = stage.batches.example("train", position).question
                    make_prompt(question, config.stage(model).prompt, stage.batches.tokenizer)
                except ValueError as error:
                    where = f"stages.{stage.settings.name}.rewards.{reward}"
                    raise ConfigError(f"{where}: the model of stage {model} cannot read a question: {error}") from None


def check_judges(tasks: Sequence[Task | Mixture]) -> None:
    """The models that are asked for rewards must answer. Raises ValueError."""
    for name, reward in dict.fromkeys(pair for task in tasks for pair in task.rewards.items()):
        for judge in rewards_in(reward):
            if isinstance(judge, Judge):
                try:
                    judge.check()
                except ValueError as error:
                    raise ValueError(f"rewards.{name}: {error}") from None


def check_weights(run: Run, stages: Sequence[StageRun]) -> None:
    """The weights that stages begin with, the run's own and those of other folders, must fit the model."""
    names = ["base", *(stage.settings.name for stage in run.stages)]
    for stage in stages:
        name, abstract, config = stage.settings.name, abstract_params(stage.model, run.mesh), stage.model.config
        if (source := run.config.source(name)) == "base" and (path := run.config.model_of(name).path):
            check_params(find_model(path), config, abstract)
            if run.config.model_owner(name) is not None:  # not the model that the run's tokenizer goes with
                try:
                    check_same_tokens(path, describe(path)[1], run.tokenizer)
                except ValueError as error:
                    raise ConfigError(f"stages.{name}.model: {error}") from None
        if isinstance(stage.settings, DistillStage):
            find_teacher(run, stage)
        try:
            if source in names[1:]:
                _check_same_model(f"stage {source}", run.stage(source).model.config, config)
            if source in names:
                continue
            if not (Path(source) / "config.yaml").is_file():
                check_params(find_model(source), config, abstract)
            model, tokenizer = describe(source)
            _check_same_model(source, model, config)
            check_same_tokens(source, tokenizer, run.tokenizer)
        except ValueError as error:
            raise ConfigError(f"stages.{name}.init_from: {error}{or_a_stage(run, stage, source)}") from None


def _check_same_model(source: str, theirs: ModelConfig, ours: ModelConfig) -> None:
    their, our = dataclasses.asdict(theirs), dataclasses.asdict(ours)
    for key in sorted(our.keys() - {"dtype", "remat", "attention"}):
        if our[key] != their[key]:
            way_out = "" if key == "vocab_size" else f"; give the stage the `model` that {source} has"
            raise ValueError(f"the model of {source} has {key}={their[key]}, this one {key}={our[key]}{way_out}")
