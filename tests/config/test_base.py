"""Blocks of settings are frozen, strict about types, and know no other keys."""

import pytest
from pydantic import ValidationError

from r1jax.config.base import PositiveInt, Settings, Share


class Block(Settings):
    steps: PositiveInt = 1
    share: Share = 0.5


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": "3"}, {"steps": 1.5}, {"share": 1.1}, {"share": -0.1}, {"step": 1}]
)
def test_what_a_block_refuses(wrong):
    with pytest.raises(ValidationError):
        Block.model_validate(wrong)


def test_blocks_are_frozen():
    block = Block(steps=3)
    with pytest.raises(ValidationError, match="frozen"):
        block.steps = 4
    assert block.model_copy(update={"steps": 4}) != block
