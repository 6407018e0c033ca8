"""The rows of JSONL files, Parquet files and tensorflow-datasets, each with its place for error messages.

for where, row in jsonl_rows("task.jsonl", "train.jsonl"):
    question = column(where, row, "question")
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = tuple[str, Mapping[str, Any]]  # its place, for error messages, and its columns by name
Rows = Sequence[Mapping[str, Any]]


class UnusableRow(Exception):
    """A row of a kind that published data sets have, which is left out and counted; the reason follows "have"."""


def numbered(rows: Rows) -> Iterator[Row]:
    """Rows in Python."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise ValueError(f"data, row {number}: got {row!r:.80}; need a dict with question and answer")
        yield f"data, row {number}", row


def jsonl_rows(key: str, path: str) -> Iterator[Row]:
    """The objects of a file, a line each. `key` is the setting that has the path."""
    for file in _files(key, path):
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{file}:{number}", _object(f"{file}:{number}", line)


def _object(where: str, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object: {row!r:.80}")
    return row


def parquet_rows(names: Sequence[str], optional: Sequence[str], key: str, path: str) -> Iterator[Row]:
    """The rows of a file, with the columns of these names alone. `key` is the setting that has the path."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError('task.parquet needs pyarrow; install it with: pip install "r1jax[data]"') from None
    for file in _files(key, path):
        try:
            table = pyarrow.parquet.ParquetFile(file)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{key}: {file} is not a Parquet file: {error}") from None
        columns = table.schema_arrow.names
        if missing := [name for name in names if name not in columns]:
            raise ValueError(f"{file}: no column {missing[0]!r}; there are {', '.join(columns)}")
        read = [*names, *(name for name in optional if name in columns)]
        rows = (row for batch in table.iter_batches(columns=read) for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield f"{file} row {number}", row


def _files(key: str, path: str) -> list[Path]:
    """The file of a path, or those of a pattern with `*`, as for the shards of a large data set."""
    files = sorted(file for file in map(Path, glob.glob(path)) if file.is_file()) if "*" in path else [Path(path)]
    if not files or not files[0].is_file():
        raise ValueError(f"{key}: there is no file {path}; give the path of one")
    return files


def tfds_rows(name: str, split: str) -> Iterator[Row]:
    """A split of the data set of that name, or in that folder."""
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


def column(where: str, row: Mapping[str, Any], name: str) -> Any:
    """A row's value in a column; bytes are text. Raises ValueError where there is no such column."""
    if name not in row:
        raise ValueError(f"{where}: no column {name!r}; there are {', '.join(row)}")
    value = row[name]
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise ValueError(f"{where}: column {name!r} is not UTF-8 text; it is {value!r:.80}") from None
