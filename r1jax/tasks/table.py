"""Questions and answers from the columns of a data set: JSONL, Parquet, tensorflow-datasets, or rows in Python.

    task = read_table(JsonlTask(jsonl="train.jsonl", test="test.jsonl"))
    task = rows_table([{"question": "2+2?", "answer": 4}, ...])

Only the columns that the settings name are kept. Without a test set, `split_of` holds out one question in sixteen.
"""

from __future__ import annotations

import functools
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1jax.answers.extraction import gold_answer
from r1jax.config.tasks import JsonlTask, ParquetTask, TableTask, TfdsTask
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.code import parse_tests
from r1jax.rewards.example import Example
from r1jax.rewards.format import think_answer
from r1jax.tasks.listed import ListedTask
from r1jax.tasks.split import Split, split_of

# A missing value, or a text of more than twelve words.
_NO_ANSWER = re.compile(
    r"\A\W*(?:nan|null|n/a|tbd|unknown|see solution)\W*\Z|(?:\b[^\W\d_]{2,}\b\W+){12}[^\W\d_]{2,}", re.IGNORECASE
)
Row = tuple[str, Mapping[str, Any]]  # its place, for error messages, and its columns by name
Rows = Sequence[Mapping[str, Any]]


class Table(ListedTask):
    """Rows with a question, a gold answer and perhaps a demonstration. Without `test`, the rows of `train` are split.

    `columns` are the names in the examples' `data`. Without `has_golds` every gold answer is "". Raises ValueError for
    the first row that cannot be used, and for a split without rows.
    """

    def __init__(self, settings: TableTask, train: Iterable[Row], test: Iterable[Row] | None) -> None:
        self.columns, self.has_golds = tuple(settings.columns), settings.answer is not None
        super().__init__({"train": [], "test": []}, {"accuracy": math_answer, "format": think_answer})
        self._places: list[tuple[str, Example]] = []
        given: dict[Split, Iterable[Row]] = {"train": train, "test": test or ()}
        for split, rows in given.items():
            for where, row in rows:
                example = _example(settings, where, row)
                self._places.append((where, example))
                self.examples[split_of(_text(example)) if test is None else split].append(example)
        if not self.examples["train"]:
            raise ValueError("the task's data set has no rows to train on; give one with rows")
        if not self.examples["test"]:
            raise ValueError(
                f"the task has {self.size('train')} rows to train on and none to test on; give it test rows"
            )

    def check_golds(self) -> None:
        """Warns, once, of gold answers that no short answer can equal: missing values, prose, what does not verify.

        Raises ValueError where most of them are such, and for the first one that the accuracy cannot compare at all.
        """
        doubtful = []
        for where, example in self._places:
            try:
                result = self.rewards["accuracy"](example, f"<think>x</think><answer>{example.answer}</answer>")
                named = self.rewards["accuracy"] is not math_answer or not _NO_ANSWER.search(
                    gold_answer(example.answer)
                )
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            if (result[0] if isinstance(result, tuple) else result) != 1 or not named:
                doubtful.append(f"{where}: {example.answer!r:.200}")
        message = (
            f"{len(doubtful)} of {len(self._places)} gold answers are missing values, prose or not accepted by the "
            f"accuracy reward, so that no completion can be right; the first is {''.join(doubtful[:1])}"
        )
        if len(doubtful) > len(self._places) / 2:
            raise ValueError(f"{message}; correct task.answer, the column that they are read from")
        if doubtful:
            warnings.warn(message, stacklevel=2)

    def check_tests(self) -> None:
        """Raises ValueError for the first row whose tests cannot be run."""
        for where, example in self._places:
            try:
                parse_tests(example.data["tests"])
            except ValueError as error:
                raise ValueError(f"{where}: column 'tests': {error}") from None


def read_table(settings: JsonlTask | ParquetTask | TfdsTask) -> Table:
    """The rows of files, or of the tensorflow-datasets data set of that name or in that folder."""
    if isinstance(settings, TfdsTask):
        return Table(settings, _tfds_rows(settings.tfds, "train"), _tfds_rows(settings.tfds, settings.test or "test"))
    if isinstance(settings, JsonlTask):
        key, path, rows = "task.jsonl", settings.jsonl, _jsonl_rows
    else:
        key, path, rows = "task.parquet", settings.parquet, functools.partial(_parquet_rows, settings)
    test = None if settings.test is None else rows(_file("task.test", settings.test))
    return Table(settings, rows(_file(key, path)), test)


def rows_table(rows: Rows) -> Table:
    """Rows given as dicts with the keys that `row_settings` tells apart."""
    return Table(TableTask(**row_settings(rows)), _numbered(rows), None)


def row_settings(rows: Rows) -> dict[str, Any]:
    """The task settings of rows with `question`, `answer` and, if any, `completion`; rewards read all other keys."""
    names = {name for row in rows if isinstance(row, Mapping) for name in row}
    others = sorted(names - {"question", "answer", "completion"})
    return {"completion": "completion" if "completion" in names else None, "columns": others}


