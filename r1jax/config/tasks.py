"""Where questions come from: generators, files and data sets by their columns, and mixtures of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from r1jax.config.base import PositiveFloat, PositiveInt, Settings, Share
from r1jax.config.rewards import RewardSettings


class ArithmeticTask(Settings):
    """Addition and subtraction of whole numbers; `direct_share` of the worked examples answer without steps."""

    name: Literal["arithmetic"]
    min_digits: PositiveInt = 1
    max_digits: PositiveInt = 3
    operators: Literal["+", "-", "+-"] = "+"
    direct_share: Share = 0.5

    @model_validator(mode="after")
    def _check(self) -> ArithmeticTask:
        if self.min_digits > self.max_digits:
            raise ValueError(f"min_digits {self.min_digits} is above max_digits {self.max_digits}")
        return self


class CountdownTask(Settings):
    """Reach a target from given numbers with + - * /, each number used once."""

    name: Literal["countdown"]
    numbers: Annotated[int, Field(ge=2, le=6)] = 3
    max_number: Annotated[int, Field(ge=2)] = 25
    direct_share: Share = 0.5


class TableTask(Settings):
    """Columns of a data set: `question` is text or chat messages, `answer` the gold, `completion` a worked one for sft.

    `answer_after` keeps what follows its last occurrence in the answer column, such as GSM8K's `####`; `columns` are
    others that rewards read, such as a program's tests.
    """

    question: str = "question"
    answer: str = "answer"
    completion: str | None = None
    answer_after: str | None = None
    columns: Annotated[list[str], Field(strict=True)] = []


class JsonlTask(TableTask):
    """A file of one JSON object a line; without a `test` file, one row in sixteen of the first is held out."""

    jsonl: str
    test: str | None = None


class ParquetTask(TableTask):
    """A Parquet file; without a `test` file, one row in sixteen of the first is held out."""

    parquet: str
    test: str | None = None


class TfdsTask(TableTask):
    """A builder of tensorflow-datasets by name, or the folder of a prepared one."""

    tfds: str
    data_dir: str | None = None
    train_split: str = "train"
    test_split: str = "test"


class GymTask(Settings):
    """A generator of reasoning-gym with its own scorer; `size` training problems, `arguments` as it takes them."""

    gym: str
    size: PositiveInt = 10_000
    arguments: dict[str, Any] = {}


class MixturePart(Settings):
    """One task of a mixture, its share relative to the others', and its own forms of rewards that all parts have."""

    weight: PositiveFloat
    task: SingleTask
    rewards: dict[str, RewardSettings] = {}


class MixtureTask(Settings):
    """Several tasks, drawn from in the proportion of their weights."""

    mixture: Annotated[list[MixturePart], Field(min_length=2, strict=True)]


TASKS = ("tfds", "jsonl", "parquet", "gym", "mixture")


def _task_kind(value: Any) -> str | None:
    """Which task a block of settings is: by its key (`jsonl: FILE`), else by its `name`."""
    get = value.get if isinstance(value, dict) else lambda key: getattr(value, key, None)
    return next((key for key in TASKS if get(key) is not None), get("name"))


_Tasks = (
    Annotated[ArithmeticTask, Tag("arithmetic")]
    | Annotated[CountdownTask, Tag("countdown")]
    | Annotated[TfdsTask, Tag("tfds")]
    | Annotated[JsonlTask, Tag("jsonl")]
    | Annotated[ParquetTask, Tag("parquet")]
    | Annotated[GymTask, Tag("gym")]
)
SingleTask = Annotated[_Tasks, Discriminator(_task_kind)]
TaskSettings = Annotated[_Tasks | Annotated[MixtureTask, Tag("mixture")], Discriminator(_task_kind)]
MixturePart.model_rebuild()
