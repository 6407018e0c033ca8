"""The stages of a run, each with its settings, its model and its data.

stages = stage_runs(config, StageTasks(config, {}, None, reward_model), tokenizer, {None: model})
"""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r1jax.config.base import ConfigError
from r1jax.config.experiment import Config, RejectStage, RewardModelStage, StageSettings
from r1jax.config.rewards import ModelReward, RewardSettings
from r1jax.config.tasks import DataSet, MixtureTask, StageTask, TaskSettings, stages_read
from r1jax.data.batches import Batches
from r1jax.models import Model
from r1jax.rewards.example import Reward
from r1jax.rewards.reading import Reading
from r1jax.tasks import Mixture, Task, make_task
from r1jax.tasks.contamination import Contamination, evaluation_questions, question_text, tables_of
from r1jax.tasks.stage_data import Awaited, awaited, stage_data
from r1jax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class StageRun:
    """A stage of a run: its complete settings, its model, and the position of its first training example."""

    number: int
    settings: StageSettings
    model: Model
    first_example: int
    make_batches: Callable[[], Batches]
    make_expected: Callable[[], Batches]

    @property
    def waits_for(self) -> list[str]:
        """The earlier stages whose data it trains on, so that its own exists only after them."""
        return stages_read(self.settings.task)

    @functools.cached_property
    def batches(self) -> Batches:
        """Its data, made when first asked for; stages that see the same data share it."""
        with stage_errors(self.settings.name):
            return self.make_batches()

    @property
    def expected(self) -> StageRun:
        """The same stage with data to check it by: the task that will be sampled on, for what it waits for."""
        return replace(self, make_batches=self.make_expected) if self.waits_for else self


class StageTasks:
    """The tasks of a config's stages by their names; stages whose tasks and rewards are the same share one."""

    def __init__(
        self,
        config: Config,
        functions: Mapping[str, Callable[..., Any]],
        data: Sequence[Mapping[str, Any]] | None,
        reward_model: Callable[[ModelReward], Reward],
    ) -> None:
        self.config, self.functions, self.data = config, functions, data
        self._make_reward_model, self._reward_models = reward_model, dict[str, Reward]()
        self._made, self._expected = dict[str, Task | Mixture](), dict[str, Task | Mixture]()
        self._contamination = Contamination({})

    def reward_model(self, settings: ModelReward) -> Reward:
        """The reward of these settings, one for all tasks, so that the model is loaded once."""
        if (what := repr(settings)) not in self._reward_models:
            self._reward_models[what] = self._make_reward_model(settings)
        return self._reward_models[what]

    def __call__(self, name: str) -> Task | Mixture:
        stage = self.config.stage(name)
        if (what := task_key(stage)) not in self._made:
            self._made[what] = self._make(
                stage, lambda task: stage_data(self._file(task.stage), self(task.stage), task.pass_rate)
            )
            self._contamination.clean(self._made[what], name)
        return self._made[what]

    def expected(self, name: str) -> Task | Mixture:
        """The task of a stage before any stage has run, with what stands for data that it waits for."""
        stage = self.config.stage(name)
        if not stages_read(stage.task):
            return self(name)
        if (what := task_key(stage)) not in self._expected:
            with warnings.catch_warnings(action="ignore"):  # they are given when the stage has its data
                self._expected[what] = self._make(stage, self._awaited)
        return self._expected[what]

    def _awaited(self, task: StageTask) -> Awaited | Mixture:
        source = self.config.stage(task.stage)
        assert isinstance(source, RejectStage)
        a_prompt = 1 if task.pass_rate is not None else source.keep_per_prompt or source.group_size
        return awaited(self.expected(task.stage), source.most_prompts * min(a_prompt, source.group_size))

    def _file(self, stage: str) -> Path:
        return data_file(Path(self.config.run_dir), stage)

    def _make(self, stage: StageSettings, data: Callable[[StageTask], Task | Mixture]) -> Task | Mixture:
        with stage_errors(stage.name):
            if isinstance(stage, RewardModelStage):
                _check_judged(stage.task)
            task = make_task(
                stage.task if self.data is None or stages_read(stage.task) else self.data,
                self.config.seed,
                rewards={**_definitions(stage), **self.functions},
                max_completion_length=stage.max_completion_length,
                stage_data=data,
                reward_model=self.reward_model,
            )
            if "accuracy" not in task.rewards:
                raise ConfigError(
                    f"rewards: there are {', '.join(task.rewards)} and none named accuracy, which stages are evaluated "
                    f"by"
                )
        return task

    def ready(self) -> list[Task | Mixture]:
        """Those that do not wait for an earlier stage's data, in the order of their stages."""
        return [self(stage.name) for stage in self.config.stages if not stages_read(stage.task)]

    def all_expected(self) -> list[Task | Mixture]:
        """Those that are ready, and then what stands for those that wait."""
        return [*self.ready(), *(self.expected(stage.name) for stage in self.config.stages if stages_read(stage.task))]

    def decontaminate(self) -> None:
        """Removes training questions that are in the config's evaluation sets, also from tasks that are made later."""
        self.ready()
        sets: dict[str, list[str]] = {}
        for data in self.config.decontaminate:
            name, questions = ("test", self._test_questions()) if data == "test" else evaluation_questions(data)
            sets.setdefault(name, []).extend(questions)
        self._contamination = Contamination(sets)
        first = {task_key(stage): stage.name for stage in reversed(self.config.stages)}
        for what, task in self._made.items():
            self._contamination.clean(task, first[what])

    def _test_questions(self) -> Iterator[str]:
        """Those of the stages' data sets; of stages that wait for others too."""
        tables = [table for task in self.all_expected() for table in tables_of(task)]
        return (question_text(example) for table in tables for example in table.examples["test"])

    def check_names(self) -> None:
        """Raises ConfigError for a reward that no task has, at the top level or null in a part of a mixture."""
        known = dict.fromkeys(name for task in self.all_expected() for name in task.rewards)
        if unknown := [name for name in self.config.rewards if name not in known]:
            raise ConfigError(
                f"rewards: no task of a stage has the reward {unknown[0]!r}; there are {', '.join(known)}"
            )
        parts = [part for stage in self.config.stages for part in getattr(stage.task, "mixture", ())]
        known |= dict.fromkeys(["accuracy", "format", *(n for s in self.config.stages for n in s.reward_definitions)])
        if unknown := [n for part in parts for n, reward in part.rewards.items() if reward is None and n not in known]:
            raise ConfigError(
                f"task.mixture: a part is to lack the reward {unknown[0]!r}, which none would have; there are "
                f"{', '.join(sorted(known))}"
            )