def _file(key: str, path: str) -> Path:
    if not Path(path).is_file():
        raise ValueError(f"{key}: there is no file {path}; give the path of one")
    return Path(path)


def _numbered(rows: Rows) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise ValueError(f"data, row {number}: got {row!r:.80}; need a dict with question and answer")
        yield f"data, row {number}", row


def _jsonl_rows(file: Path) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{file}:{number}: not a JSON object: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{file}:{number}: not a JSON object: {row!r:.80}")
            yield f"{file}:{number}", row


def _parquet_rows(settings: TableTask, file: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError('task.parquet needs pyarrow; install it with: pip install "r1jax[data]"') from None
    try:
        table = pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"task.parquet: {file} is not a Parquet file: {error}") from None
    columns = table.schema_arrow.names
    named = [c for c in (settings.question, settings.answer, settings.completion, *settings.columns) if c is not None]
    if missing := [c for c in named if c not in columns]:
        raise ValueError(f"{file}: no column {missing[0]!r}; there are {', '.join(columns)}")
    rows = (row for batch in table.iter_batches(columns=named) for row in batch.to_pylist())
    for number, row in enumerate(rows, 1):
        yield f"{file} row {number}", row


def _tfds_rows(name: str, split: str) -> Iterator[Row]:
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ValueError('task.tfds needs tensorflow-datasets; install it with: pip install "r1jax[data]"') from None
    prepared = "give the folder of a data set prepared with file_format=array_record"
    try:
        if Path(name).is_dir():
            builder: Any = tfds.builder_from_directory(name)
            rows: Any = builder.as_data_source(split=split)
        else:
            rows = tfds.data_source(name, split=split)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"task.tfds: preparing {name} needs the package {error.name}; install it, or {prepared}"
        ) from None
    except NotImplementedError:
        raise ValueError(f"task.tfds: {name} is prepared in a format that only TensorFlow reads; {prepared}") from None
    except (ValueError, OSError, AssertionError) as error:
        first, *_ = str(error).strip().split("\n")
        raise ValueError(f"task.tfds: {name}, split {split!r}: {first}") from None
    for number in range(len(rows)):
        yield f"{name} {split} row {number + 1}", rows[number]


def _example(settings: TableTask, where: str, row: Mapping[str, Any]) -> Example:
    completion = None
    if settings.completion is not None:
        completion = _column(where, row, settings.completion)
        if not isinstance(completion, str) or not completion:
            raise ValueError(f"{where}: column {settings.completion!r} has no text; a demonstration needs one")
    data = {name: _plain(where, name, _column(where, row, name)) for name in settings.columns}
    return Example(_question(settings, where, row), _gold(settings, where, row), completion, data)


def _question(settings: TableTask, where: str, row: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    question = _column(where, row, settings.question)
    if isinstance(question, str) and question.strip():
        return question
    messages = list(question) if isinstance(question, list | tuple) else []
    if messages and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in messages):
        return messages
    raise ValueError(
        f"{where}: column {settings.question!r} has neither text nor chat messages with role and content; correct the "
        f"row or task.question"
    )


def _gold(settings: TableTask, where: str, row: Mapping[str, Any]) -> str:
    if settings.answer is None:
        return ""
    gold = _column(where, row, settings.answer)
    if not isinstance(gold, str) and hasattr(gold, "__len__"):
        kind = type(gold).__name__
        raise ValueError(f"{where}: column {settings.answer!r} is a {kind}; a gold answer is text or a number")
    answer = "" if gold is None else str(gold)
    if settings.answer_after is not None:
        _, marked, answer = answer.rpartition(settings.answer_after)
        if not marked:
            raise ValueError(
                f"{where}: column {settings.answer!r} has no {settings.answer_after!r}; correct the row or "
                f"task.answer_after"
            )
    if not answer.strip():
        raise ValueError(f"{where}: the gold answer in column {settings.answer!r} is empty; leave the row out")
    return answer.strip()


def _column(where: str, row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise ValueError(f"{where}: no column {name!r}; there are {', '.join(row)}")
    value = row[name]
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise ValueError(f"{where}: column {name!r} is not UTF-8 text; it is {value!r:.80}") from None


def _plain(where: str, name: str, value: Any) -> Any:
    """A column for rewards, converted to what JSON can represent, as worker processes and transcripts need it."""
    try:
        return json.loads(json.dumps(value, default=_without_numpy))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: column {name!r} cannot be given to rewards: {error}; leave it out or make it text, numbers or "
            f"lists of them"
        ) from None


def _without_numpy(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no type of JSON")


def _text(example: Example) -> str:
    """The text by which a question is assigned to a split."""
    question = example.question
    return question if isinstance(question, str) else json.dumps(question, sort_keys=True)
