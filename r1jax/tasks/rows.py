"""The rows of JSONL files, Parquet files and tensorflow-datasets, each with its place for error messages.

for where, row in jsonl_rows("task.jsonl", "train.jsonl"):
    question = column(where, row, "question")
"""

from __future__ import annotations

import codecs
import glob
import gzip
import json
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from r1jax.config.tasks import Paths

JSON_ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
PARQUET_ENDINGS = (".parquet", ".arrow")
SAVED = "state.json"  # of a folder that datasets' save_to_disk wrote
OTHER_SPLITS = "test|validation|valid|val|dev|eval"
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MISSING = object()
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


def jsonl_rows(key: str, paths: Paths) -> Iterator[Row]:
    """The objects of files, a line each or in an array. `key` is the setting that has the paths."""
    for file in files_of(key, paths, JSON_ENDINGS):
        if file.suffix in (*PARQUET_ENDINGS, ".csv", ".tsv", ".xlsx"):
            way = (
                f"give it as parquet: {file}" if file.suffix in PARQUET_ENDINGS else "write it as JSON lines or Parquet"
            )
            raise ValueError(f"{key}: {file} is not JSON; {way}")
        try:
            with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
                yield from _json_rows(file, lines)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{key}: {file} cannot be read: {error}") from None


def _json_rows(file: Path, lines: BinaryIO | gzip.GzipFile) -> Iterator[Row]:
    begun = False
    for number, line in enumerate(lines, 1):
        if number == 1 and line.startswith(UTF16):
            raise ValueError(f"{file}:1: UTF-16 text; save the file as UTF-8")
        if not begun and line.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
            for place, row in enumerate(_array(f"{file}:{number}", line + lines.read()), 1):
                yield f"{file} row {place}", row
            return
        if line.strip():
            begun = True
            yield f"{file}:{number}", _object(f"{file}:{number}", line)


def _object(where: str, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not a JSON object: {error}; write each on a line, or an array of them") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object: {row!r:.80}")
    return row


def _array(where: str, text: bytes) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not a JSON object, nor an array of them: {error}") from None
    if wrong := [(number, row) for number, row in enumerate(rows, 1) if not isinstance(row, dict)]:
        raise ValueError(f"{where}: not a JSON object in row {wrong[0][0]} of an array: {wrong[0][1]!r:.80}")
    return rows