def _check_judged(task: TaskSettings) -> None:
    """Raises ConfigError for a data set of which a reward model stage names no columns of judged responses."""
    for table in (part.task for part in task.mixture) if isinstance(task, MixtureTask) else (task,):
        if isinstance(table, DataSet) and not table.is_for_reward_models and not {"chosen", "label"} & {*table.columns}:
            raise ConfigError(
                "task: a reward model is trained on pairs or on labels; name the columns of pairs in task.chosen and "
                "task.rejected, or those of labelled responses in task.response and task.label"
            )


@contextlib.contextmanager
def stage_errors(stage: str) -> Iterator[None]:
    """Makes a ConfigError that names the stage of what its data is refused for."""
    try:
        yield
    except ValueError as error:
        text, where = str(error), f"stages.{stage}."
        if re.match(r"stages\.|decontaminate:|data, row", text):
            where = ""
        elif not re.match(r"(task|rewards|prompt|evaluate)[.:]", text):
            where += "task: "
        raise ConfigError(where + text) from None


def task_key(stage: StageSettings) -> str:
    """What two stages of the same task have in common."""
    return repr((stage.task, sorted(_definitions(stage).items()), stage.max_completion_length))


def data_key(stage: StageSettings) -> Any:
    """What two stages have in common that see the same data in the same form."""
    reads = stage.reads if isinstance(stage, RewardModelStage) else None
    return task_key(stage), repr(stage.prompt), stage.max_prompt_length, reads


def needs_completions(stage: StageSettings, config: Config) -> bool:
    """Whether examples without a demonstration are left out, as sft needs it, for all stages of the same data."""
    return any(other.program == "sft" for other in config.stages if data_key(other) == data_key(stage))


def _definitions(stage: StageSettings) -> dict[str, RewardSettings]:
    """The rewards that are defined in the config, without their weights, which make no other task."""
    return {name: entry.model_copy(update={"weight": None}) for name, entry in stage.reward_definitions.items()}


def stage_runs(
    config: Config, tasks: StageTasks, tokenizer: Tokenizer, models: Mapping[str | None, Model]
) -> Iterator[StageRun]:
    """The stages in order; each begins with its data where the last one of the same task ended.

    `models` are those of the config (None) and of the stages that have one of their own.
    """
    made: dict[Any, Batches] = {}

    def batches(stage: StageSettings, *, expected: bool = False) -> Batches:
        if (key := (data_key(stage), expected)) not in made:
            with warnings.catch_warnings(action="ignore") if expected else contextlib.nullcontext():
                made[key] = Batches(
                    tasks.expected(stage.name) if expected else tasks(stage.name),
                    tokenizer,
                    prompt=stage.prompt,
                    seed=config.seed,
                    max_prompt_length=stage.max_prompt_length,
                    max_completion_length=stage.max_completion_length,
                    reading=reading_of(stage, tokenizer) if isinstance(stage, RewardModelStage) else None,
                    needs_completions=needs_completions(stage, config),
                    least_width=batches(stage, expected=True).width if stages_read(stage.task) and not expected else {},
                )
        return made[key]

    for number, stage in enumerate(config.stages):
        before = sum(other.most_prompts for other in config.stages[:number] if other.task == stage.task)
        model = models[config.model_owner(stage.name)]
        make = functools.partial(batches, stage)
        yield StageRun(number, stage, model, before, make, functools.partial(make, expected=True))


def reading_of(stage: RewardModelStage, tokenizer: Tokenizer) -> Reading:
    """How the model of a stage reads responses."""
    return Reading(
        tokenizer,
        stage.prompt,
        reads=stage.reads,
        max_prompt_length=stage.max_prompt_length,
        max_completion_length=stage.max_completion_length,
    )


def data_file(folder: Path, stage: str) -> Path:
    """Where a run folder has what a `reject` stage kept."""
    return folder / "data" / f"{stage}.jsonl"


def finished_parts(file: Path) -> int:
    """How many steps of a `reject` stage have written their part of its data; all were written in order."""
    return len(list(file.with_suffix("").glob("??????-0.jsonl")))
