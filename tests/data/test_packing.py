"""Packing against rows by hand; no token is lost or truncated."""

import numpy as np
import pytest

from r1jax.data.packing import Demonstration, first_fit, pack


def test_first_fit_by_hand():
    assert first_fit([3, 8, 5, 2, 6], 10) == [[1, 3], [4, 0], [2]]
    assert first_fit([10, 10], 10) == [[0], [1]]
    assert first_fit([], 10) == []


@pytest.mark.parametrize("width", [20, 33, 100])
def test_every_example_once_in_rows_that_hold_it(width):
    lengths = np.random.default_rng(width).integers(1, 21, size=200).tolist()
    rows = first_fit(lengths, width)
    assert sorted(i for row in rows for i in row) == list(range(200))
    sums = [sum(lengths[i] for i in row) for row in rows]
    assert max(sums) <= width
    # Of two rows of first fit, the later one's longest example had no room in the earlier.
    assert all(a + max(lengths[i] for i in row) > width for a, row in zip(sums, rows[1:], strict=False))


def test_packed_by_hand():
    examples = [Demonstration([7, 8], [9, 1]), Demonstration([5], [6, 1]), Demonstration([3], [1])]
    packed = pack(examples, [[0, 2], [1]], width=6, height=3)
    assert packed.token_MW.tolist() == [[7, 8, 9, 1, 3, 1], [5, 6, 1, 0, 0, 0], [0] * 6]
    assert packed.segment_MW.tolist() == [[1, 1, 1, 1, 2, 2], [1, 1, 1, 0, 0, 0], [0] * 6]
    assert packed.position_MW.tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 0, 0], [0] * 6]
    assert packed.learned_MW.tolist() == [[0, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0], [0] * 6]


def test_earlier_turns_are_learned():
    packed = pack(
        [Demonstration([3], [1]), Demonstration([7, 8, 1, 5, 6, 1, 4], [9], [(1, 3), (5, 6)])],
        [[0, 1]],
        width=12,
        height=1,
    )
    assert packed.token_MW.tolist() == [[3, 1, 7, 8, 1, 5, 6, 1, 4, 9, 0, 0]]
    assert packed.learned_MW.tolist() == [[0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0]]