def parquet_rows(names: Sequence[str], optional: Sequence[str], key: str, paths: Paths) -> Iterator[Row]:
    """The rows of files, with the columns of these names alone. `key` is the setting that has the paths."""
    for file in files_of(key, paths, PARQUET_ENDINGS):
        columns, batches = _parquet(key, file)
        from pyarrow import ArrowException

        roots = {name: name if name in columns else name.partition(".")[0] for name in (*names, *optional)}
        if missing := [name for name in names if roots[name] not in columns]:
            raise ValueError(f"{file}: no column {missing[0]!r}; there are {', '.join(columns)}")
        read = [*dict.fromkeys(root for root in roots.values() if root in columns)]
        rows = (row for batch in batches(read) for row in _shortest(batch).to_pylist())
        try:
            for number, row in enumerate(rows, 1):
                yield f"{file} row {number}", row
        except (ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{key}: {file} cannot be read: {reason}; copy or download it again") from None


def parquet_columns(key: str, paths: Paths) -> list[str]:
    """The names of the columns of the first file."""
    return _parquet(key, files_of(key, paths, PARQUET_ENDINGS)[0])[0]


def _shortest(batch: Any) -> Any:
    """The batch with numbers of 32 bits as they were written: 0.1, and not 0.10000000149011612."""
    import pyarrow

    for index, field in enumerate(batch.schema):
        if field.type in (pyarrow.float32(), pyarrow.float16()):
            texts = batch.column(index).cast(pyarrow.float32()).cast(pyarrow.string())
            batch = batch.set_column(index, field.name, texts.cast(pyarrow.float64()))
    return batch


def _parquet(key: str, file: Path) -> tuple[list[str], Callable[[list[str]], Iterator[Any]]]:
    """The columns of a Parquet or Arrow file, and what gives its rows by their names, in batches."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError('task.parquet needs pyarrow; install it with: pip install "r1jax[data]"') from None
    try:
        if file.suffix != ".arrow":
            table = pyarrow.parquet.ParquetFile(file)
            return table.schema_arrow.names, lambda names: table.iter_batches(columns=names)
        stream = pyarrow.ipc.open_stream(pyarrow.memory_map(str(file)))
        return stream.schema.names, lambda names: (batch.select(names) for batch in stream)
    except (pyarrow.ArrowInvalid, OSError) as error:
        kind = "an Arrow" if file.suffix == ".arrow" else "a Parquet"
        raise ValueError(f"{key}: {file} is not {kind} file: {error}") from None


def files_of(key: str, paths: Paths, endings: tuple[str, ...]) -> list[Path]:
    """The files of a path or several: a file, those of a pattern, or those of a folder with one of these endings."""
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str) else paths:
        files = [Path(path)]
        if Path(path).is_dir():
            files = _in_folder(key, Path(path), endings)
        elif not files[0].exists() and re.search(r"[*?[]", path):
            files = sorted(file for file in map(Path, glob.glob(path, recursive=True)) if file.is_file())
        if not files or not files[0].is_file():
            what = f"{' or '.join(endings)} file in" if Path(path).is_dir() else "file"
            raise ValueError(f"{key}: there is no {what} {path}; give the path of one")
        found += files
    return found


def _in_folder(key: str, folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files of a folder, of which those that are named after other splits than train are not trained on."""
    if (folder / SAVED).is_file():  # what datasets' save_to_disk wrote, beside which it may have cached other rows
        if endings == JSON_ENDINGS:
            raise ValueError(
                f"{key}: {folder} has the Arrow files of datasets' save_to_disk; give it as parquet: {folder}"
            )
        try:
            return [folder / entry["filename"] for entry in json.loads((folder / SAVED).read_bytes())["_data_files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / SAVED} does not list the files of a data set: {error!r}") from None
    files = sorted(file for file in folder.iterdir() if file.name.endswith(endings) and file.is_file())
    if key == "task.test":
        return files
    return [file for file in files if not _is_named(file, OTHER_SPLITS)] or files


def check_training_files(key: str, paths: Paths, endings: tuple[str, ...]) -> None:
    """Raises ValueError for a folder whose files are all named after other splits than train."""
    if isinstance(paths, str) and Path(paths).is_dir():
        names = [file.name for file in files_of(key, paths, endings) if _is_named(file, OTHER_SPLITS)]
        if names:  # files_of has these only where there are no others
            raise ValueError(
                f"{key}: all files of {paths} are named after test sets: {', '.join(names)}; name one to train on"
            )


def _is_named(file: Path, splits: str) -> bool:
    """Whether one of these words is a word of a file's name: in `gsm8k_test.jsonl`, not in `latest.jsonl`."""
    return re.search(rf"(?<![a-zA-Z])({splits})(?![a-zA-Z])", file.name) is not None


def split_path(paths: Paths, split: str) -> Paths | None:
    """What has a split of a training set, if that is one folder: in it a folder of its name, or files."""
    if not isinstance(paths, str) or not Path(paths).is_dir():
        return None
    if (Path(paths) / split).is_dir():
        return str(Path(paths) / split)
    every = [
        f for f in sorted(Path(paths).iterdir()) if f.name.endswith(JSON_ENDINGS + PARQUET_ENDINGS) and f.is_file()
    ]
    files = [str(file) for file in every if _is_named(file, re.escape(split))]
    others = [file.name for file in every if not _is_named(file, f"train|{OTHER_SPLITS}")]
    if files and others and split == "train":
        warnings.warn(f"of {paths} only the files named train are read, not {', '.join(others)}", stacklevel=2)
    return files or None


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
        if first.startswith("Dataset"):  # many, gsm8k among them, are not even known without TensorFlow
            first += (
                f" Prepare it where TensorFlow is, with: tfds build {name} --file_format=array_record; or give JSON "
                f"lines with task.jsonl, as scripts/get_data.py writes them"
            )
        raise ValueError(f"task.tfds: {name}, split {split!r}: {first}") from None
    for number in range(len(rows)):
        yield f"{name} {split} row {number + 1}", rows[number]


def column(where: str, row: Mapping[str, Any], name: str) -> Any:
    """A row's value in a column, or, by a name with dots, in a column of a column; bytes are text.

    Raises ValueError where there is no such column, and for text that is none.
    """
    value = _nested(row, name)
    if value is MISSING:
        raise ValueError(f"{where}: no column {name!r}; there are {', '.join(_names(row))}")
    try:
        value = value.decode("utf-8") if isinstance(value, bytes) else value
        _check_text(value)
    except UnicodeDecodeError:
        raise ValueError(f"{where}: column {name!r} is not UTF-8 text; it is {value!r:.80}") from None
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: column {name!r} has half a character, {error.object[error.start]!r}, a surrogate without its "
            f"other half; correct the row"
        ) from None
    return value


def _names(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row as settings name them, nested ones with dots."""
    return [
        f"{name}.{below}" if below else str(name)
        for name, value in row.items()
        for below in (value if isinstance(value, Mapping) and value else [""])
    ]


def _nested(row: Any, name: str) -> Any:
    if isinstance(row, Mapping) and name in row:
        return row[name]
    first, dotted, rest = name.partition(".")
    return _nested(row[first], rest) if dotted and isinstance(row, Mapping) and first in row else MISSING


def _check_text(value: Any) -> None:
    """Raises UnicodeEncodeError for a text, or one in a list or dict, that has lone surrogates."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Mapping):
        for key, below in value.items():
            _check_text(key)
            _check_text(below)
    elif isinstance(value, list | tuple):
        for below in value:
            _check_text(below)
