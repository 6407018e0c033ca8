"""The tasks that a config can name: generated problems, the columns of a data set, and mixtures of tasks.

task: {name: arithmetic, max_digits: 3}
task: {jsonl: train.jsonl, test: test.jsonl, question: problem}
task: {mixture: [{weight: 2, task: {gym: chain_sum}}, {weight: 1, task: {jsonl: train.jsonl}}]}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from r1jax.config.base import PositiveFloat, PositiveInt, Settings, Share, chosen_by
from r1jax.config.rewards import RewardSettings


class GeneratedTask(Settings):
    """What the tasks that r1jax generates have in common."""

    direct_share: Share = 0.5
    """The fraction of demonstrations that answer directly; the others show the steps."""


class ArithmeticTask(GeneratedTask):
    """Addition and subtraction of whole numbers."""

    name: Literal["arithmetic"]
    min_digits: PositiveInt = 1
    """The fewest digits of an operand."""
    max_digits: PositiveInt = 3
    """The most digits of an operand."""
    operators: Literal["+", "-", "+-"] = "+"
    """The operators that problems use."""

    @model_validator(mode="after")
    def _check(self) -> ArithmeticTask:
        if self.min_digits > self.max_digits:
            raise ValueError(f"min_digits {self.min_digits} is above max_digits {self.max_digits}; need min <= max")
        return self


class CountdownTask(GeneratedTask):
    """Reach a target with given numbers and + - * /, using each number exactly once."""

    name: Literal["countdown"]
    numbers: Annotated[int, Field(ge=2, le=6)] = 3
    """How many numbers a problem gives."""
    max_number: Annotated[int, Field(ge=2)] = 25
    """The largest number that a problem gives."""


class BilingualTask(Settings):
    """A small world in which questions in words are asked, and reasoned about, in English or German."""

    name: Literal["bilingual"]
    domains: Annotated[list[Literal["sums", "logic", "general"]], Field(min_length=1, strict=True)] = ["sums", "logic"]
    """`sums`: sums and differences one after another; `logic`: the day of the week, some days later or earlier;
    `general`: requests without a gold answer, which stand alone."""
    languages: Annotated[list[Literal["en", "de"]], Field(min_length=1, strict=True)] = ["en", "de"]
    """The languages of questions."""
    min_level: Annotated[int, Field(ge=1, le=8)] = 1
    """The fewest steps of a problem of sums or logic."""
    max_level: Annotated[int, Field(ge=1, le=8)] = 5
    """The most steps."""
    demonstrations: Literal["messy", "clean"] = "clean"
    """`clean`: every step, in the question's language and in R1-Zero's format; `messy`: like a text that models are
    pretrained on, with mixed languages, steps left out, errors, most of them in German, and incomplete tags."""
    pair_lengths: Literal["balanced", "confounded"] = "balanced"
    """In pairs of general replies, the better one is as often longer as shorter, or always longer."""

    @model_validator(mode="after")
    def _check(self) -> BilingualTask:
        if self.min_level > self.max_level:
            raise ValueError(f"min_level {self.min_level} is above max_level {self.max_level}; need min <= max")
        if "general" in self.domains and len(self.domains) > 1:
            raise ValueError(
                f"domains {', '.join(self.domains)}: general has no gold answers and rewards of its own; give "
                f"it alone, and put it beside the others in a mixture"
            )
        return self


class TableTask(Settings):
    """The columns of a data set."""

    question: str = "question"
    """The column of the questions: text, or chat messages with role and content."""
    answer: str = "answer"
    """The column of the gold answers."""
    completion: str | None = None
    """The column of the demonstrations that an sft stage trains on."""
    answer_after: str | None = None
    """A marker such as GSM8K's `####`: the gold answer is what follows its last occurrence in the answer column."""
    columns: Annotated[list[str], Field(strict=True)] = []
    """Further columns, which rewards read, such as the tests of a program."""
    test: str | None = None
    """The test set: a file for jsonl and parquet, the name of a split for tfds. By default one row in sixteen of the
    file is held out for testing; tfds uses its split `test`."""


