"""Tasks of data sets: the rows that were written come back, and rows that cannot be used are named."""

import json
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from r1jax.config.rewards import ExactReward
from r1jax.config.tasks import JsonlTask, ParquetTask, TfdsTask
from r1jax.rewards.example import Example
from r1jax.tasks import make_task
from r1jax.tasks.split import split_of
from r1jax.tasks.table import rows_table

SAMPLE = Path(__file__).parent.parent / "word_problems.jsonl"


def written(tmp_path, rows, name="rows.jsonl"):
    file = tmp_path / name
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


def problems(count, start=0):
    return [{"question": f"{i}+1?", "answer": i + 1, "more": "x" * 9} for i in range(start, start + count)]


def everything(task, split):
    return [task.example(split, i) for i in range(task.size(split))]


def test_sample_file():
    task = make_task(JsonlTask(jsonl=str(SAMPLE), answer_after="####"), 0)
    train, test = everything(task, "train"), everything(task, "test")
    assert len(train) + len(test) == 20 and train[2].answer == "1,200"
    for example in train + test:
        assert task.rewards["accuracy"](example, f"<think>r</think>So it is \\boxed{{{example.answer}}}.") == 1.0
        assert task.rewards["accuracy"](example, f"<think>r</think>So it is \\boxed{{1{example.answer}}}.") == 0.0


def test_the_held_out_rows_are_those_of_split_of(tmp_path):
    task = make_task(JsonlTask(jsonl=written(tmp_path, problems(200))), 0)
    train, test = everything(task, "train"), everything(task, "test")
    assert [e.question for e in train] == [f"{i}+1?" for i in range(200) if split_of(f"{i}+1?") == "train"]
    assert [e.answer for e in test] == [str(i + 1) for i in range(200) if split_of(f"{i}+1?") == "test"]


def test_with_a_test_file_nothing_is_held_out(tmp_path):
    test = written(tmp_path, problems(5, 100), "test.jsonl")
    task = make_task(JsonlTask(jsonl=written(tmp_path, ["", *problems(40), "  "]), test=test), 0)
    assert (task.size("train"), task.size("test")) == (40, 5)
    assert task.example("test", 4).question == "104+1?"


def test_test_rows_need_no_demonstration(tmp_path):
    """As in the configs of distillation, which train on R1's samples and are tested on MATH-500."""
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text('{"question": "1+1", "answer": "2", "completion": "<think>x</think>2"}\n')
    test.write_text('{"question": "1+2", "answer": "3"}\n')
    table = make_task(JsonlTask(jsonl=str(train), test=str(test), completion="completion"), 0)
    assert table.example("train", 0).demonstration == "<think>x</think>2"
    assert table.example("test", 0).demonstration is None and table.example("test", 0).answer == "3"


def test_columns_by_name_and_completions(tmp_path):
    chat = [{"role": "user", "content": "2+2?"}]
    rows = [{"q": chat if i % 2 else f"{i}?", "a": f"so #### no #### {i} ", "c": f"it is {i}"} for i in range(40)]
    file = written(tmp_path, rows)
    settings = JsonlTask(jsonl=file, test=file, question="q", answer="a", completion="c", answer_after="####")
    task = make_task(settings, 0)
    assert task.example("train", 1).question == chat
    assert (task.example("train", 6).answer, task.example("train", 6).demonstration) == ("6", "it is 6")
    assert set("it is?0123456789") <= set(task.symbols)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows to train on"),
        (["", " "], "no rows to train on"),
        (problems(1), "none to test on|no rows to train on"),
        ([*problems(2), "{"], r"rows\.jsonl:3: not a JSON object: "),
        ([*problems(1), "", "[1]"], r"rows\.jsonl:3: not a JSON object: \[1\]"),
        (["[" * 100_000], r"rows\.jsonl:1: not a JSON object"),
        ([{"question": "2?", "answer": 1}, {"question": "2?"}], r"rows\.jsonl:2: no column 'answer'; there are ques"),
        ([{"question": "2?", "answer": ""}], r":1: the gold answer in column 'answer' is empty"),
        ([{"question": "2?", "answer": None}], r":1: the gold answer in column 'answer' is empty"),
        ([{"question": "2?", "answer": [1, 2]}], r":1: column 'answer' is a list"),
        ([{"question": " ", "answer": 1}], r":1: column 'question' has neither text nor chat messages"),
        ([{"question": [{"role": "user"}], "answer": 1}], r":1: column 'question' has neither"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        make_task(JsonlTask(jsonl=written(tmp_path, rows)), 0)


def test_settings_that_do_not_fit_the_rows(tmp_path):
    file = written(tmp_path, problems(3))
    with pytest.raises(ValueError, match=r":1: column 'answer' has no '####'; correct the row or task\.answer_after"):
        make_task(JsonlTask(jsonl=file, answer_after="####"), 0)
    with pytest.raises(ValueError, match=":1: no column 'solution'"):
        make_task(JsonlTask(jsonl=file, completion="solution"), 0)
    with pytest.raises(ValueError, match=r"task\.test: there is no file nowhere"):
        make_task(JsonlTask(jsonl=file, test="nowhere"), 0)
    with pytest.raises(ValueError, match=r"task\.jsonl: there is no file"):
        make_task(JsonlTask(jsonl=str(tmp_path / "none")), 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"task\.jsonl: there is no \.jsonl or \.json or .* file in .*empty; give the"):
        make_task(JsonlTask(jsonl=str(tmp_path / "empty")), 0)


def test_bad_bytes_are_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"question": "1?", "answer": 1}\n{"question": "\xff?", "answer": 1}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: not a JSON object"):
        make_task(JsonlTask(jsonl=str(file)), 0)


