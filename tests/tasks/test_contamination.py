"""Shared questions against a naive loop over all pairs, by hand, and in GSM8K."""

import json
import os
import random
from pathlib import Path

import pytest

from r1jax.config.tasks import JsonlTask, MixturePart, MixtureTask, ParquetTask, TfdsTask
from r1jax.tasks import make_task
from r1jax.tasks.contamination import Contamination, evaluation_questions

GSM8K = Path(os.environ.get("GSM8K", "no folder"))  # with train.jsonl and test.jsonl
LONG = "Tom has three red apples and Ann has four green apples; how many do they have?"


def contaminated(questions, against, n=10):
    """The indices of the questions that are in a set, with the words that they share."""
    contamination = Contamination({"set": against}, n)
    return {i: found[1] for i, question in enumerate(questions) if (found := contamination.of(question))}


def naive(questions, against, n):
    """Every window of every question beside every window of every other, for texts of lower-case words and spaces."""
    found = set()
    for i, question in enumerate(questions):
        for other in against:
            one, two = question.split(), other.split()
            if len(one) < n and len(two) < n:
                same = one == two
            else:
                windows = [(a, b) for a in range(len(one) - n + 1) for b in range(len(two) - n + 1)]
                same = any(one[a : a + n] == two[b : b + n] for a, b in windows)
            if same:
                found.add(i)
    return found


@pytest.mark.parametrize("n", [1, 3, 10])
@pytest.mark.parametrize("seed", range(4))
def test_random_texts_against_a_loop_over_all_pairs(seed, n):
    draw = random.Random(f"{seed}/{n}")
    words = [draw.choice("abcdefg"[: 2 + n]) * draw.randint(1, 2) for _ in range(40)]
    pieces = [[draw.choice(words) for _ in range(draw.randint(1, 8))] for _ in range(12)]

    def texts(count):
        return [
            " ".join(word for piece in draw.choices(pieces, k=draw.randint(1, 4)) for word in piece)
            for _ in range(count)
        ]

    questions, against = texts(60), texts(20)
    found = contaminated(questions, against, n)
    assert set(found) == naive(questions, against, n)
    assert n == 1 or 0 < len(found) < 60
    assert all(shared in questions[i] and any(shared in text for text in against) for i, shared in found.items())


@pytest.mark.parametrize(
    ("question", "against"),
    [
        (LONG, LONG.upper()),
        (LONG, LONG.replace(";", " --").replace(" ", "  ")),
        ("First, " + LONG, LONG + " Explain!"),
        (LONG.replace("three", "$three$"), LONG),
        ("x + 1 = 3, x?", "X+1=3, x"),
        ("What is 2+2?", "what is 2 + 2"),
        ("小明有三个苹果他给了小红一个", "问题小明有三个苹果他给了小红"),
    ],
)
def test_the_same_question(question, against):
    assert list(contaminated([question], [against])) == [0]


@pytest.mark.parametrize(
    ("question", "against"),
    [
        (LONG, LONG.replace("Ann", "Eve")),
        (LONG, "How many do they have?"),
        ("What is 2+2?", "What is 2-2?"),
        ("What is 3.5?", "What is 35?"),
        ("1/2", "1"),
        ("", LONG),
    ],
)
def test_another_question(question, against):
    assert contaminated([question], [against]) == {}


def test_the_first_shared_words_are_named():
    assert contaminated(["So: " + LONG], [LONG]) == {0: "tom has three red apples and ann has four green"}
    assert contaminated(["What  is 2+2?"], ["what is 2 + 2"]) == {0: "What is 2+2?"}


def written(tmp_path, name, rows):
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / name)


def task_of(tmp_path, questions, name="train.jsonl", tests=("3+4?",)):
    train = written(tmp_path, name, [{"question": q, "answer": 1} for q in questions])
    test = written(tmp_path, f"test-{name}", [{"question": q, "answer": 1} for q in tests])
    return JsonlTask(jsonl=train, test=test)


def test_the_first_of_the_sets_is_named():
    contamination = Contamination({"a": ["1+1?"], "b": [LONG, "1+1?"]})
    assert [contamination.of(text) for text in ("1 + 1", "2+2?")] == [("a", "1 + 1"), None]
    assert contamination.of(LONG) == ("b", "tom has three red apples and ann has four green")


