"""The tasks that a config can name: generated problems, the columns of a data set, and mixtures of tasks.

task: {name: arithmetic, max_digits: 3}
task: {jsonl: train.jsonl, test: test.jsonl, question: problem}
task: {mixture: [{weight: 2, task: {gym: chain_sum}}, {weight: 1, task: {jsonl: train.jsonl}}]}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from r1jax.config.base import PositiveFloat, PositiveInt, Settings, Share, chosen_by
from r1jax.config.rewards import RewardSettings


def _in_order(band: list[float]) -> list[float]:
    if band[0] > band[1]:
        raise ValueError(f"{band[0]:g} is above {band[1]:g}; give the lower one first")
    return band


Band = Annotated[list[Share], Field(min_length=2, max_length=2, strict=True), AfterValidator(_in_order)]


class GeneratedTask(Settings):
    """What the tasks that r1jax generates have in common."""

    direct_share: Share = 0.5
    """The fraction of demonstrations that answer directly; the others show the steps."""


class ArithmeticTask(GeneratedTask):
    """Addition and subtraction of whole numbers."""

    name: Literal["arithmetic"]
    min_digits: Annotated[int, Field(ge=1, le=1000)] = 1
    """The fewest digits of an operand."""
    max_digits: Annotated[int, Field(ge=1, le=1000)] = 3
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
    max_number: Annotated[int, Field(ge=2, le=1_000_000)] = 25
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
    pairs: Literal["balanced", "confounded"] | None = None
    """Give general requests a better and a worse reply, for a reward model: the better one is as often longer as
    shorter, or always longer. null: there are none."""

    @model_validator(mode="after")
    def _check(self) -> BilingualTask:
        if self.min_level > self.max_level:
            raise ValueError(f"min_level {self.min_level} is above max_level {self.max_level}; need min <= max")
        if self.pairs is not None and self.domains != ["general"]:
            raise ValueError(f"pairs: {self.pairs} are of general requests; give domains: [general]")
        if "general" in self.domains and len(self.domains) > 1:
            raise ValueError(
                f"domains {', '.join(self.domains)}: general has no gold answers and rewards of its own; give "
                f"it alone, and put it beside the others in a mixture"
            )
        return self


class TableTask(Settings):
    """The columns of a data set."""

    question: str = "question"
    """The column of the questions: text, or chat messages with role and content. Where no column has the default's
    name, it is `messages`, as below, or else `prompt`, with the demonstrations of `completion`. A name with dots leads
    into nested columns, here and below."""
    answer: str | None = "answer"
    """The column of the gold answers; null: there are none, as by default with `messages`, `chosen` or `label`."""
    choices: str | None = None
    """The column of the options of multiple-choice questions, which are put after the question as A), B) and so on:
    texts, or labels with texts. The gold answer, given as a position from 0, a letter or an option's text, becomes the
    letter."""
    completion: str | None = None
    """The column of the demonstrations that an sft stage trains on."""
    messages: str | None = None
    """The column of conversations, in place of question and completion: messages with role and content, or from and
    value. The last turn of the assistant is the demonstration, and sft learns all turns of the assistant."""
    system: str | None = None
    """The column of the system messages, as texts, that go before the questions or conversations."""
    chosen: str | None = None
    """The column of the better responses of preference pairs, for a reward model: texts, or chat messages that end with
    the response. Where the messages have more than it, they have the question too."""
    rejected: str | None = None
    """The column of the worse responses of preference pairs."""
    preference: str | None = None
    """The column of a number that says which response is the better one, as in HelpSteer: that of `chosen` below 0,
    that of `rejected` above 0, none at 0. By default it is always that of `chosen`."""
    response: str | None = None
    """The column of responses that `label` judges, for a reward model: texts, or chat messages as in `chosen`."""
    label: str | None = None
    """The column of the judgements of `response`: safe or unsafe, 1 or 0, true or false."""
    answer_after: str | None = None
    """A marker such as GSM8K's `####`: the gold answer is what follows its last occurrence in the answer column."""
    columns: Annotated[list[str], Field(strict=True)] = []
    """Further columns, which rewards read, such as the tests of a program."""
    pass_rate: Band | None = None
    """A lower and an upper limit: training rows are kept whose pass rate is from the first to the second; null: all."""
    pass_rate_column: str = "pass_rate"
    """The column of the pass rates, from 0 to 1, that `pass_rate` is about."""
    test: str | None = None
    """The test set: a file for jsonl and parquet, or the name of a split where the training set is in a folder by its
    split's name; the name of a split for tfds. By default it is the split `test` of a folder or of tfds, and else one
    row in sixteen is held out for testing."""

    @property
    def is_for_reward_models(self) -> bool:
        """Whether the rows have responses that are compared or judged."""
        return self.chosen is not None or self.label is not None

    @model_validator(mode="before")
    @classmethod
    def _without_golds(cls, value: Any) -> Any:
        if isinstance(value, dict) and any(value.get(key) is not None for key in ("messages", "chosen", "label")):
            return {"answer": None} | value
        return value

    @model_validator(mode="after")
    def _check(self) -> TableTask:
        kinds = {"completion": self.completion, "messages": self.messages, "chosen": self.chosen, "label": self.label}
        if len(given := [key for key, name in kinds.items() if name is not None]) > 1:
            raise ValueError(
                f"{given[0]} and {given[1]} are two kinds of data; give each a task of its own, or drop one"
            )
        if self.choices is not None and (given := [key for key in given if key != "completion"]):
            raise ValueError(
                f"choices belong to the column question, and {given[0]} has questions too; drop one of them"
            )
        if (self.chosen is None) != (self.rejected is None) or (self.preference is not None and self.chosen is None):
            raise ValueError("chosen and rejected name the two responses of a pair; give both")
        if (self.label is None) != (self.response is None):
            raise ValueError("label is about the column that response names; give both")
        return self


