"""Multiple-choice questions with the columns of published data sets, and golds in each of their forms."""

import json

import pytest

from r1jax.config.rewards import ChoiceReward
from r1jax.config.tasks import JsonlTask, ParquetTask, TableTask
from r1jax.rewards.example import Example
from r1jax.tasks import make_task
from r1jax.tasks.choices import with_choices
from r1jax.tasks.columns import example_of
from r1jax.tasks.rows import UnusableRow

ASKED = "Which is even?"
LISTED = ASKED + "\n\nA) one\nB) two\nC) three"
TEXTS = ["one", "two", "three"]
# One row each, with the columns of the published data sets.
MMLU = {"question": ASKED, "subject": "numbers", "choices": TEXTS, "answer": 1}
ARC = {"id": "1", "question": ASKED, "choices": {"text": TEXTS, "label": ["A", "B", "C"]}, "answerKey": "B"}
ARC_NUMBERED = ARC | {"choices": {"text": TEXTS, "label": ["1", "2", "3"]}, "answerKey": "2"}
MEDQA = {"question": ASKED, "options": {"A": "one", "B": "two", "C": "three"}, "answer": "two", "answer_idx": "B"}
MMLU_PRO = {"question": ASKED, "options": TEXTS, "answer": "B", "answer_index": 1, "category": "numbers"}
HELLASWAG = {"ctx": ASKED, "endings": TEXTS, "label": "1"}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (MMLU, {"choices": "choices"}),
        (ARC, {"choices": "choices", "answer": "answerKey"}),
        (ARC_NUMBERED, {"choices": "choices", "answer": "answerKey"}),
        (MEDQA, {"choices": "options"}),
        (MEDQA, {"choices": "options", "answer": "answer_idx"}),
        (MMLU_PRO, {"choices": "options"}),
        (MMLU_PRO, {"choices": "options", "answer": "answer_index"}),
        (HELLASWAG, {"question": "ctx", "choices": "endings", "answer": "label"}),
    ],
)
def test_published_data_sets(row, columns):
    assert example_of(TableTask(**columns), "here", row) == Example(LISTED, "B", data={"choices": TEXTS})


@pytest.mark.parametrize("gold", [1, 1.0, "1", "B", "b", "(B)", "B.", "B)", " two ", "Two"])
def test_forms_of_a_gold(gold):
    assert with_choices("here", ASKED, TEXTS, gold) == (LISTED, TEXTS, "B")


def test_numbers_as_options():
    assert with_choices("here", "1+1?", [1, 2, 30], "30") == ("1+1?\n\nA) 1\nB) 2\nC) 30", ["1", "2", "30"], "C")
    assert with_choices("here", "1+1?", ["0", "1", "2"], "2")[2] == "C"  # its text and its position are one option
    assert with_choices("here", "1+1?", ["1", "2", "3"], 2)[2] == "C"  # a number is a position


@pytest.mark.parametrize(
    ("options", "gold", "reason"),
    [
        (["1", "2", "3"], "2", "a gold answer that names two choices"),
        (["B", "A"], "A", "a gold answer that names two choices"),
        (["x", "y", "y"], "y", "a gold answer that names two choices"),
        (["x"], 0, "fewer than two choices"),
        (None, 0, "fewer than two choices"),
    ],
)
def test_rows_that_are_left_out(options, gold, reason):
    with pytest.raises(UnusableRow, match=f"^{reason}$"):
        with_choices("here", ASKED, options, gold)


@pytest.mark.parametrize(
    ("options", "gold", "message"),
    [
        (TEXTS, 3, "the gold answer 3 is none of the choices one, two, three; need a position from 0, a letter"),
        (TEXTS, -1, "the gold answer -1 is none of the choices"),
        (TEXTS, "D", "the gold answer 'D' is none of the choices"),
        (TEXTS, True, "the gold answer True is none of the choices"),
        ("one two", 0, "the choices are 'one two'; need a list of 2 to 26 texts"),
        ([["one"], ["two"]], 0, "the choices are"),
        ([str(i) for i in range(27)], 0, "the choices are"),
        ({"label": ["A"], "text": TEXTS}, 0, "the choices are"),
    ],
)
def test_columns_with_something_else_are_refused(options, gold, message):
    with pytest.raises(ValueError, match=f"^here: {message}"):
        with_choices("here", ASKED, options, gold)


def test_chat_questions_and_rows_without_a_gold():
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
    question, texts, gold = with_choices("here", chat, TEXTS, "")
    assert question == [chat[0], {"role": "user", "content": LISTED}] and (texts, gold) == (TEXTS, "")
    assert chat[1]["content"] == ASKED


def test_a_marker_before_the_gold():
    settings = TableTask(choices="choices", answer_after="####")
    assert example_of(settings, "here", MMLU | {"answer": "Since 2 is even. #### B"}).answer == "B"
    assert example_of(settings, "here", MMLU).answer == "B"
    with pytest.raises(ValueError, match="here: column 'answer' has no '####'"):
        example_of(settings, "here", MMLU | {"answer": "B"})


def test_both_rewards_grade_the_letter(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(MMLU | {"question": f"{i}: {ASKED}"}) + "\n" for i in range(40))
    )
    file = str(tmp_path / "rows.jsonl")
    rewards = {"letter": ChoiceReward(name="choice")}
    task = make_task(JsonlTask(jsonl=file, choices="choices", columns=["choices", "subject"]), 0, rewards=rewards)
    example = task.example("train", 0)
    assert example.data == {"choices": TEXTS, "subject": "numbers"} and set(task.columns) == {"choices", "subject"}
    for name in ("accuracy", "letter"):
        right, wrong = (task.rewards[name](example, f"<think>r</think><answer>{a}</answer>") for a in ("B", "C"))
        assert right == 1.0 and wrong == 0.0
    assert task.rewards["letter"](example, "<think>r</think><answer>two</answer>") == 1.0


def test_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = str(tmp_path / "arc.parquet")
    pq.write_table(pa.Table.from_pylist([ARC, ARC_NUMBERED]), file)
    task = make_task(ParquetTask(parquet=file, test=file, choices="choices", answer="answerKey"), 0)
    assert [task.example("train", i).answer for i in range(2)] == ["B", "B"]
    pq.write_table(pa.Table.from_pylist([MEDQA]), file)
    task = make_task(ParquetTask(parquet=file, test=file, choices="options"), 0)
    assert task.example("train", 0).question == LISTED
