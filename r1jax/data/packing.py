"""Sequences of different lengths in rows of one width, so that few positions are spent on padding.

    rows = first_fit([len(prompt) + len(completion) for prompt, completion in examples], width=72)
    batch = pack(examples, rows, width=72, height=32)  # worked examples, from the host
    layout = lay_out(length_B, shards=8, microbatches=2, joined=512, width=1024)  # samples, which are on the devices

Letters: B sequences (in Packed: rows), T positions, R packed rows of W positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

HEIGHTS = 8  # how many different numbers of rows a packed stage may see: each is compiled


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


class Layout(NamedTuple):
    """Where B sequences lie in R packed rows; int32.

    Sequences and rows come in blocks, one for each device and micro-batch, and indices count within a block:
    `source_RW` into its sequences, each `joined` positions long, `place_B` the first token of each into its rows.
    `segment_RW` numbers a row's sequences from 1 (0: padding), `position_RW` counts from 0 in each of them.
    """

    source_RW: Any
    segment_RW: Any
    position_RW: Any
    place_B: Any


def lay_out(length_B: np.ndarray, *, shards: int, microbatches: int, joined: int, width: int) -> Layout:
    """Packs sequences of these lengths (of prompt and completion) into rows of `width`, block by block.

    Block (s, m) has every sequence of the s-th of `shards` equal parts whose number in it is m modulo `microbatches`;
    its rows are numbered likewise. All blocks have as many rows as the fullest needs, rounded up to one of HEIGHTS.
    """
    index_SMB = np.arange(len(length_B)).reshape(shards, -1, microbatches).swapaxes(1, 2)
    blocks = [first_fit(length_B[index_B].tolist(), width) for index_B in index_SMB.reshape(-1, index_SMB.shape[2])]
    step = math.ceil(index_SMB.shape[2] / HEIGHTS)
    height = step * math.ceil(max(map(len, blocks)) / step)
    place_B = np.zeros(len(length_B), np.int32)
    # Rows in the order of the devices: shard, row of a block, micro-batch.
    source, segment, position = np.zeros((3, shards, height, microbatches, width), np.int32)
    for block, rows in enumerate(blocks):
        s, m = divmod(block, microbatches)
        for r, members in enumerate(rows):
            start = 0
            for number, i in enumerate(members, start=1):
                sequence = index_SMB[s, m, i]
                count = int(length_B[sequence])
                end = start + count
                source[s, r, m, start:end] = i * joined + np.arange(count)
                segment[s, r, m, start:end] = number
                position[s, r, m, start:end] = np.arange(count)
                place_B[sequence] = r * width + start
                start = end
    source, segment, position = (x.reshape(-1, width) for x in (source, segment, position))
    return Layout(source, segment, position, place_B)


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