class JsonlTask(TableTask):
    """A file with one JSON object a line."""

    jsonl: str
    """The path of the training set."""


class ParquetTask(TableTask):
    """A Parquet file."""

    parquet: str
    """The path of the training set."""


class TfdsTask(TableTask):
    """A data set of tensorflow-datasets, whose split `train` is the training set."""

    tfds: str
    """The name of a data set, or the folder of a prepared one, which is where its dataset_info.json is."""


class GymTask(Settings):
    """A problem generator of reasoning-gym, graded by its own scorer."""

    gym: str
    """The name of the generator."""
    size: PositiveInt = 10_000
    """The number of training problems; a sixteenth as many are made for testing."""
    arguments: dict[str, Any] = {}
    """Arguments of the generator, as reasoning-gym names them."""


class StageTask(Settings):
    """The completions that an earlier `reject` stage kept, as demonstrations of the task that it sampled on.

    Rewards and test problems are those of that task.
    """

    stage: str
    """The name of the stage."""


class MixturePart(Settings):
    """One task of a mixture."""

    weight: PositiveFloat
    """How often the task is sampled, relative to the other parts' weights."""
    task: SingleTask
    """The task."""
    rewards: dict[str, RewardSettings] = {}
    """Definitions of rewards for this part alone, by name; every part has to have a reward of that name."""

    @field_validator("rewards")
    @classmethod
    def _check_rewards(cls, rewards: dict[str, RewardSettings]) -> dict[str, RewardSettings]:
        if weighted := [name for name, reward in rewards.items() if reward.weight is not None]:
            raise ValueError(
                f"{weighted[0]} has a weight, and a part only defines rewards; give it to a stage's rewards, as "
                f"{weighted[0]}: {rewards[weighted[0]].weight:g}"
            )
        return rewards

    @model_validator(mode="after")
    def _check(self) -> MixturePart:
        if self.rewards and isinstance(self.task, StageTask):
            raise ValueError(
                f"rewards: the data of stage {self.task.stage} is graded by that stage's rewards; define them there"
            )
        return self


class MixtureTask(Settings):
    """Several tasks, sampled in proportion to their weights."""

    mixture: Annotated[list[MixturePart], Field(min_length=2, strict=True)]
    """The tasks with their weights."""


_Tasks = (
    Annotated[ArithmeticTask, Tag("<arithmetic>")]
    | Annotated[CountdownTask, Tag("<countdown>")]
    | Annotated[BilingualTask, Tag("<bilingual>")]
    | Annotated[TfdsTask, Tag("<tfds>")]
    | Annotated[JsonlTask, Tag("<jsonl>")]
    | Annotated[ParquetTask, Tag("<parquet>")]
    | Annotated[GymTask, Tag("<gym>")]
    | Annotated[StageTask, Tag("<stage>")]
)
_chosen = Discriminator(chosen_by("tfds", "jsonl", "parquet", "gym", "stage", "mixture"))
SingleTask = Annotated[_Tasks, _chosen]
TaskSettings = Annotated[_Tasks | Annotated[MixtureTask, Tag("<mixture>")], _chosen]
MixturePart.model_rebuild()


def stages_read(task: Any) -> list[str]:
    """The names of the stages whose data a task reads."""
    parts = [part.task for part in task.mixture] if isinstance(task, MixtureTask) else [task]
    return [part.stage for part in parts if isinstance(part, StageTask)]


def sampled_task(task: Any, task_of: Callable[[str], Any]) -> Any:
    """The task with the same test problems that reads no stage's data.

    That data becomes the task that was sampled on, which `task_of` gives by the stage's name.
    """
    if isinstance(task, StageTask):
        return sampled_task(task_of(task.stage), task_of)
    if not isinstance(task, MixtureTask):
        return task
    parts = []
    for part in task.mixture:
        inner = sampled_task(part.task, task_of)
        below = inner.mixture if isinstance(inner, MixtureTask) else [part.model_copy(update={"task": inner})]
        whole = sum(other.weight for other in below)
        parts += [other.model_copy(update={"weight": part.weight * other.weight / whole}) for other in below]
    return MixtureTask(mixture=parts)
