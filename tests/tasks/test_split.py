"""The split of a problem: the same for ever, one in sixteen for testing, and never shared."""

import pytest

from r1jax.tasks.split import draw, split_of


def test_split_is_fixed():
    assert [i for i in range(64) if split_of(f"{i}+{i}") == "test"] == [22, 57, 63]


def test_one_in_sixteen_is_for_testing():
    share = sum(split_of(str(i)) == "test" for i in range(16_000)) / 16_000
    assert abs(share - 1 / 16) < 4 * (1 / 16 * 15 / 16 / 16_000) ** 0.5


def test_draw_depends_on_seed_split_and_index_alone():
    def number(split, seed, index):
        return draw(split, seed, index, lambda rng: rng.randrange(10**12), str)

    assert number("train", 0, 5) == number("train", 0, 5)
    drawn = {number(split, seed, index) for split in ("train", "test") for seed in (0, 1) for index in range(50)}
    assert len(drawn) == 200


def test_draw_stays_in_its_split():
    for split in ("train", "test"):
        for index in range(100):
            assert split_of(str(draw(split, 0, index, lambda rng: rng.randrange(10**6), str))) == split


def test_a_task_without_problems_of_a_split_is_refused():
    problem = next(str(i) for i in range(100) if split_of(str(i)) == "train")
    assert draw("train", 0, 0, lambda rng: problem, str) == problem
    with pytest.raises(ValueError, match="in the split test: the task has too few problems"):
        draw("test", 0, 0, lambda rng: problem, str)
