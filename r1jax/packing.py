"""Worked examples of different lengths in rows of one width, so that few positions are spent on padding.

    rows = first_fit([len(prompt) + len(completion) for prompt, completion in examples], width=72)
    batch = pack(examples, rows, width=72, height=32)

Letters: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Packed(NamedTuple):
    """Rows of examples one after another, each a prompt followed at once by its completion; int32 [B, T].

    `segment_BT` numbers a row's examples from 1 (0: padding), `position_BT` counts from 0 in each of them, and
    `learned_BT` is 1 at the tokens of completions, which are to be predicted from the position before. The arrays are
    numpy's, or jax's once they are on the devices.
    """

    token_BT: Any
    segment_BT: Any
    position_BT: Any
    learned_BT: Any


def first_fit(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Which examples share each row: the longest first, each into the first row that has room for it."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((r for r, free in enumerate(room) if free >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def pack(
    examples: Sequence[tuple[Sequence[int], Sequence[int]]], rows: Sequence[Sequence[int]], *, width: int, height: int
) -> Packed:
    """(prompt, completion) token ids → `height` rows of `width`, of which those after the last in `rows` are empty."""
    packed = Packed(*np.zeros((4, height, width), np.int32))
    for row, indices in enumerate(rows):
        start = 0
        for segment, index in enumerate(indices, start=1):
            prompt, completion = examples[index]
            end = start + len(prompt) + len(completion)
            packed.token_BT[row, start:end] = [*prompt, *completion]
            packed.segment_BT[row, start:end] = segment
            packed.position_BT[row, start:end] = np.arange(end - start)
            packed.learned_BT[row, start + len(prompt) : end] = 1
            start = end
    return packed
