import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec as P

from r1jax.config.training import MeshSettings
from r1jax.parallel.mesh import make_mesh
from r1jax.planning.flops import jaxpr_flops

X = jnp.ones((4, 8))
ONE = 2 * 4 * 8 * 8  # of X @ W
W = jnp.ones((8, 8))


def counted(function, *arguments, **options):
    return jaxpr_flops(jax.jit(function).trace(*arguments).jaxpr, **options)


def test_a_product_and_a_batched_one():
    assert counted(lambda x, w: x @ w, X, W).total == ONE
    assert counted(jax.vmap(lambda x, w: x @ w), jnp.ones((3, 4, 8)), jnp.ones((3, 8, 8))).total == 3 * ONE


def test_a_gradient_is_twice_a_forward_and_remat_computes_it_again():
    def loss(w, x):
        return jnp.sum(jnp.sin(jnp.sin(x @ w) @ w))

    assert counted(loss, W, X).total == 2 * ONE
    assert counted(jax.grad(loss, argnums=(0, 1)), W, X).total == 6 * ONE
    again = counted(jax.grad(jax.checkpoint(loss), argnums=(0, 1)), W, X).total
    assert again == 8 * ONE  # XLA drops the last product, which nothing reads


def test_loops():
    def scanned(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=5)[0]

    def until(x, w):
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x)

    assert counted(scanned, X, W).total == 5 * ONE
    assert [counted(until, X, W, open_loops=trips).total for trips in [(), (3,)]] == [0, 3 * ONE]


def test_a_conditional_is_its_dearest_branch_or_the_mean():
    def either(x, w):
        return jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x)

    assert counted(either, X, W).total == 2 * ONE
    assert counted(either, X, W, mean_of_branches=True).total == ONE


def test_what_each_device_does_counts_for_all_of_them():
    mesh = make_mesh(MeshSettings(data=1, fsdp=4, tensor=2))
    product = jax.shard_map(lambda x, w: x @ w, in_specs=(P("fsdp"), P()), out_specs=P("fsdp"), axis_names={"fsdp"})
    with jax.set_mesh(mesh):
        assert counted(product, X, W).total == ONE


def test_products_in_a_kernel_are_counted_apart():
    def kernel(x, w, o):
        o[...] = x[...] @ w[...]

    def blocks(x, w):
        block = pl.BlockSpec((2, 8), lambda i: (i, 0))
        whole = pl.BlockSpec((8, 8), lambda i: (0, 0))
        out = jax.ShapeDtypeStruct((4, 8), jnp.float32)
        return pl.pallas_call(kernel, out, grid=(2,), in_specs=[block, whole], out_specs=block, interpret=True)(x, w)

    flops = counted(lambda x, w: blocks(x, w) @ w, X, W)
    assert (flops.total, flops.in_kernels) == (pytest.approx(2 * ONE), ONE)