def test_training_questions_are_removed_and_kept_for_the_report(tmp_path):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": LONG}]
    questions = ["1+2?", LONG, "3+4?", chat, "5+6?", "7+8?", "9+9?"]
    task = make_task(task_of(tmp_path, questions), 0)
    contamination = Contamination({"math": [LONG], "sums": ["5+6?", LONG]})
    with pytest.warns(
        UserWarning, match=r"3 of 7 training questions of stage rl share 10 words .*\(2 of math, 1 of sums"
    ):
        contamination.clean(task, "rl")
    shared = "tom has three red apples and ann has four green"
    assert task.removed == [
        {"question": LONG, "set": "math", "shared": shared},
        {"question": LONG, "set": "math", "shared": shared},
        {"question": "5+6?", "set": "sums", "shared": "5+6?"},
    ]
    assert [task.example("train", i).question for i in range(task.size("train"))] == ["1+2?", "3+4?", "7+8?", "9+9?"]
    contamination.clean(task, "again")  # a task that two stages share has them removed once
    assert task.size("train") == 4 and len(task.removed) == 3 and task.size("test") == 1


def test_every_part_of_a_mixture(tmp_path):
    parts = [task_of(tmp_path, ["1+2?", "5+6?", "7+8?"]), task_of(tmp_path, ["0+0?", "3+4?"], "more.jsonl")]
    mixture = make_task(MixtureTask(mixture=[MixturePart(weight=1.0, task=part) for part in parts]), 0)
    with pytest.warns(UserWarning):
        Contamination({"set": ["5+6?", "3+4?"]}).clean(mixture, "sft")
    assert [part.size("train") for part in mixture.parts] == [2, 1]


def test_an_instruction_that_all_questions_share_is_refused(tmp_path):
    order = "Please reason step by step and put your final answer within a box."
    task = make_task(task_of(tmp_path, [f"{i}+1? {order}" for i in range(9)]), 0)
    with pytest.raises(
        ValueError, match=r"9 of 9 .*'please reason .*; if these words are an instruction, move it from"
    ):
        Contamination({"set": [order]}).clean(task, "rl")
    assert task.size("train") == 9


def test_the_questions_of_evaluation_sets(tmp_path):
    """Those of the test set, else of all rows, whatever columns a task would need besides."""
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "3?"}]
    file = written(tmp_path, "e.jsonl", [{"q": "1?"}, {"q": "2?"}, {"q": chat}])
    name, questions = evaluation_questions(JsonlTask(jsonl=file, question="q", completion="c", columns=["tests"]))
    assert name == file and list(questions) == ["1?", "2?", "3?"]
    test = written(tmp_path, "t.jsonl", [{"q": "4?"}])
    name, questions = evaluation_questions(JsonlTask(jsonl=file, test=test, question="q"))
    assert name == test and list(questions) == ["4?"]
    assert (
        evaluation_questions(ParquetTask(parquet="p"))[0] == "p" and evaluation_questions(TfdsTask(tfds="t"))[0] == "t"
    )


def test_evaluation_sets_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"decontaminate: task\.jsonl: there is no file nowhere"):
        list(evaluation_questions(JsonlTask(jsonl="nowhere"))[1])
    file = written(tmp_path, "e.jsonl", [{"problem": "1+2?"}])
    with pytest.raises(ValueError, match=r"decontaminate: .*e\.jsonl:1: no column 'question'; there are problem"):
        list(evaluation_questions(JsonlTask(jsonl=file))[1])


@pytest.mark.skipif(not GSM8K.is_dir(), reason="the environment variable GSM8K names no folder with the data set")
def test_gsm8k():
    """Eleven of 7,473, such as a question about stamps that is in both sets with other numbers."""
    lines = [(GSM8K / f"{split}.jsonl").read_text().splitlines() for split in ("train", "test")]
    train, test = ([json.loads(line)["question"] for line in each] for each in lines)
    found = contaminated(train, test)
    assert len(found) == 11 and set(contaminated(train[:500] + test[:9], test)) >= set(range(500, 509))
    assert any("bought stamps at the post office" in shared for shared in found.values())
