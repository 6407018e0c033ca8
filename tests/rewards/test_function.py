"""Reward functions of the user's own: both forms, in child processes and in this one, and every way to fail."""

import random

import numpy as np
import pytest

from r1jax.rewards.example import Completion, Example
from r1jax.rewards.function import in_process_function, load, subprocess_function
from r1jax.rewards.grading import grade

FUNCTIONS = """
import os, time

def ours(example, completion):
    return float(example.answer in completion) - 0.01 * completion.length

def trl(prompts, completions, solution, **kwargs):
    return [float(len(p)) if s in c else None for p, c, s in zip(prompts, completions, solution)]

def chat(prompts, completions, answer):
    return [float(completions[0][0]["content"] == answer[0] and prompts[0][0]["role"] == "user")]

async def trl_async(completions, **columns):
    return [0.5 for _ in completions]

async def ours_async(example, completion):
    return 0.25, "half"

def hangs(example, completion):
    while completion == "hang":
        time.sleep(1)
    return 1.0

def dies(example, completion):
    if completion == "die":
        os._exit(3)
    return 1.0

def raises(example, completion):
    return {"a": 1.0}[completion]

def word(example, completion):
    return (None, "no_idea") if completion == "?" else (0.0, "too_short")

def one(completion):
    return 1.0

def infinite(example, completion):
    return float("inf")

def trainer(completions, trainer_state):
    return [1.0]

value = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS)
    return path


def in_child(file, name, columns=(), seconds=60.0):
    return subprocess_function(f"{file}:{name}", columns=columns, seconds=seconds)


def in_process(file, name, columns=(), seconds=60.0):
    return in_process_function(load(f"{file}:{name}"), columns=columns)


QUESTION = Example("q", "4", data={"solution": "x"}, prompt="Q: q")


@pytest.mark.parametrize("own", [in_child, in_process])
def test_both_forms(own, file):
    assert own(file, "ours")(QUESTION, Completion("it is 4", length=5, truncated=False)) == pytest.approx(0.95)
    with pytest.raises((ValueError, AttributeError), match="'str' object has no attribute 'length'"):
        own(file, "ours")(QUESTION, "a bare text has no length in tokens")
    trl = own(file, "trl", ["solution"])
    assert trl(QUESTION, "x") == 4.0 and trl(QUESTION, "y") is None
    assert own(file, "trl_async")(QUESTION, "") == 0.5
    assert own(file, "ours_async")(QUESTION, "") == (0.25, "half")
    word = own(file, "word")
    assert word(QUESTION, "a") == (0.0, "too_short") and word(QUESTION, "?") == (None, "no_idea")
    chat = Example([{"role": "user", "content": "q"}], "4", prompt="user: q")
    assert own(file, "chat")(chat, "4") == 1.0
    assert own("operator", "contains") is not None


def graded(reward, texts):
    grades = grade([QUESTION], texts, {"r": reward})
    return [None if np.isnan(score) else float(score) for score in grades.scores["r"]], grades.reasons["r"]


def test_a_call_that_hangs_or_dies_affects_no_other(file):
    scores, reasons = graded(in_child(file, "hangs", seconds=3.0), ["a", "hang", "a", "a", "hang", "a"])
    assert scores == [1, None, 1, 1, None, 1]
    assert reasons == ["", "timeout", "", "", "timeout", ""]
    assert graded(in_child(file, "dies"), ["a", "die", "a"]) == ([1, None, 1], ["", "crash", ""])


@pytest.mark.parametrize("own", [in_child, in_process])
def test_a_call_that_raises_affects_no_other(own, file):
    with pytest.warns(UserWarning, match=r"reward r failed on 'Q: q'.*KeyError.*\(.*py, line \d+\)"):
        assert graded(own(file, "raises"), ["a", "b"]) == ([1, None], ["", "error"])
    with pytest.warns(UserWarning, match="gave inf"):
        graded(own(file, "infinite"), ["a"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{file}", "is written file.py:name"),
        ("{file}x.py:ours", "there is no file"),
        ("{file}:nothing", "has no function 'nothing'"),
        ("{file}:value", "has no function 'value'"),
        ("no.such.package:f", "cannot be loaded: No module named 'no'"),
        ("{file}:trl", "needs 'solution'; available are answer, completions, prompts, question, and task.columns"),
        ("{file}:trainer", "needs 'trainer_state'"),
        ("{file}:one", r"takes \(completion\); it has to take \(example, completion\), or"),
    ],
)
def test_refused_when_made(path, message, file):
    with pytest.raises(ValueError, match=message):
        subprocess_function(path.format(file=file), columns=(), seconds=5.0)


def test_imports_of_a_file_are_not_part_of_a_call(tmp_path):
    (tmp_path / "random.py").write_text(  # as a module of the standard library, which stays itself
        f"open({str(tmp_path / 'read')!r}, 'a').write('once')\n"
        "def f(example, completion):\n    import random\n    return random.Random(0).random()\n"
    )
    reward = subprocess_function(f"{tmp_path}/random.py:f", columns=(), seconds=60.0)
    assert (tmp_path / "read").read_text() == "once"
    assert reward(QUESTION, "x") == random.Random(0).random()
    assert (tmp_path / "read").read_text() == "once"
