"""Splash attention, interpreted on a CPU, against the plain attention: values and gradients, packed and on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.training import MeshSettings
from r1jax.models import attention, splash
from r1jax.parallel.mesh import make_mesh

B, T, N, K, H = 2, 128, 4, 2, 64


def some(*shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("axes", [None, {"data": 2, "fsdp": 1, "tensor": 2, "expert": 1, "context": 2}])
@pytest.mark.parametrize("packed", [False, True])
def test_equals_the_plain_attention(packed, axes):
    q, k, v, y = some(B, T, N, H, seed=0), some(B, T, K, H, seed=1), some(B, T, K, H, seed=2), some(B, T, N, H, seed=3)
    segments_BT = jnp.asarray(np.arange(T)[None] // np.array([[50], [90]]), jnp.int32) if packed else None

    def pulled(function):
        value, pull = jax.vjp(function, q, k, v)
        return value, *pull(y)

    with jax.numpy_rank_promotion("allow"), jax.default_matmul_precision("float32"):
        plain = jax.jit(lambda: pulled(lambda *x: attention.attend(*x, segments_BT=segments_BT)))()

        def fused(*x):
            return splash.attend(*x, segments_BT, interpret=True)

        if axes is None:
            got = jax.jit(lambda: pulled(fused))()
        else:
            with jax.set_mesh(make_mesh(MeshSettings(**axes))):
                got = jax.jit(lambda: pulled(fused))()
    for a, b in zip(got, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_only_on_tpus():
    assert not splash.fits(some(B, T, N, H, seed=0), some(B, T, K, H, seed=1))
    with jax.set_mesh(make_mesh(MeshSettings())):
        assert not splash.fits(some(8, T, N, H, seed=0), some(8, T, K, H, seed=1))