def test_golds_that_do_not_verify_are_counted(tmp_path):
    rows = [*problems(40), {"question": "a?", "answer": "<answer>"}, {"question": "b?", "answer": "\\boxed{"}]
    file = written(tmp_path, rows)
    with pytest.warns(UserWarning, match=r"2 of 43 gold answers are .*rows\.jsonl:41: '<answer>'"):
        make_task(JsonlTask(jsonl=file, test=written(tmp_path, problems(1), "test.jsonl")), 0)


def test_missing_values_and_prose_are_no_golds(tmp_path):
    prose = "He sells 16 eggs, eats three of them, and then makes two dollars for each egg that is left over."
    rows = [*problems(40), {"question": "a?", "answer": float("nan")}, {"question": "b?", "answer": prose}]
    file, test = written(tmp_path, rows), written(tmp_path, problems(1), "test.jsonl")
    with pytest.warns(UserWarning, match=r"2 of 43 gold answers are missing values, prose .*rows\.jsonl:41: 'nan'"):
        make_task(JsonlTask(jsonl=file, test=test), 0)
    file = written(tmp_path, [{"question": f"{i}?", "answer": f"{prose} {i}"} for i in range(40)])
    with pytest.raises(ValueError, match=r"40 of 40 gold answers .*rows\.jsonl:1: .*correct task\.answer"):
        make_task(JsonlTask(jsonl=file), 0)


# Of the training set of GSM8K (Cobbe et al. 2110.14168), published under the MIT licence.
GSM8K = [
    {
        "question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
        "How many clips did Natalia sell altogether in April and May?",
        "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips "
        "altogether in April and May.\n#### 72",
    },
    {
        "question": "Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How "
        "much did she earn?",
        "answer": "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = "
        "$<<0.2*50=10>>10.\n#### 10",
    },
]


