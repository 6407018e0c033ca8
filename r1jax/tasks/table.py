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
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from r1jax.answers.extraction import gold_answer
from r1jax.config.tasks import DataSet, JsonlTask, ParquetTask, Paths, TableTask, TfdsTask
from r1jax.rewards.accuracy import math_answer, no_gold
from r1jax.rewards.code import parse_tests
from r1jax.rewards.example import MAX_CHARACTERS, Example
from r1jax.rewards.format import think_answer
from r1jax.tasks.columns import check_pass_rate, conventional, example_of, named_columns
from r1jax.tasks.listed import ListedTask
from r1jax.tasks.rows import (
    JSON_ENDINGS,
    PARQUET_ENDINGS,
    Row,
    Rows,
    UnusableRow,
    check_training_files,
    jsonl_rows,
    numbered,
    parquet_columns,
    parquet_rows,
    split_path,
    tfds_rows,
)
from r1jax.tasks.split import Split, split_of

# A missing value, or a text of more than twelve words.
_NO_ANSWER = re.compile(
    r"\A\W*(?:nan|null|n/a|tbd|unknown|see solution)\W*\Z|(?:\b[^\W\d_]{2,}\b\W+){12}[^\W\d_]{2,}", re.IGNORECASE
)


class Table(ListedTask):
    """Rows with a question, a gold answer and perhaps a demonstration. Without `test`, the rows of `train` are split.

    `columns` are the names in the examples' `data`, and `has_golds` says whether there are gold answers. Rows that
    published data sets have by the way are left out, with a warning that counts them. Raises ValueError for the first
    other row that cannot be used, and for a split without rows. `removed` are the questions that `contamination` took
    out.
    """

    def __init__(self, settings: TableTask, train: Iterable[Row], test: Iterable[Row] | None) -> None:
        self.has_golds = settings.answer is not None
        rewards = {"accuracy": math_answer if self.has_golds else no_gold, "format": think_answer}
        super().__init__({"train": [], "test": []}, rewards)
        self.removed: list[dict[str, str]] = []
        self._places: list[tuple[str, Example]] = []
        left_out: Counter[str] = Counter()
        given: dict[Split, Iterable[Row]] = {"train": train, "test": test or ()}
        for split, rows in given.items():
            read = settings if split == "train" else for_tests(settings)
            for where, row in rows:
                try:
                    example = example_of(read, where, row)
                    into = split_of(_text(example)) if test is None else split
                    if into == "train":
                        check_pass_rate(settings, where, row)
                except UnusableRow as reason:
                    left_out[str(reason)] += 1
                    continue
                self._places.append((where, example))
                self.examples[into].append(example)
        why = ", ".join(f"{count} have {reason}" for reason, count in left_out.items())
        if not self.examples["train"]:
            usable = f" that can be used: {why}" if left_out else ""
            paths = next((value for name in ("jsonl", "parquet", "tfds") if (value := getattr(settings, name, ""))), "")
            named = f" {paths}" if paths else ""
            raise ValueError(f"the task's data set{named} has no rows to train on{usable}; give one with rows")
        self.columns = tuple(self._places[0][1].data)
        if left_out:
            warnings.warn(
                f"left out {left_out.total()} of {left_out.total() + len(self._places)} rows: {why}", stacklevel=3
            )
        if not self.examples["test"]:
            where = f" in {paths}" if (paths := getattr(settings, "test", None)) else ""
            raise ValueError(
                f"the task has {self.size('train')} rows to train on and none to test on{where}; give it test rows"
            )
        self._warn_of_repeats()

    def _warn_of_repeats(self) -> None:
        """Warns of questions that are trained on and tested on, and of those with several gold answers."""
        trained = {"".join(_text(example).split()) for example in self.examples["train"]}
        texts = map(_text, self.examples["test"])
        shared = [text for text in texts if "".join(text.split()) in trained]
        if shared:
            warnings.warn(
                f"{len(shared)} of {len(self.examples['test'])} test questions are trained on, too; the first is "
                f"{shared[0]!r:.200}; decontaminate: [test] removes them from training",
                stacklevel=4,
            )
        golds: dict[str, str] = {}
        doubtful = [
            where
            for where, example in self._places
            if golds.setdefault(_text(example), example.answer) != example.answer
        ]
        if doubtful:
            warnings.warn(
                f"{len(doubtful)} of {len(self._places)} rows have a question that another row answers otherwise; the "
                f"first is {doubtful[0]}",
                stacklevel=4,
            )

    def check_golds(self) -> None:
        """Warns, once, of gold answers that no short answer can equal: missing values, prose, what does not verify.

        Raises ValueError where most of them are such, and for the first one that the accuracy cannot compare at all.
        """
        doubtful = []
        for where, example in self._places:
            if len(example.answer) > MAX_CHARACTERS:  # as no completion that is graded has
                doubtful.append(f"{where}: {example.answer[:200]!r}")
                continue
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


