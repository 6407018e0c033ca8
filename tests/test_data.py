"""Batches by step: the same rows whoever makes them, and limits that are kept."""

import numpy as np
import pytest

from r1jax.data import Batches
from r1jax.tasks.arithmetic import Arithmetic
from r1jax.tokenizer import CharacterTokenizer


def batches(prompt=6, completion=32):
    task = Arithmetic(0, min_digits=1, max_digits=2, direct_share=0.5)
    tokenizer = CharacterTokenizer(task.symbols)
    return Batches(task, tokenizer, max_prompt_length=prompt, max_completion_length=completion)


def test_rows_do_not_depend_on_who_makes_them():
    whole = batches().demonstrations(40, np.arange(8))
    part = batches().demonstrations(40, np.array([2, 3, 6]))
    for name, rows in whole.items():
        np.testing.assert_array_equal(rows[[2, 3, 6]], part[name])


def test_demonstrations_decode_to_the_examples():
    b = batches()
    rows = b.demonstrations(0, np.arange(4))
    for i in range(4):
        example = b.task.example("train", i)
        ids = rows["completion_BT"][i][: rows["length_B"][i]].tolist()
        assert ids[-1] == b.tokenizer.stop_ids[0] and b.tokenizer.decode(ids) == example.demonstration
        assert b.tokenizer.decode(rows["prompt_BS"][i].tolist()) == example.prompt


def test_limits():
    with pytest.raises(ValueError, match="max_prompt_length allows 1 to 3"):
        batches(prompt=3).prompts("train", 0, np.arange(8))
    with pytest.raises(ValueError, match="raise it"):
        batches(completion=8).demonstrations(0, np.arange(8))