@pytest.mark.filterwarnings("error")
def test_gsm8k_as_it_is_published(tmp_path):
    file = written(tmp_path, GSM8K)
    task = make_task(JsonlTask(jsonl=file, test=written(tmp_path, problems(1), "test.jsonl")), 0)
    for index, (gold, other) in enumerate([("72", "24"), ("10", "50")]):
        example = task.example("train", index)
        for right in (
            rf"<think>r</think>\boxed{{{gold}}}",
            f"#### {gold}",
            f"She earned ${gold}.",
            GSM8K[index]["answer"],
        ):
            assert task.rewards["accuracy"](example, right) == 1.0
        assert task.rewards["accuracy"](example, rf"\boxed{{{other}}}") == 0.0


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    chat = [{"role": "user", "content": "2+2?"}]
    table = pyarrow.table({"id": [1, 2, 3], "prompt": [chat] * 3, "gold": [4, 4, 5]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    file = str(tmp_path / "rows.parquet")
    task = make_task(ParquetTask(parquet=file, test=file, question="prompt", answer="gold"), 0)
    assert [(e.question, e.answer) for e in everything(task, "train")] == [(chat, "4"), (chat, "4"), (chat, "5")]
    with pytest.raises(ValueError, match=r"no column 'q'; there are id, prompt, gold"):
        make_task(ParquetTask(parquet=file, question="q", answer="gold"), 0)
    (tmp_path / "rows.parquet").write_text("nothing")
    with pytest.raises(ValueError, match="is not a Parquet file"):
        make_task(ParquetTask(parquet=file), 0)


def test_tensorflow_datasets_by_folder_and_by_name(prepared, monkeypatch):
    constants = pytest.importorskip("tensorflow_datasets.core.constants")
    folder = make_task(TfdsTask(tfds=str(prepared / "sums" / "1.0.0"), answer_after="####"), 0)
    assert sorted(e.question for e in everything(folder, "train")) == sorted(f"{i} + 1 → ?" for i in range(40))
    for example in everything(folder, "test"):
        assert int(example.question.split()[0]) + 1 == int(example.answer)
    monkeypatch.setattr(constants, "DATA_DIR", str(prepared))
    named = make_task(TfdsTask(tfds="sums", answer_after="####"), 0)
    assert everything(named, "train") == everything(folder, "train")
    numbers = make_task(TfdsTask(tfds="sums", answer="n"), 0)
    assert {e.answer for e in everything(numbers, "test")} == {str(i) for i in range(40, 50)}
    assert "tensorflow" not in sys.modules


def test_tensorflow_datasets_that_cannot_be_read(prepared):
    folder = str(prepared / "sums" / "1.0.0")
    with pytest.raises(ValueError, match=r"split 'val': Unknown split 'val'\. Should be one of \['train', 'test'\]"):
        make_task(TfdsTask(tfds=folder, test="val"), 0)
    with pytest.raises(ValueError, match="Could not read dataset info"):
        make_task(TfdsTask(tfds=str(prepared)), 0)
    with pytest.raises(
        ValueError,
        match=r"^task.tfds: sumz, split 'train': Dataset sumz not found\. Prepare it where TensorFlow is, with: ",
    ):
        make_task(TfdsTask(tfds="sumz"), 0)


@pytest.mark.parametrize(
    ("package", "settings"),
    [
        ("pyarrow", ParquetTask(parquet=str(SAMPLE))),
        ("tensorflow_datasets", TfdsTask(tfds="sums")),
    ],
)
def test_a_missing_extra_is_named(monkeypatch, package, settings):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r'install it with: pip install "r1jax\[data\]"'):
        make_task(settings, 0)


def test_columns_for_rewards_are_plain(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    day = date(2020, 1, 1)
    rows = [{"question": f"{i}?", "answer": "1", "tests": [b"a", b"b"], "n": i, "day": day} for i in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    task = make_task(ParquetTask(parquet=str(tmp_path / "rows.parquet"), columns=["tests", "n"]), 0)
    first = task.example("train", 0)
    assert first.data == {"tests": ["a", "b"], "n": int(first.question[:-1])}
    with pytest.raises(ValueError, match=r"rows\.parquet row 1: column 'day' cannot be given to rewards: .*date"):
        make_task(ParquetTask(parquet=str(tmp_path / "rows.parquet"), columns=["day"]), 0)


def test_rows_in_python_are_split_as_those_of_a_file(tmp_path):
    task = make_task(problems(200), 0)
    file = make_task(JsonlTask(jsonl=written(tmp_path, problems(200)), columns=["more"]), 0)
    for split in ("train", "test"):
        assert everything(task, split) == everything(file, split)
    assert task.columns == ("more",)


def test_rows_in_python_with_demonstrations():
    chat = [{"role": "user", "content": "2+2?"}]
    rows = [
        {"question": chat, "answer": 4, "completion": "It is 4."},
        {"question": "q", "answer": "5", "completion": "5"},
    ]
    task = make_task([{"question": f"{i}?", "answer": i, "completion": "x"} for i in range(40)] + rows, 0)
    examples = [task.example(split, index) for split in ("train", "test") for index in range(task.size(split))]
    assert len(examples) == 42 and task.size("test") > 0
    assert Example(chat, "4", "It is 4.") in examples and Example("q", "5", "5") in examples


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows to train on"),
        (problems(1), "none to test on"),
        ([{"question": "2?", "answer": 1}, {"question": "2?"}], r"data, row 2: no column 'answer'; there are question"),
        ([*problems(1), {"question": "2?", "answer": 2}], "data, row 2: no column 'more'"),
        ([*problems(1), "q"], "data, row 2: got 'q'; need a dict with question and answer"),
        ([{"question": "2?", "answer": 2, "day": date(2020, 1, 1)}], "column 'day' cannot be given to rewards"),
    ],
)
def test_rows_in_python_that_cannot_be_used(rows, message):
    with pytest.raises(ValueError, match=message):
        make_task(rows, 0)


def test_rows_that_are_left_out_are_counted(tmp_path):
    talk = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    rows = [{"m": talk}, {"m": None}, {"m": talk[:1]}, {"m": talk[1:]}, {"m": []}]
    file, test = written(tmp_path, rows), written(tmp_path, rows[:1], "test.jsonl")
    why = "1 have no conversation, 2 have no turn before the assistant's"
    with pytest.warns(UserWarning, match=f"left out 3 of 6 rows: {why}$"):
        task = make_task(JsonlTask(jsonl=file, test=test, messages="m"), 0)
    assert [e.demonstration for e in everything(task, "train")] == ["4", None]
    with pytest.raises(ValueError, match="no rows to train on that can be used: 1 have no conversation; give one"):
        make_task(JsonlTask(jsonl=written(tmp_path, [{"m": None}]), test=test, messages="m"), 0)


def test_without_golds_nothing_is_compared(tmp_path):
    rows = [{"question": f"{i}?", "more": None} for i in range(40)]
    rewards = {"short": lambda example, completion: -len(completion), "same": ExactReward(name="exact")}
    task = make_task(JsonlTask(jsonl=written(tmp_path, rows), answer=None), 0, rewards=rewards)
    example = task.example("train", 0)
    assert example.answer == "" and task.rewards["short"](example, "abc") == -3
    assert task.rewards["accuracy"](example, "1") == task.rewards["same"](example, "1") == (None, "no_gold")


def test_conversations_in_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    talk = [{"from": "human", "value": "2+2?", "weight": 1}, {"from": "gpt", "value": "4"}]
    rows = [{"conversations": talk, "source": "x"}, {"conversations": talk[:1] + talk, "source": "x"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    file = str(tmp_path / "rows.parquet")
    task = make_task(ParquetTask(parquet=file, test=file, messages="conversations"), 0)
    user = {"role": "user", "content": "2+2?", "weight": 1}
    assert [(e.question, e.demonstration) for e in everything(task, "train")] == [("2+2?", "4"), ([user, user], "4")]


def test_training_rows_of_a_pass_rate(tmp_path):
    rates = [0.0, 0.25, 0.5, 0.75, 1.0, None, float("nan")]
    rows = [{"question": f"{i}?", "answer": i, "solve_rate": rate} for i, rate in enumerate(rates)]
    file, test = written(tmp_path, rows), written(tmp_path, [{"question": "t", "answer": 1}], "test.jsonl")
    settings = {"pass_rate": [0.25, 0.75], "pass_rate_column": "solve_rate"}
    why = r"2 have a pass rate that is not from 0\.25 to 0\.75, 2 have no pass rate"
    with pytest.warns(UserWarning, match=f"left out 4 of 8 rows: {why}$"):
        task = make_task(JsonlTask(jsonl=file, test=test, **settings), 0)
    assert [e.answer for e in everything(task, "train")] == ["1", "2", "3"] and task.size("test") == 1
    many = [{"question": f"{i}?", "answer": i, "solve_rate": i % 2} for i in range(200)]
    with pytest.warns(UserWarning, match="left out"):
        held_out = make_task(
            JsonlTask(jsonl=written(tmp_path, many), pass_rate=[1, 1], **{"pass_rate_column": "solve_rate"}), 0
        )
    assert {int(e.answer) % 2 for e in everything(held_out, "train")} == {1}
    assert {int(e.answer) % 2 for e in everything(held_out, "test")} == {0, 1}  # a curriculum leaves evaluation alone


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"pass_rate": 40}, r"column 'pass_rate' has 40; a pass rate is a number from 0 to 1"),
        ({"pass_rate": "0.4"}, r"column 'pass_rate' has '0\.4'; a pass rate"),
        ({"pass_rate": True}, "column 'pass_rate' has True"),
        ({}, "no column 'pass_rate'; there are question, answer"),
    ],
)
def test_pass_rates_that_are_none(row, message, tmp_path):
    file = written(tmp_path, [{"question": "1?", "answer": 1} | row])
    with pytest.raises(ValueError, match=message):
        make_task(JsonlTask(jsonl=file, test=file, pass_rate=[0, 1]), 0)


