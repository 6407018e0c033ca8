"""A function with its abstract arguments compiles before there are arrays, for the shardings that they name."""

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.parallel.jitted import Jitted, abstract
from r1jax.parallel.mesh import sharding


def test_abstract_arguments_compile_and_arrays_run(mesh):
    rows = sharding(mesh, "B")
    shapes = jax.eval_shape(lambda: {"a": jnp.zeros((8, 2)), "b": jnp.zeros(8)})
    jitted = Jitted(jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree)), (abstract(shapes, rows),))
    compiled = jitted.compile()
    assert compiled.memory_analysis().argument_size_in_bytes == (8 * 2 + 8) * 4 // 8  # on each of 8 devices
    tree = jax.device_put({"a": np.ones((8, 2), np.float32), "b": np.zeros(8, np.float32)}, rows)
    for result in (jitted(tree), compiled(tree)):
        assert float(result["a"].sum()) == 32 and float(result["b"].sum()) == 8


def test_shardings_may_differ_by_leaf(mesh):
    shapes = jax.eval_shape(lambda: (jnp.zeros(8), jnp.zeros(())))
    rows, everywhere = abstract(shapes, (sharding(mesh, "B"), sharding(mesh, "")))
    assert rows.sharding == sharding(mesh, "B") and everywhere.sharding == sharding(mesh, "")
