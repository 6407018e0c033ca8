"""The cache: what is written, where, and what is read back."""

import jax.numpy as jnp
import numpy as np

from r1jax.models.kv_cache import Cache


def test_each_layer_is_written_after_the_filled_slots():
    cache = Cache.empty((2, 3, 5, 1, 2), "float32")
    written = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 1, 2)).astype(np.float32)  # layer, keys or values, ...
    for part in (slice(0, 3), slice(3, 4)):
        for layer in range(2):
            cache = cache.write(jnp.int32(layer), *(jnp.array(x[:, part]) for x in written[layer]))
        cache = cache.advance(part.stop - part.start)
    assert int(cache.filled) == 4
    for layer in range(2):
        for read, expected in zip(cache.layer(jnp.int32(layer)), written[layer], strict=True):
            np.testing.assert_array_equal(read[:, :4], expected)
            assert (np.asarray(read[:, 4:]) == 0).all()
