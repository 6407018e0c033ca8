"""The rows of files come in order, each with its place, and files of every kind that data sets are published in."""

import gzip
import json
import shutil

import pytest

from r1jax.config.tasks import JsonlTask, ParquetTask
from r1jax.tasks import make_task
from r1jax.tasks.contamination import evaluation_questions
from r1jax.tasks.rows import (
    JSON_ENDINGS,
    PARQUET_ENDINGS,
    column,
    files_of,
    jsonl_rows,
    numbered,
    parquet_rows,
    split_path,
)


def shards(tmp_path):
    for shard in (1, 0):
        lines = [json.dumps({"n": 2 * shard + i}) for i in range(2)]
        (tmp_path / f"train-{shard}.jsonl").write_text("\n\n".join(lines))
    (tmp_path / "train-2.jsonl").mkdir()
    return str(tmp_path / "train-*.jsonl")


def test_shards_come_in_the_order_of_their_names(tmp_path):
    rows = list(jsonl_rows("task.jsonl", shards(tmp_path)))
    assert [row["n"] for _, row in rows] == [0, 1, 2, 3]
    assert [where.rpartition("/")[2] for where, _ in rows] == [f"train-{s}.jsonl:{n}" for s in (0, 1) for n in (1, 3)]
    with pytest.raises(ValueError, match=r"task\.test: there is no file .*none-\*; give the path of one"):
        list(jsonl_rows("task.test", str(tmp_path / "none-*")))


def test_parquet_shards_and_columns(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for shard in range(2):
        pq.write_table(pa.table({"a": [shard, 9], "b": [["x"], []]}), tmp_path / f"{shard}.parquet")
    rows = list(parquet_rows(["b"], ["a", "c"], "task.parquet", str(tmp_path / "*.parquet")))
    # Columns that need not exist are read where they do.
    assert [row for _, row in rows] == [
        {"b": ["x"], "a": 0},
        {"b": [], "a": 9},
        {"b": ["x"], "a": 1},
        {"b": [], "a": 9},
    ] and rows[3][0].endswith("1.parquet row 2")
    with pytest.raises(ValueError, match=r"0\.parquet: no column 'c'; there are a, b"):
        list(parquet_rows(["a", "c"], [], "task.parquet", str(tmp_path / "0.parquet")))


def test_numbers_of_32_bits_are_those_that_were_written(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"a": pa.array([0.1, 3.14, None, 72.0], pa.float32()), "b": [0.1, 3.14, 1.0, 72.0]})
    pq.write_table(table, tmp_path / "0.parquet")
    rows = [row for _, row in parquet_rows(["a", "b"], [], "task.parquet", str(tmp_path / "0.parquet"))]
    assert [row["a"] for row in rows] == [0.1, 3.14, None, 72.0] and rows[0]["b"] == 0.1


def test_columns():
    assert column("here", {"a": "é".encode()}, "a") == "é" and column("here", {"a": None}, "a") is None
    with pytest.raises(ValueError, match="here: no column 'b'; there are a"):
        column("here", {"a": 1}, "b")
    with pytest.raises(ValueError, match="here: column 'a' is not UTF-8 text"):
        column("here", {"a": b"\xff"}, "a")


def test_rows_in_python_are_numbered():
    assert list(numbered([{"a": 1}])) == [("data, row 1", {"a": 1})]


