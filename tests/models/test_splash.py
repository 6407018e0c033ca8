"""Splash attention, interpreted on a CPU, against the plain attention: packed, after prompts and on a mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.training import MeshSettings
from r1jax.models import attention, splash
from r1jax.models.attention import Shared
from r1jax.parallel.mesh import make_mesh
from r1jax.planning.slices import find_slice

B, T, N, K, H = 4, 512, 4, 2, 64


def some(*shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [None, {"data": 2, "fsdp": 1, "tensor": 2, "expert": 1, "context": 2}])
@pytest.mark.parametrize(("kind", "long"), [("rows", 0), ("packed", 8192), ("prompts", 0), ("prompts", 8192)])
def test_equals_the_plain_attention(kind, long, axes, monkeypatch):
    """In values and in the gradients of queries, keys and values, the prompts' among them; several blocks a device."""
    monkeypatch.setattr(splash, "LONG", long)
    monkeypatch.setattr(splash, "BLOCKS", (128,))
    q, y = some(B, T, N, H, seed=0), some(B, T, N, H, seed=3)
    k, v = some(B, K, T, H, seed=1), some(B, K, T, H, seed=2)
    prompts = [some(B // 2, K, 70, H, seed=seed) for seed in (4, 5)] if kind == "prompts" else []
    boundaries = np.array([[50], [380]] * 2)
    segments_BT = jnp.asarray(np.arange(T)[None] // boundaries, jnp.int32) if kind == "packed" else None

    def pulled(attend, q, k, v, y, *prompts):
        def function(q, k, v, *prompts):
            shared = Shared(*prompts, jnp.array([70, 9])) if prompts else None
            return attend(q, k, v, segments_BT=segments_BT, shared=shared)

        value, pull = jax.vjp(function, q, k, v, *prompts)
        return value, *pull(y)

    with jax.numpy_rank_promotion("allow"), jax.default_matmul_precision("float32"):
        arguments = q, k, v, y, *prompts
        plain = jax.jit(functools.partial(pulled, attention.attend))(*arguments)
        kernel = functools.partial(splash.attend, interpret=True)
        if axes is None:
            got = jax.jit(functools.partial(pulled, kernel))(*arguments)
        else:
            with jax.set_mesh(make_mesh(MeshSettings(**axes))):
                got = jax.jit(functools.partial(pulled, kernel))(*arguments)
    assert len(got) == 4 + len(prompts)
    for a, b in zip(got, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_only_on_tpus():
    assert not splash.fits(some(B, T, N, H, seed=0), some(B, K, T, H, seed=1))
    with jax.set_mesh(make_mesh(MeshSettings())):
        assert not splash.fits(some(8, T, N, H, seed=0), some(8, K, T, H, seed=1))


def test_what_a_run_says_of_its_attention(model_config, mesh):
    assert splash.kernel_of(model_config, mesh) == "plain"
    pytest.importorskip("libtpu")
    of_tpus = make_mesh(MeshSettings(), find_slice("v5e:2x2")[1])
    assert splash.kernel_of(model_config, of_tpus).startswith("splash")
    assert splash.kernel_of(dataclasses.replace(model_config, attention="plain"), of_tpus) == "plain"


def test_only_whole_blocks_and_long_rows_without_are_warned_of():
    pytest.importorskip("libtpu")
    mesh = make_mesh(MeshSettings(data=1, tensor=2, context=2), find_slice("v5e:2x2")[1])

    def fits(length, heads=2):
        q, k = (jax.ShapeDtypeStruct(shape, "bfloat16") for shape in ((2, length, 4, 64), (2, heads, length, 64)))
        return splash.fits(q, k)

    with jax.set_mesh(mesh):
        assert fits(256) and fits(1280) and fits(2**18) and not fits(128)
        for odd in ((1024 + 128,), (1024, 1), (2**18 + 256,)):
            with pytest.warns(UserWarning, match="keeps all scores in memory"):
                assert not fits(*odd)
