"""The cache: what is written, where, and what is read back."""

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.models.kv_cache import Cache


def test_each_layer_is_written_after_the_filled_slots():
    cache = Cache.empty((2, 3, 1, 5, 2), "float32")
    written = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 1, 2)).astype(np.float32)  # layer, keys or values, ...
    for part in (slice(0, 3), slice(3, 4)):
        for layer in range(2):
            cache = cache.write(jnp.int32(layer), *(jnp.array(x[:, part]) for x in written[layer]))
        cache = cache.advance(part.stop - part.start)
    assert int(cache.filled) == 4
    for layer in range(2):
        for read, expected in zip(cache.layer(jnp.int32(layer)), written[layer], strict=True):
            np.testing.assert_array_equal(read[:, :, :4].swapaxes(1, 2), expected)
            assert (np.asarray(read[:, :, 4:]) == 0).all()
            np.testing.assert_array_equal(
                cache.layer(jnp.int32(layer), 2)[0], cache.layer(jnp.int32(layer))[0][:, :, :2]
            )


def test_rows_are_taken_on_each_device_from_its_own(mesh):
    """On 8 devices of 3 rows, row 2 and row 0 of each."""
    k = np.random.default_rng(0).normal(size=(2, 24, 1, 5, 2)).astype(np.float32)
    with jax.set_mesh(mesh):
        taken = jax.jit(Cache.rows)(Cache(jnp.array(k), jnp.array(2 * k), jnp.int32(3)), jnp.array([2, 0] * 8))
    expected = k.reshape(2, 8, 3, 1, 5, 2)[:, :, [2, 0]].reshape(2, 16, 1, 5, 2)
    np.testing.assert_array_equal(taken.k_LBKSH, expected)
    np.testing.assert_array_equal(taken.v_LBKSH, 2 * expected)
    assert int(taken.filled) == 3