def _is_some_path(value: Any) -> Any:
    if not isinstance(value, str) and not (
        isinstance(value, list) and value and all(isinstance(v, str) for v in value)
    ):
        raise ValueError(f"got {value!r}; need a path, or a list of them")
    return value


Paths = Annotated[str | list[str], BeforeValidator(_is_some_path)]


class JsonlTask(TableTask):
    """A file with one JSON object per line, or an array of them."""

    jsonl: Paths
    """The training set: a file, perhaps with gzip; a pattern with `*` or a folder, for several files; or a list of
    these."""


class ParquetTask(TableTask):
    """A Parquet file."""

    parquet: Paths
    """The training set: a file; a pattern with `*` or a folder, for several files; a folder that the library datasets
    wrote with save_to_disk; or a list of these."""


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
    """What an earlier `reject` stage made: the completions that it kept, as demonstrations of the task that it sampled
    on, or with `pass_rate` its prompts.

    Rewards and test problems are those of that task.
    """

    stage: str
    """The name of the stage."""
    pass_rate: Band | None = None
    """A lower and an upper limit, for stages that sample: the prompts that the stage measured a pass rate of, from the
    first to the second, without demonstrations. Null: the completions that it kept."""


class MixturePart(Settings):
    """One task of a mixture."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")] | None = None
    """What its held-out scores are called, as in `eval/accuracy/NAME`; null: they are only in those of the mixture."""
    weight: PositiveFloat
    """How often the task is sampled, relative to the other parts' weights."""
    task: SingleTask
    """The task."""
    rewards: dict[str, RewardSettings | None] = {}
    """Definitions of rewards for this part alone, by name; null: the part does not have the reward of that name. A
    reward that a part lacks adds nothing to the weighted sums of its completions."""

    @field_validator("rewards")
    @classmethod
    def _check_rewards(cls, rewards: dict[str, RewardSettings | None]) -> dict[str, RewardSettings | None]:
        for name, reward in rewards.items():
            if reward is not None and reward.weight is not None:
                raise ValueError(
                    f"{name} has a weight, and a part only defines rewards; give it to a stage's rewards, as "
                    f"{name}: {reward.weight:g}"
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

    @field_validator("mixture")
    @classmethod
    def _check_names(cls, mixture: list[MixturePart]) -> list[MixturePart]:
        names = [part.name for part in mixture if part.name is not None]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two parts are named {twice[0]}; each needs a name of its own, or none")
        return mixture


DataSet = JsonlTask | ParquetTask | TfdsTask
_DataSets = (
    Annotated[TfdsTask, Tag("<tfds>")] | Annotated[JsonlTask, Tag("<jsonl>")] | Annotated[ParquetTask, Tag("<parquet>")]
)
_Tasks = (
    Annotated[ArithmeticTask, Tag("<arithmetic>")]
    | Annotated[CountdownTask, Tag("<countdown>")]
    | Annotated[BilingualTask, Tag("<bilingual>")]
    | _DataSets
    | Annotated[GymTask, Tag("<gym>")]
    | Annotated[StageTask, Tag("<stage>")]
)
_kind = chosen_by("tfds", "jsonl", "parquet", "gym", "stage", "mixture")
_chosen = Discriminator(_kind)
SingleTask = Annotated[_Tasks, _chosen]
TaskSettings = Annotated[_Tasks | Annotated[MixtureTask, Tag("<mixture>")], _chosen]
EvaluationSet = Annotated[
    Annotated[Literal["test"], Tag("<test>")] | _DataSets,
    Discriminator(lambda value: "<test>" if isinstance(value, str) else _kind(value)),
]
MixturePart.model_rebuild()


def evaluation_set(value: Any) -> Any:
    """The block of a file that is given by its path alone; anything else as it is."""
    if not isinstance(value, str) or value == "test":
        return value
    return {"parquet" if value.endswith(".parquet") else "jsonl": value, "answer": None}


def stages_read(task: Any) -> list[str]:
    """The names of the stages whose data a task reads."""
    parts = [part.task for part in task.mixture] if isinstance(task, MixtureTask) else [task]
    return [part.stage for part in parts if isinstance(part, StageTask)]


def reads_prompts(task: Any) -> bool:
    """Whether a task has prompts of a stage, chosen by their pass rate, which have no demonstrations."""
    parts = [part.task for part in task.mixture] if isinstance(task, MixtureTask) else [task]
    return any(isinstance(part, StageTask) and part.pass_rate is not None for part in parts)


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
