"""Two generators of reasoning-gym, graded by themselves in a child process."""

import itertools
import json
import re
import sys

import pytest

from r1jax.config.tasks import GymTask
from r1jax.sandbox.workers import WorkerCrash, WorkerTimeout
from r1jax.tasks import make_task

pytest.importorskip("reasoning_gym")
TASKS = [
    GymTask(gym="chain_sum", size=48, arguments={"min_terms": 2, "max_terms": 3}),
    GymTask(gym="graph_color", size=16),
]


@pytest.fixture(scope="module")
def sums():
    return make_task(TASKS[0], 0)


@pytest.fixture(scope="module")
def colorings():
    return make_task(TASKS[1], 0)


def answered(answer):
    return f"<think>r</think><answer>{answer}</answer>"


def questions(task, split):
    return [task.example(split, i).question for i in range(task.size(split))]


def test_no_two_splits_share_a_problem(sums, colorings):
    for task, settings in zip((sums, colorings), TASKS, strict=True):
        assert (task.size("train"), task.size("test")) == (settings.size, settings.size // 16)
        assert not set(questions(task, "train")) & set(questions(task, "test"))


def test_problems_are_those_of_the_seed(sums, monkeypatch):
    monkeypatch.setattr("r1jax.tasks.gym.CHECKED", 0)  # starts no worker
    again, other = (questions(make_task(TASKS[0], seed), "train") for seed in (0, 1))
    assert again == questions(sums, "train")
    assert len(set(other) & set(again)) < 5


def test_chain_sum_is_scored(sums):
    for split in ("train", "test"):
        example = sums.example(split, 2)
        assert eval(example.question.rpartition(":")[2].strip(" =")) == int(example.answer)
        assert sums.rewards["accuracy"](example, answered(example.answer)) == 1.0
        assert sums.rewards["accuracy"](example, f"<think>r</think>It is \\boxed{{{example.answer}}}.") == 1.0
        assert sums.rewards["accuracy"](example, answered(int(example.answer) + 1)) < 1.0
        assert sums.rewards["accuracy"](example, f"<think>{example.answer}") == (0.0, "no_answer")
        assert sums.rewards["accuracy"](example, "") == (0.0, "no_answer")


def test_a_scorer_that_needs_the_problem_gets_it(colorings):
    """graph_color has no gold: any proper coloring is right, and its scorer reads the edges from the problem."""
    example = next(e for e in map(colorings.example, ["train"] * 16, range(16)) if "), (" in e.question)
    vertices = json.loads(re.search(r"Vertices: (\[.*?\])", example.question).group(1))
    edges = [tuple(map(int, edge)) for edge in re.findall(r"\((\d+), (\d+)\)", example.question)]
    all_colors = (dict(zip(vertices, c, strict=True)) for c in itertools.product((1, 2, 3), repeat=len(vertices)))
    proper = next(colors for colors in all_colors if all(colors[a] != colors[b] for a, b in edges))
    assert colorings.score(example, answered(json.dumps(proper))) == 1.0
    a, b = edges[0]
    assert colorings.score(example, answered(json.dumps(proper | {a: proper[b]}))) < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gym": "chain_sun"}, "reasoning-gym has no 'chain_sun'; the nearest are chain_sum"),
        ({"gym": "chain_sum", "arguments": {"terms": 3}}, "chain_sum has no 'terms'; it takes min_terms, max_terms"),
        ({"gym": "chain_sum", "arguments": {"seed": 3}}, "chain_sum has no 'seed'"),
        (
            {"gym": "chain_sum", "arguments": {"min_terms": 9, "max_terms": 2}},
            "chain_sum refuses .* must be >=",
        ),
        ({"gym": "isomorphic_strings", "size": 9}, "makes other problems in another process"),
    ],
)
def test_settings_that_cannot_be_used(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_task(GymTask(**arguments), 0)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(ValueError, match=r'task.gym needs reasoning-gym; install it with: pip install "r1jax\[gym\]"'):
        make_task(TASKS[0], 0)


class Broken:
    def __init__(self, error):
        self.error = error

    def call(self, *_):
        raise self.error


def test_a_scorer_that_hangs_scores_0_and_one_that_dies_none(sums, monkeypatch):
    example = sums.example("train", 0)
    monkeypatch.setattr(sums, "_workers", Broken(WorkerTimeout("late")))
    assert sums.score(example, answered("1")) == (0.0, "timeout")
    monkeypatch.setattr(sums, "_workers", Broken(WorkerCrash("died")))
    with pytest.warns(UserWarning, match="could not be scored: died"):
        assert sums.score(example, answered("1")) == (None, "crash")


def test_hostile_answers_leave_the_worker_alive(sums):
    example = sums.example("train", 0)
    sums.score(example, answered(example.answer))
    for text in ("9" * 100_000, "9**9**9**9", "(" * 10_000, "\0", "\ud800", "__import__('os').abort()"):
        assert sums.score(example, answered(text)) < 1.0  # no time-out, which is a pair
    assert sums.score(example, answered(example.answer)) == 1.0
