"""The stages of a run, each with its settings, its model and its data.

stages = stage_runs(config, StageTasks(config, {}, None, reward_model), tokenizer, {None: model})
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1jax.config.base import ConfigError, user_errors
from r1jax.config.experiment import Config, RejectStage, RewardModelStage, StageSettings
from r1jax.config.rewards import ModelReward, RewardSettings
from r1jax.config.tasks import DataSet, MixtureTask, StageTask, stages_read
from r1jax.data.batches import Batches
from r1jax.models import Model
from r1jax.rewards.example import Reward
from r1jax.rewards.reading import Reading
from r1jax.tasks import Mixture, Task, make_task
from r1jax.tasks.contamination import Contamination, evaluation_questions, question_text, tables_of
from r1jax.tasks.stage_data import stage_data
from r1jax.tasks.table import read_table
from r1jax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class StageRun:
    """A stage of a run: its complete settings, its model, and the position of its first training example."""

    number: int
    settings: StageSettings
    model: Model
    first_example: int
    make_batches: Callable[[], Batches]

    @property
    def waits_for(self) -> list[str]:
        """The earlier stages whose data it trains on, so that its own exists only after them."""
        return stages_read(self.settings.task)

    @functools.cached_property
    def batches(self) -> Batches:
        """Its data, made when first asked for; stages that see the same data share it."""
        with user_errors():
            return self.make_batches()


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
        self._made: dict[str, Task | Mixture] = {}
        self._contamination = Contamination({})

    def reward_model(self, settings: ModelReward) -> Reward:
        """The reward of these settings, one for all tasks, so that the model is loaded once."""
        if (what := repr(settings)) not in self._reward_models:
            self._reward_models[what] = self._make_reward_model(settings)
        return self._reward_models[what]

    def key(self, stage: StageSettings) -> str:
        """What two stages of the same task have in common."""
        return repr((stage.task, sorted(_definitions(stage).items()), stage.max_completion_length))

    def __call__(self, name: str) -> Task | Mixture:
        stage, config = self.config.stage(name), self.config
        if (what := self.key(stage)) not in self._made:
            self._made[what] = make_task(
                stage.task if self.data is None or stages_read(stage.task) else self.data,
                config.seed,
                rewards={**_definitions(stage), **self.functions},
                max_completion_length=stage.max_completion_length,
                stage_data=lambda source: stage_data(
                    data_file(Path(config.run_dir), source.stage), self(source.stage), source.pass_rate
                ),
                reward_model=self.reward_model,
            )
            if "accuracy" not in self._made[what].rewards:
                known = ", ".join(self._made[what].rewards)
                raise ConfigError(f"rewards: there are {known} and none named accuracy, which stages are evaluated by")
            self._contamination.clean(self._made[what], name)
        return self._made[what]

    def ready(self) -> list[Task | Mixture]:
        """Those that do not wait for an earlier stage's data, in the order of their stages."""
        return [self(stage.name) for stage in self.config.stages if not stages_read(stage.task)]

    @functools.cached_property
    def waiting_parts(self) -> list[Task | Mixture]:
        """What mixtures have besides an earlier stage's data, so that a mistake there is seen before anything runs."""
        parts = []
        for stage in self.config.stages:
            for part in stage.task.mixture if stages_read(stage.task) and isinstance(stage.task, MixtureTask) else ():
                rewards = {**_definitions(stage), **self.functions, **part.rewards}
                if not isinstance(part.task, StageTask):
                    parts.append(
                        make_task(
                            part.task,
                            self.config.seed,
                            rewards={name: reward for name, reward in rewards.items() if reward is not None},
                            max_completion_length=stage.max_completion_length,
                            reward_model=self.reward_model,
                        )
                    )
        return parts

    def decontaminate(self) -> None:
        """Removes training questions that are in the config's evaluation sets, also from tasks that are made later."""
        self.ready()
        sets: dict[str, list[str]] = {}
        for data in self.config.decontaminate:
            name, questions = ("test", self._test_questions()) if data == "test" else evaluation_questions(data)
            sets.setdefault(name, []).extend(questions)
        self._contamination = Contamination(sets)
        first = {self.key(stage): stage.name for stage in reversed(self.config.stages)}
        for what, task in self._made.items():
            self._contamination.clean(task, first[what])

    def _test_questions(self) -> Iterator[str]:
        """Those of the stages' data sets; of stages that wait for others too."""
        tables = [table for task in self.ready() for table in tables_of(task)]
        waiting = [stage.task for stage in self.config.stages if stages_read(stage.task)]
        parts = [part.task for task in waiting for part in getattr(task, "mixture", ())]
        tables += [read_table(settings) for settings in parts if isinstance(settings, DataSet)]
        return (question_text(example) for table in tables for example in table.examples["test"])

    def reward_names(self, stage: StageSettings) -> set[str]:
        """The rewards that a stage's task has or, where it waits for another stage's data, will have."""
        if not (sources := stages_read(stage.task)):
            return set(self(stage.name).rewards)
        names = {name for source in sources for name in self.reward_names(self.config.stage(source))}
        if isinstance(stage.task, MixtureTask):
            names |= {name for task in self.waiting_parts for name in task.rewards}
        return names

    def check_names(self) -> None:
        """Raises ConfigError for a reward that no task has.

        It may be of the top level, null in a part of a mixture, or of a stage that waits for another's data.
        """
        known = dict.fromkeys(name for task in self.ready() for name in task.rewards)
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
        for stage in (stage for stage in self.config.stages if stages_read(stage.task)):
            key, named = ("keep", stage.keep) if isinstance(stage, RejectStage) else ("rewards", stage.reward_weights)
            have = self.reward_names(stage)
            if stage.program in ("grpo", "reject") and (unknown := sorted(named.keys() - have)):
                raise ConfigError(
                    f"stages.{stage.name}.{key}: no reward {unknown[0]!r}; there are {', '.join(sorted(have))}"
                )


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
    stages = config.stages

    def what(stage: StageSettings) -> Any:
        reads = stage.reads if isinstance(stage, RewardModelStage) else None
        return tasks.key(stage), stage.prompt, stage.max_prompt_length, reads

    def batches(stage: StageSettings) -> Batches:
        if what(stage) not in made:
            made[what(stage)] = Batches(
                tasks(stage.name),
                tokenizer,
                prompt=stage.prompt,
                seed=config.seed,
                max_prompt_length=stage.max_prompt_length,
                max_completion_length=stage.max_completion_length,
                reading=reading_of(stage, tokenizer) if isinstance(stage, RewardModelStage) else None,
                needs_completions=any(other.program == "sft" for other in stages if what(other) == what(stage)),
            )
        return made[what(stage)]

    for number, stage in enumerate(stages):
        before = sum(other.most_prompts for other in stages[:number] if other.task == stage.task)
        model = models[config.model_owner(stage.name)]
        yield StageRun(number, stage, model, before, functools.partial(batches, stage))


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