def read_table(settings: DataSet) -> Table:
    """The rows of files, or of the tensorflow-datasets data set of that name or in that folder."""
    try:
        if isinstance(settings, JsonlTask):
            check_training_files("task.jsonl", _training(settings, settings.jsonl), JSON_ENDINGS)
        elif isinstance(settings, ParquetTask):
            check_training_files("task.parquet", _training(settings, settings.parquet), PARQUET_ENDINGS)
        settings = fitted(settings)
        return Table(settings, split_rows(settings, "train") or (), split_rows(settings, "test"))
    except OSError as error:  # such as a name that is too long
        raise ValueError(f"task: {error.filename} cannot be read: {error.strerror}") from None


def fitted(settings: DataSet) -> DataSet:
    """The settings with the columns that files have, where those that are named by default do not exist."""
    if isinstance(settings, JsonlTask):
        names = next((list(row) for _, row in jsonl_rows("task.jsonl", _training(settings, settings.jsonl))), None)
    elif isinstance(settings, ParquetTask):
        names = parquet_columns("task.parquet", _training(settings, settings.parquet))
    else:
        names = None
    return settings if names is None else settings.model_copy(update=conventional(settings, names))


def for_tests[S: TableTask](settings: S) -> S:
    """The settings for rows of a test set, which need no demonstrations."""
    return settings.model_copy(update={"completion": None})


def split_rows(settings: DataSet, split: Split) -> Iterable[Row] | None:
    """The rows of a split as they are given; None where the test set is to be held out of the training set."""
    if split == "test":
        settings = for_tests(settings)
    if isinstance(settings, TfdsTask):
        return tfds_rows(settings.tfds, "train" if split == "train" else settings.test or "test")
    if isinstance(settings, JsonlTask):
        key, paths, rows = "task.jsonl", settings.jsonl, jsonl_rows
    else:
        key, paths, rows = "task.parquet", settings.parquet, functools.partial(parquet_rows, *named_columns(settings))
    if split == "train":
        return rows(key, _training(settings, paths))
    test = settings.test
    if test is None or not Path(test).exists():
        test = split_path(paths, test or "test") or test
    return None if test is None else rows("task.test", test)


def _training(settings: DataSet, paths: Paths) -> Paths:
    """The training split, where a folder has one."""
    return split_path(paths, "train") or paths


def rows_table(rows: Rows) -> Table:
    """Rows given as dicts with the keys that `row_settings` tells apart."""
    return Table(TableTask(**row_settings(rows)), numbered(rows), None)


def row_settings(rows: Rows) -> dict[str, Any]:
    """The task settings of rows with `question`, `answer` and, if any, `completion`; rewards read all other keys."""
    names = {name for row in rows if isinstance(row, Mapping) for name in row}
    read = conventional(TableTask(), names) if names else {}
    if "completion" in names and "messages" not in read:
        read["completion"] = "completion"
    others = sorted(names - {"question", "answer", "completion", *read.values()})
    return {"completion": None, **read, "columns": others}


def _text(example: Example) -> str:
    """The text by which a question is assigned to a split."""
    question = example.question
    return question if isinstance(question, str) else json.dumps(question, sort_keys=True)