def test_pass_rates_in_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"question": f"{i}?", "answer": i, "pass_rate": i / 4} for i in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    pq.write_table(pa.table({"question": ["t"], "answer": [1]}), tmp_path / "test.parquet")
    files = {"parquet": str(tmp_path / "train.parquet"), "test": str(tmp_path / "test.parquet")}
    with pytest.warns(UserWarning, match="left out 3 of 6"):
        task = make_task(ParquetTask(**files, pass_rate=[0.2, 0.5]), 0)
    assert [e.answer for e in everything(task, "train")] == ["1", "2"]


def test_a_gold_answer_that_is_longer_than_any_graded_completion_is_not_graded():
    task = rows_table([{"question": f"{i}?", "answer": "1" * 2_000_000 if i == 3 else str(i)} for i in range(64)])
    begin = time.process_time()
    with pytest.warns(UserWarning, match="1 of 64 gold answers are missing values, prose or not accepted") as warned:
        task.check_golds()
    assert time.process_time() - begin < 5 and len(str(warned[0].message)) < 1000


def chat(*turns):
    return [{"role": role, "content": content} for role, content in zip(["user", "assistant"] * 2, turns, strict=False)]


CONVENTIONS = {
    "prompt and completion": ({"prompt": "{}?", "completion": "c{}"}, "{}?", "c{}"),
    "messages": ({"messages": chat("{}?", "c{}")}, "{}?", "c{}"),
    "prompt and completion of messages": (
        {"prompt": chat("{}?"), "completion": [{"role": "assistant", "content": "c{}"}]},
        chat("{}?"),
        "c{}",
    ),
    "question and completion": ({"question": "{}?", "completion": "c{}"}, "{}?", None),
    "content parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "{}"}, {"type": "text", "text": "?"}]}]},
        "{}?",
        None,
    ),
}


