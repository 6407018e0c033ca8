"""Pairs and labels, with the columns of the published data sets."""

import json

import pytest

from r1jax.config.tasks import JsonlTask, ParquetTask, TableTask
from r1jax.tasks import make_task
from r1jax.tasks.columns import example_of
from r1jax.tasks.rows import UnusableRow

ASKED = {"role": "user", "content": "2+2?"}


def said(content):
    return {"content": content, "role": "assistant"}


ULTRAFEEDBACK = {
    "prompt": "2+2?",
    "prompt_id": "f0e37e9f7800261167ce91143f98f511f768847236f133f2d0aed60b444ebe57",
    "chosen": [ASKED, said("4")],
    "rejected": [ASKED, said("5")],
    "messages": [ASKED, said("4")],
    "score_chosen": 8.5,
    "score_rejected": 3.0,
}
HELPSTEER3 = {
    "domain": "stem",
    "language": "english",
    "context": [ASKED, said("4"), {"role": "user", "content": "Sure?"}],
    "response1": "Yes.",
    "response2": "No.",
    "overall_preference": -2,
    "individual_preference": [{"score": -2, "reasoning": "r", "feedback1": "a", "feedback2": "b"}],
}
HELPSTEER2 = {
    "split": "train",
    "prompt": "2+2?",
    "response_1": "5",
    "response_2": "4",
    "preference_strength": 3,
    "preference_statement": "Response 2 is right.",
}
BEAVERTAILS = {"prompt": "2+2?", "response": "4", "category": {"violence": False}, "is_safe": True}
PAIR = {"question": "2+2?", "good": "4", "bad": "5"}

STEER3 = TableTask(question="context", chosen="response1", rejected="response2", preference="overall_preference")
STEER2 = TableTask(question="prompt", chosen="response_1", rejected="response_2", preference="preference_strength")
GOOD = TableTask(chosen="good", rejected="bad")


def test_pairs_as_they_are_published():
    example = example_of(TableTask(chosen="chosen", rejected="rejected"), "here", ULTRAFEEDBACK)
    assert (example.question, example.answer, example.data) == ("2+2?", "", {"chosen": "4", "rejected": "5"})
    example = example_of(STEER3, "here", HELPSTEER3)
    assert example.question == HELPSTEER3["context"] and example.data == {"chosen": "Yes.", "rejected": "No."}
    example = example_of(STEER2, "here", HELPSTEER2)
    assert (example.question, example.data) == ("2+2?", {"chosen": "4", "rejected": "5"})


def test_the_question_is_what_the_messages_have_before_the_response():
    before = [ASKED, said("4"), {"role": "user", "content": "Sure?"}]
    row = {"good": [*before, said("Yes.")], "bad": [*before, said("No.")], "question": "another"}
    assert example_of(GOOD, "here", row).question == before
    row = {"good": [said("4")], "bad": [said("5")], "question": "2+2?"}
    assert example_of(GOOD, "here", row).question == "2+2?"
    with pytest.raises(ValueError, match="here: no column 'question'; there are good, bad"):
        example_of(GOOD, "here", {"good": "4", "bad": "5"})


@pytest.mark.parametrize(("number", "chosen"), [(-3, "Yes."), (-0.5, "Yes."), (1, "No."), (2.5, "No.")])
def test_the_sign_of_a_preference(number, chosen):
    assert example_of(STEER3, "here", HELPSTEER3 | {"overall_preference": number}).data["chosen"] == chosen


@pytest.mark.parametrize(
    ("settings", "row", "reason"),
    [
        (STEER3, HELPSTEER3 | {"overall_preference": 0}, "a tie"),
        (STEER3, HELPSTEER3 | {"overall_preference": None}, "no preference"),
        (STEER3, HELPSTEER3 | {"overall_preference": float("nan")}, "no preference"),
        (GOOD, PAIR | {"bad": "4"}, "the same response twice"),
        (GOOD, PAIR | {"bad": " "}, "an empty response"),
        (GOOD, PAIR | {"good": None}, "an empty response"),
        (GOOD, PAIR | {"good": []}, "an empty response"),
        (GOOD, PAIR | {"good": [ASKED, said(" ")]}, "an empty response"),
        (GOOD, {"good": [ASKED, said("4")], "bad": [ASKED, ASKED, said("5")]}, "responses to two different questions"),
    ],
)
def test_rows_that_prefer_neither_are_left_out(settings, row, reason):
    with pytest.raises(UnusableRow, match=f"^{reason}$"):
        example_of(settings, "here", row)


@pytest.mark.parametrize(
    ("settings", "row", "message"),
    [
        (
            STEER3,
            HELPSTEER3 | {"overall_preference": "A"},
            "column 'overall_preference' has 'A'; a preference is a num",
        ),
        (STEER3, HELPSTEER3 | {"overall_preference": True}, "has True; a preference is a number"),
        (GOOD, PAIR | {"good": [said("4"), ASKED]}, "column 'good' has neither a text nor chat messages that end with"),
        (GOOD, PAIR | {"good": 4}, "column 'good' has neither a text"),
        (GOOD, {"question": "2+2?", "good": "4"}, "no column 'bad'; there are question, good"),
    ],
)
def test_columns_with_something_else_are_refused(settings, row, message):
    with pytest.raises(ValueError, match=f"^here: .*{message}"):
        example_of(settings, "here", row)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (True, 1),
        (False, 0),
        (1, 1),
        (0, 0),
        (1.0, 1),
        ("safe", 1),
        (" Unsafe", 0),
        ("True", 1),
        ("0", 0),
        ("harmful", 0),
    ],
)
def test_labels(value, label):
    settings = TableTask(question="prompt", response="response", label="is_safe")
    example = example_of(settings, "here", BEAVERTAILS | {"is_safe": value})
    assert (example.question, example.data) == ("2+2?", {"response": "4", "label": label})


def test_labels_that_are_missing_or_unknown():
    settings = TableTask(question="prompt", response="response", label="is_safe")
    with pytest.raises(UnusableRow, match="no label"):
        example_of(settings, "here", BEAVERTAILS | {"is_safe": None})
    with pytest.raises(UnusableRow, match="an empty response"):
        example_of(settings, "here", BEAVERTAILS | {"response": ""})
    for value in ("rude", 2, 0.5):
        with pytest.raises(ValueError, match=f"column 'is_safe' has {value!r}; a label is one of safe, unsafe"):
            example_of(settings, "here", BEAVERTAILS | {"is_safe": value})


def test_ties_are_counted_and_the_texts_are_in_the_alphabet(tmp_path):
    rows = [HELPSTEER2 | {"prompt": f"{i}?", "preference_strength": i % 3 - 1} for i in range(90)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(UserWarning, match="left out 30 of 90 rows: 30 have a tie$"):
        task = make_task(JsonlTask(jsonl=str(file), columns=["split"], **STEER2.model_dump(exclude={"columns"})), 0)
    assert task.size("train") + task.size("test") == 60 and task.columns == ("chosen", "rejected", "split")
    assert {"4", "5"} <= set(task.symbols)


@pytest.mark.parametrize("columns", [{}, {"prompt": "2+2?"}])
def test_parquet_needs_no_question_where_the_messages_have_it(columns, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    row = {"chosen": ULTRAFEEDBACK["chosen"], "rejected": ULTRAFEEDBACK["rejected"], **columns}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "pairs.parquet")
    file = str(tmp_path / "pairs.parquet")
    task = make_task(ParquetTask(parquet=file, test=file, question="prompt", chosen="chosen", rejected="rejected"), 0)
    assert task.example("train", 0).data == {"chosen": "4", "rejected": "5"}
