"""Blocks of settings are frozen, strict about types, and know no other keys."""

import jax
import pytest
from pydantic import TypeAdapter, ValidationError

from r1jax.config.base import MAX_SEED, Length, Number, PositiveInt, Seed, Settings, Share, Size


class Block(Settings):
    steps: PositiveInt = 1
    share: Share = 0.5


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": "3"}, {"steps": 1.5}, {"share": 1.1}, {"share": -0.1}, {"step": 1}]
)
def test_what_a_block_refuses(wrong):
    with pytest.raises(ValidationError):
        Block.model_validate(wrong)


@pytest.mark.parametrize("value", [0.0, 1e-30, -1e-30, 1.0, 1e12, -1e12])
def test_numbers_that_float32_holds(value):
    assert TypeAdapter(Number).validate_python(value) == value


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e300, -1e300, 1e13, 1e-31])
def test_numbers_that_float32_may_lose(value):
    with pytest.raises(ValidationError, match=r"need a finite number, 0 or of a size from 1e-30 to 1e\+12"):
        TypeAdapter(Number).validate_python(value)


@pytest.mark.parametrize(
    ("kind", "most"),
    [(PositiveInt, 2**31 - 1), (Size, 10**6), (Length, 10**7), (Seed, 2**32 - 1)],
)
def test_the_largest_number_of_each_kind(kind, most):
    assert TypeAdapter(kind).validate_python(most) == most
    for more in (most + 1, 10**30):
        with pytest.raises(ValidationError, match=f"need at most {most:,}, "):
            TypeAdapter(kind).validate_python(more)


def test_a_larger_seed_would_repeat_a_smaller_one():
    assert jax.random.key_data(jax.random.key(MAX_SEED + 1)).tolist() == jax.random.key_data(jax.random.key(0)).tolist()
    assert jax.random.key_data(jax.random.key(MAX_SEED)).tolist() != jax.random.key_data(jax.random.key(0)).tolist()


def test_blocks_are_frozen():
    block = Block(steps=3)
    with pytest.raises(ValidationError, match="frozen"):
        block.steps = 4
    assert block.model_copy(update={"steps": 4}) != block
