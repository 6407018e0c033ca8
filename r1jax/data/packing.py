"""Packing: sequences of different lengths share rows of one width, so that few positions are padding.

    rows = first_fit([len(each.prompt) + len(each.completion) for each in demonstrations], width=72)
    batch = pack(demonstrations, rows, width=72, height=32)  # sequences that are lists on the host
    layout = lay_out(length_B, shards=8, microbatches=2, joined=512, width=1024)  # sequences that are on the devices

Letters: B sequences, M packed rows of W positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

HEIGHTS = 8  # how many different numbers of rows a packed stage may have: XLA compiles for each


class Demonstration(NamedTuple):
    """The ids of a prompt and of what follows it, stop token included.

    `earlier` are the places in the prompt, from and to, of the assistant's turns that are learned besides.
    """

    prompt: Sequence[int]
    completion: Sequence[int]
    earlier: Sequence[tuple[int, int]] = ()


class Packed(NamedTuple):
    """Rows of sequences one after another, each a prompt followed at once by its completion; int32 [M, W].

    `segment_MW` numbers a row's sequences from 1 (0: padding), `position_MW` counts from 0 in each of them, and
    `learned_MW` is 1 at the tokens of completions and earlier turns, which the position before them is trained to
    predict. The arrays are numpy's, or jax's once they are on the devices.
    """

    token_MW: Any
    segment_MW: Any
    position_MW: Any
    learned_MW: Any


class Layout(NamedTuple):
    """Where B sequences lie in M packed rows; int32.

    Sequences and rows come in blocks, one for each device and micro-batch, and indices count within a block:
    `source_MW` into its sequences, each `joined` positions long, `place_B` the first token of each into its rows.
    `segment_MW` and `position_MW` are those of `Packed`.
    """

    source_MW: Any
    segment_MW: Any
    position_MW: Any
    place_B: Any


def lay_out(length_B: np.ndarray, *, shards: int, microbatches: int, joined: int, width: int) -> Layout:
    """Packs sequences of these lengths (prompt and completion together) into rows of `width`, block by block.

    Block (s, m) has every sequence of the s-th of `shards` equal parts whose number in it is m modulo `microbatches`;
    its rows are numbered likewise. All blocks have as many rows as the fullest needs, rounded up to one of HEIGHTS.
    """
    members = np.arange(len(length_B)).reshape(shards, -1, microbatches).swapaxes(1, 2)  # shard, micro-batch, sequence
    blocks = [first_fit(length_B[block].tolist(), width) for block in members.reshape(-1, members.shape[2])]
    step = math.ceil(members.shape[2] / HEIGHTS)
    height = step * math.ceil(max(map(len, blocks)) / step)
    place_B = np.zeros(len(length_B), np.int32)
    # Rows in the order of the devices: shard, row of a block, micro-batch.
    source, segment, position = np.zeros((3, shards, height, microbatches, width), np.int32)
    for block, rows in enumerate(blocks):
        s, m = divmod(block, microbatches)
        lengths = length_B[members[s, m]].tolist()
        for r, number, i, where in _places(rows, lengths):
            source[s, r, m, where] = i * joined + np.arange(lengths[i])
            segment[s, r, m, where] = number
            position[s, r, m, where] = np.arange(lengths[i])
            place_B[members[s, m, i]] = r * width + where.start
    source, segment, position = (x.reshape(-1, width) for x in (source, segment, position))
    return Layout(source, segment, position, place_B)


def first_fit(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Which sequences share each row: the longest first, each into the first row with enough room."""
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
    demonstrations: Sequence[Demonstration],
    rows: Sequence[Sequence[int]],
    *,
    width: int,
    height: int,
) -> Packed:
    """Token ids → `height` rows of `width`; those after the last of `rows` are empty."""
    packed = Packed(*np.zeros((4, height, width), np.int32))
    lengths = [len(each.prompt) + len(each.completion) for each in demonstrations]
    for row, number, i, where in _places(rows, lengths):
        prompt, completion, earlier = demonstrations[i]
        packed.token_MW[row, where] = [*prompt, *completion]
        packed.segment_MW[row, where] = number
        packed.position_MW[row, where] = np.arange(lengths[i])
        for begin, end in [*earlier, (len(prompt), lengths[i])]:
            packed.learned_MW[row, where.start + begin : where.start + end] = 1
    return packed


def _places(rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> Iterator[tuple[int, int, int, slice]]:
    """(row, its number there from 1, sequence, its positions) of each sequence."""
    for row, sequences in enumerate(rows):
        start = 0
        for number, i in enumerate(sequences, start=1):
            yield row, number, i, slice(start, start + lengths[i])
            start += lengths[i]