ROWS = [{"question": f"{i}?", "answer": i} for i in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
FORMS = {
    "lines.jsonl": LINES.encode(),
    "array.json": json.dumps(ROWS).encode(),
    "pretty.json": b"\n" + json.dumps(ROWS, indent=2).encode(),
    "lines.jsonl.gz": gzip.compress(LINES.encode()),
    "array.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "marked.jsonl": b"\xef\xbb\xbf" + LINES.encode(),
    "returns.jsonl": LINES.replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_json(name, tmp_path):
    (tmp_path / name).write_bytes(FORMS[name])
    assert [row for _, row in jsonl_rows("task.jsonl", str(tmp_path / name))] == ROWS
    assert [row for _, row in jsonl_rows("task.jsonl", str(tmp_path))] == ROWS
    assert [row for _, row in jsonl_rows("task.jsonl", [str(tmp_path / name)] * 2)] == ROWS * 2


BROKEN = {
    "one object over many lines": (
        json.dumps(ROWS[0], indent=2).encode(),
        r":1: not a JSON object: .*; write each on a l",
    ),
    "UTF-16": (LINES.encode("utf-16"), ":1: UTF-16 text; save the file as UTF-8"),
    "UTF-16 without a mark": (LINES.encode("utf-16-le"), ":1: not a JSON object"),
    "half an array": (json.dumps(ROWS).encode()[:-5], ":1: not a JSON object, nor an array of them: "),
    "an array of numbers": (b"[1, 2]", ":1: not a JSON object in row 1 of an array: 1"),
    "an array after a row": (LINES.encode() + b"[1]", r":4: not a JSON object: \[1\]"),
    "no text": (bytes(range(200)), ":1: not a JSON object: "),
    "a number": (b"5", ":1: not a JSON object: 5"),
    "a number of 5000 digits": (b"9" * 5000, ":1: not a JSON object: "),
}


@pytest.mark.parametrize("what", BROKEN)
def test_files_that_are_none_are_one_line(what, tmp_path):
    content, reason = BROKEN[what]
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.jsonl{reason}") as caught:
        list(jsonl_rows("task.jsonl", str(tmp_path / "x.jsonl")))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "content", [gzip.compress(LINES.encode())[:-12], LINES.encode(), b""], ids=["cut", "text", "empty"]
)
def test_gzip_that_is_cut_or_none(content, tmp_path):
    (tmp_path / "x.jsonl.gz").write_bytes(content)
    if content:
        with pytest.raises(ValueError, match=r"^task\.jsonl: .*x\.jsonl\.gz cannot be read: "):
            list(jsonl_rows("task.jsonl", str(tmp_path / "x.jsonl.gz")))
    else:
        assert list(jsonl_rows("task.jsonl", str(tmp_path / "x.jsonl.gz"))) == []


@pytest.mark.parametrize("value", ["a\ud800", ["x", {"y": "\udfff"}], {"\ud800": 1}])
def test_half_a_character_is_one_line_that_names_the_row(value, tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"question": value, "answer": 1}))
    ((where, row),) = jsonl_rows("task.jsonl", str(tmp_path / "x.jsonl"))
    with pytest.raises(
        ValueError, match=r"x\.jsonl:1: column 'question' has half a character, '.u[0-9a-f]+', a surrog"
    ):
        column(where, row, "question")
    assert column("here", {"a": "\U0001d7d9 é"}, "a") == "\U0001d7d9 é"


def test_columns_of_columns():
    row = {"reward_model": {"ground_truth": "4", "style": {"name": "rule"}}, "a.b": 1, "a": {"b": 2}}
    assert column("here", row, "reward_model.ground_truth") == "4"
    assert column("here", row, "reward_model.style.name") == "rule"
    assert column("here", row, "a.b") == 1  # a name with a dot comes first
    for name in ("reward_model.gold", "reward_model.style.name.x", "none.x"):
        with pytest.raises(
            ValueError,
            match=f"here: no column '{name}'; there are reward_model.ground_truth, reward_model.style, a.b, a.b",
        ):
            column("here", row, name)


