"""The cache: what is written, where, and what is read back."""

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.models.kv_cache import Cache, Prefix


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
        cache = Cache(jnp.array(k), jnp.array(2 * k), jnp.int32(3), jnp.arange(24))
        taken = jax.jit(Cache.rows)(cache, jnp.array([2, 0] * 8))
    expected = k.reshape(2, 8, 3, 1, 5, 2)[:, :, [2, 0]].reshape(2, 16, 1, 5, 2)
    np.testing.assert_array_equal(taken.k_LBKSH, expected)
    np.testing.assert_array_equal(taken.v_LBKSH, 2 * expected)
    np.testing.assert_array_equal(taken.began_B, np.arange(24).reshape(8, 3)[:, [2, 0]].ravel())
    assert int(taken.filled) == 3


def test_one_more_token_takes_the_oldest_slot():
    cache = Cache.empty((1, 2, 1, 3, 2), "float32")
    for token in range(5):
        cache = cache.write(jnp.int32(0), *[jnp.full((2, 1, 1, 2), token + 1.0)] * 2).advance(1)
    assert cache.layer(jnp.int32(0))[0][0, 0, :, 0].tolist() == [4, 5, 3]


def test_some_rows_of_a_prefix_are_replaced(mesh):
    """On 8 devices of 3 prompts: the second becomes the first of another prefix, the third its last."""
    old, new = (
        np.random.default_rng(seed).normal(size=(2, 8 * rows, 1, 5, 2)).astype(np.float32)
        for seed, rows in ((0, 3), (1, 4))
    )
    prefix, other = (
        Prefix(jnp.array(x), jnp.array(2 * x), jnp.array(range(first, first + x.shape[1])))
        for x, first in ((old, 0), (new, 100))
    )
    with jax.set_mesh(mesh):
        row_P, new_P = jnp.array([2, 0, 3] * 8), jnp.array([False, True, True] * 8)
        found = jax.jit(Prefix.with_rows)(prefix, other, row_P, new_P)
    expected, theirs = old.reshape(2, 8, 3, 1, 5, 2).copy(), new.reshape(2, 8, 4, 1, 5, 2)
    expected[:, :, 1], expected[:, :, 2] = theirs[:, :, 0], theirs[:, :, 3]
    np.testing.assert_array_equal(found.k_LPKSH, expected.reshape(old.shape))
    np.testing.assert_array_equal(found.v_LPKSH, 2 * expected.reshape(old.shape))
    lengths = [[3 * device, 100 + 4 * device, 103 + 4 * device] for device in range(8)]
    assert found.length_P.reshape(8, 3).tolist() == lengths
