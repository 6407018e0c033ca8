"""Checkpoints come back as they were saved, in their shardings; the oldest go, and a torn one is not named."""

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.parallel.jitted import abstract
from r1jax.parallel.mesh import sharding
from r1jax.training.checkpoint import Checkpoints


def test_what_is_saved_is_restored(mesh, tmp_path):
    weights = jax.device_put(jnp.arange(16.0), sharding(mesh, "B"))
    trees = {"params": {"w": weights}, "training": {"step": jnp.int32(3), "moments": {"w": 2 * weights}}}
    like = jax.tree.map(lambda x: abstract(x, x.sharding), trees)
    with Checkpoints(tmp_path / "rl", keep=2) as checkpoints:
        assert checkpoints.latest() is None and checkpoints.steps() == []
        for step in (3, 6, 9):
            checkpoints.save(step, jax.tree.map(lambda x, s=step: x + s, trees))
    (tmp_path / "rl" / "12.orbax-checkpoint-tmp-1").mkdir()  # what a killed save leaves
    with Checkpoints(tmp_path / "rl", keep=2) as checkpoints:
        assert checkpoints.steps() == [6, 9] and checkpoints.latest() == 9
        restored = checkpoints.restore(9, like)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 9), dict(restored), trees)
        assert restored["params"]["w"].sharding == weights.sharding
        assert checkpoints.restore(6, {"params": like["params"]}).keys() == {"params"}


def test_the_best_score_is_kept_beside_the_last_ones(tmp_path):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step, score in enumerate((0.5, 0.9, 0.9, 0.2), 1):
            checkpoints.save(step, {"params": {"w": jnp.full(2, step)}}, score)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.steps() == [3, 4]
        assert (checkpoints.latest(), checkpoints.final()) == (4, 3)
    with Checkpoints(tmp_path / "rising", keep=2) as checkpoints:
        for step in (1, 2):  # large enough that the second save is in flight when it is asked for
            checkpoints.save(step, {"params": {"w": jnp.full(2**22, step)}}, float(step))
        assert checkpoints.final() == 2
    with Checkpoints(tmp_path / "unscored", keep=2, scored=False) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"params": {"w": jnp.full(2, step)}})
    with Checkpoints(tmp_path / "unscored") as checkpoints:
        assert checkpoints.steps() == [2, 3] and checkpoints.final() == checkpoints.latest() == 3
