"""The rows of files come in order, each with its place."""

import json

import pytest

from r1jax.tasks.rows import column, jsonl_rows, numbered, parquet_rows


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


def test_columns():
    assert column("here", {"a": "é".encode()}, "a") == "é" and column("here", {"a": None}, "a") is None
    with pytest.raises(ValueError, match="here: no column 'b'; there are a"):
        column("here", {"a": 1}, "b")
    with pytest.raises(ValueError, match="here: column 'a' is not UTF-8 text"):
        column("here", {"a": b"\xff"}, "a")


def test_rows_in_python_are_numbered():
    assert list(numbered([{"a": 1}])) == [("data, row 1", {"a": 1})]