def test_columns_of_columns_in_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {"prompt": [{"role": "user", "content": f"{i}?"}], "reward_model": {"ground_truth": [f"{i}"]}} for i in range(9)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    file, other = str(tmp_path / "x.parquet"), str(tmp_path / "y.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:1]), other)
    with pytest.warns(UserWarning, match="1 of 1 test questions are trained on"):
        task = make_task(ParquetTask(parquet=file, test=other, answer="reward_model.ground_truth"), 0)
    example = task.example("train", 3)  # as verl's data has it
    assert (example.question, example.answer) == ([{"role": "user", "content": "3?"}], "3")


def test_folders_with_splits(tmp_path):
    """As repositories of data sets are laid out; what other splits are named after is not trained on."""
    for name, numbers in {"train-0": [0, 1], "train-1": [2], "test-0": [3], "validation-0": [4, 5]}.items():
        rows = [{"question": f"{i}?", "answer": i} for i in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "train.md").write_text("text")
    task = make_task(JsonlTask(jsonl=str(tmp_path)), 0)
    assert [task.example("train", i).answer for i in range(3)] == ["0", "1", "2"] and task.size("train") == 3
    assert [task.example("test", i).answer for i in range(task.size("test"))] == ["3"]
    task = make_task(JsonlTask(jsonl=str(tmp_path), test="validation"), 0)
    assert [task.example("test", i).answer for i in range(task.size("test"))] == ["4", "5"]
    with pytest.raises(ValueError, match=r"task\.test: there is no file none\(; give the path of one"):
        make_task(JsonlTask(jsonl=str(tmp_path), test="none("), 0)
    assert [file.name for file in files_of("k", str(tmp_path / "train-[1]*"), ())] == ["train-1.jsonl"]


@pytest.mark.parametrize("name", ["{}_0.jsonl", "gsm8k_{}.jsonl", "{}.jsonl.gz", "math.{}.jsonl", "{}2024-1.json"])
def test_names_of_splits(name, tmp_path):
    """The ways in which load_dataset would know them, too."""
    for split in ("train", "test", "validation"):
        file = tmp_path / name.format(split)
        line = b'{"question": "1?", "answer": 1}\n'
        file.write_bytes(gzip.compress(line) if file.suffix == ".gz" else line)
    assert [f.name for f in files_of("k", str(tmp_path), JSON_ENDINGS)] == [name.format("train")]
    assert len(files_of("task.test", str(tmp_path), JSON_ENDINGS)) == 3
    (tmp_path / "latest.jsonl").write_text("")
    with pytest.warns(UserWarning, match=r"only the files named train are read, not latest\.jsonl"):
        assert split_path(str(tmp_path), "train") == [str(tmp_path / name.format("train"))]
    (tmp_path / name.format("train")).unlink()
    (tmp_path / "latest.jsonl").unlink()
    with pytest.raises(ValueError, match=r"task\.jsonl: all files of .* are named after test sets: .*; name one to"):
        make_task(JsonlTask(jsonl=str(tmp_path)), 0)
    _, questions = evaluation_questions(JsonlTask(jsonl=str(tmp_path)))  # which may be all that is there
    assert [*questions] == ["1?"]
    assert split_path(str(tmp_path), "test") == [str(tmp_path / name.format("test"))]
    assert split_path(str(tmp_path), "dev") is None


@pytest.mark.parametrize("splits", [["train"], ["train", "test"], []])
def test_what_save_to_disk_writes(splits, tmp_path):
    """The layout of datasets' save_to_disk: Arrow streams beside state.json, in a folder for each split or in one."""
    pa = pytest.importorskip("pyarrow")
    for number, split in enumerate(splits or [""]):
        folder = tmp_path / split
        folder.mkdir(exist_ok=True)
        names = [f"data-{shard:05d}-of-00002.arrow" for shard in range(2)]
        for shard, name in enumerate(names):
            start = 100 * number + 20 * shard
            rows = [{"question": f"{i}?", "answer": i, "more": [i]} for i in range(start, start + 20)]
            table = pa.Table.from_pylist(rows)
            with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        shutil.copy(folder / names[0], folder / "cache-1f.arrow")  # as map and filter leave them there
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
        (folder / "dataset_info.json").write_text("{}")
    if splits:
        (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    task = make_task(ParquetTask(parquet=str(tmp_path), columns=["more"]), 0)
    answers = {
        split: [int(task.example(split, i).answer) for i in range(task.size(split))] for split in ("train", "test")
    }
    assert task.example("train", 0).data == {"more": [answers["train"][0]]}
    if "test" in splits:
        assert answers == {"train": [*range(40)], "test": [*range(100, 140)]}
    else:
        assert sorted(answers["train"] + answers["test"]) == [*range(40)] and answers["test"]
    with pytest.raises(ValueError, match="no column 'no'; there are question, answer, more"):
        make_task(ParquetTask(parquet=str(tmp_path), columns=["no"]), 0)
    with pytest.raises(ValueError, match="has the Arrow files of datasets' save_to_disk; give it as parquet: "):
        files_of("k", str(folder), JSON_ENDINGS)
    (folder / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"state.json does not list the files of a data set: KeyError"):
        files_of("k", str(folder), PARQUET_ENDINGS)


@pytest.mark.parametrize(("ending", "way"), [("parquet", "give it as parquet: "), ("csv", "write it as JSON lines")])
def test_files_of_other_kinds_are_named(ending, way, tmp_path):
    (tmp_path / f"a.{ending}").write_text("question,answer")
    with pytest.raises(ValueError, match=rf"task\.jsonl: .*a\.{ending} is not JSON; {way}"):
        make_task(JsonlTask(jsonl=str(tmp_path / f"a.{ending}")), 0)
