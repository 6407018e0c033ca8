"""The tasks that a config can name: generated problems, the columns of a data set, and mixtures of tasks.

task: {name: arithmetic, max_digits: 3}
task: {jsonl: train.jsonl, test: test.jsonl, question: problem}
task: {mixture: [{weight: 2, task: {gym: chain_sum}}, {weight: 1, task: {jsonl: train.jsonl}}]}
"""

from __future__ import annotations

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


class MixtureTask(Settings):
    """Several tasks, sampled in proportion to their weights."""

    mixture: Annotated[list[MixturePart], Field(min_length=2, strict=True)]
    """The tasks with their weights."""


_Tasks = (
    Annotated[ArithmeticTask, Tag("<arithmetic>")]
    | Annotated[CountdownTask, Tag("<countdown>")]
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