def with_number(value, i):
    return json.loads(json.dumps(value).replace("{}", str(i)))


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_columns_by_convention(name, kind, recwarn, tmp_path):
    row, question, demonstration = CONVENTIONS[name]
    rows = [with_number(row, i) for i in range(40)]
    if kind == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
        task = make_task(ParquetTask(parquet=str(tmp_path / "rows.parquet")), 0)
    else:
        task = make_task(JsonlTask(jsonl=written(tmp_path, rows)), 0)
    examples = everything(task, "train") + everything(task, "test")
    expected = {json.dumps([with_number(question, i), with_number(demonstration, i)]) for i in range(40)}
    assert {json.dumps([e.question, e.demonstration]) for e in examples} == expected
    assert not task.has_golds
    warned = [str(w.message) for w in recwarn if "no gold answers" in str(w.message)]
    assert bool(warned) == (name == "question and completion"), warned


def test_questions_alone_do_where_no_reward_needs_a_gold(tmp_path):
    rows = [{"prompt": f"{i}?", "gold": i} for i in range(40)]
    with pytest.warns(
        UserWarning, match="no column 'answer', so there are no gold answers .*; there are prompt, gold;"
    ):
        task = make_task(JsonlTask(jsonl=written(tmp_path, rows)), 0, rewards={"short": lambda e, c: -len(c)})
    assert task.rewards["accuracy"](task.example("train", 0), "1") == (None, "no_gold")
    with pytest.warns(UserWarning, match="no column 'answer'"):
        assert everything(make_task([{"question": f"{i}?"} for i in range(40)], 0), "train")


def test_an_image_is_no_text(tmp_path):
    content = [{"type": "text", "text": "1"}, {"type": "image", "url": "x"}]
    rows = [{"question": [{"role": "user", "content": content}], "answer": 1}]
    with pytest.raises(ValueError, match=r":1: column 'question' has neither text nor chat messages"):
        make_task(JsonlTask(jsonl=written(tmp_path, rows)), 0)


def test_a_list_with_one_gold(tmp_path):
    rows = [{"question": f"{i}?", "answer": [f"{i}"]} for i in range(40)]
    task = make_task(JsonlTask(jsonl=written(tmp_path, rows)), 0)
    assert all(e.question == f"{e.answer}?" for e in everything(task, "train"))
    rows[3]["answer"] = ["3", "three"]
    with pytest.raises(ValueError, match=r":4: column 'answer' is a list of 2; a gold answer is text or a number"):
        make_task(JsonlTask(jsonl=written(tmp_path, rows)), 0)


def test_the_same_questions_in_both_splits_or_with_other_golds_are_warned_of(recwarn, tmp_path):
    file, test = written(tmp_path, problems(40)), written(tmp_path, problems(3, 38), "test.jsonl")
    with pytest.warns(
        UserWarning, match=r"2 of 3 test questions are trained on, too; the first is '38\+1\?'; decontam"
    ):
        make_task(JsonlTask(jsonl=file, test=test), 0)
    rows = [*problems(40), {"question": "7+1?", "answer": 9}, {"question": "8+1?", "answer": 9}]
    with pytest.warns(UserWarning, match=r"1 of 42 rows have a question that another row answers .*rows\.jsonl:41$"):
        make_task(JsonlTask(jsonl=written(tmp_path, rows)), 0)
    recwarn.clear()
    make_task(JsonlTask(jsonl=written(tmp_path, [*problems(40), *problems(40)])), 0)  # repeated, and the same
    assert not recwarn.list
