"""Meshes of 8 devices for `pytest.mark.parametrize`: those with an axis of 8, and enough of 2 x 2 x 2 that any two axes
meet; the other 26 run where --all-meshes is given."""

import itertools

import numpy as np
import pytest

from r1jax.parallel.mesh import AXES

EVERY_PAIR = [(2, 2, 2, 1, 1), (2, 1, 1, 2, 2), (1, 2, 1, 2, 2), (1, 1, 2, 2, 2)]
MESHES = [
    pytest.param(
        dict(zip(AXES, sizes, strict=True)),
        marks=() if 8 in sizes or sizes in EVERY_PAIR else pytest.mark.many_meshes,
        id="-".join(f"{axis}{n}" for axis, n in zip(AXES, sizes, strict=True) if n > 1),
    )
    for sizes in itertools.product((1, 2, 4, 8), repeat=5)
    if np.prod(sizes) == 8
]
