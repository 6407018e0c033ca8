"""What the worker of a reasoning-gym task computes: the generator's own score, for the same problem alone."""

import pytest

pytest.importorskip("reasoning_gym")
from r1jax.rewards.gym_worker import score

SETTINGS = {"min_terms": 2, "max_terms": 2, "seed": 7, "size": 20}


def problem(index):
    from reasoning_gym.factory import create_dataset

    return create_dataset("chain_sum", **SETTINGS)[index]


def test_the_generator_scores_its_own_problem():
    made = problem(3)
    assert score("chain_sum", SETTINGS, 3, made["question"], made["answer"]) == 1.0
    assert score("chain_sum", SETTINGS, 3, made["question"], str(int(made["answer"]) + 1)) < 1.0


def test_an_answer_that_the_scorer_cannot_read_scores_0_or_little():
    assert score("chain_sum", SETTINGS, 3, problem(3)["question"], "\0") < 1.0


def test_another_problem_than_the_one_asked_is_refused():
    with pytest.raises(ValueError, match=r"task\.gym: chain_sum makes other problems in another process"):
        score("chain_sum", SETTINGS, 4, problem(3)["question"], "1")
