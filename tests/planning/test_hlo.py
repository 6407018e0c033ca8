"""Compiled by the TPU compiler for a slice of eight chips that is not there."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from r1jax.config.training import MeshSettings
from r1jax.parallel.mesh import make_mesh
from r1jax.planning import slices
from r1jax.planning.hlo import Collective, devices, program_cost, starts
from r1jax.planning.slices import find_slice

SIZE = 1024 * 256 * 4  # bytes of what is summed


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshSettings(data=1, fsdp=4, tensor=2), find_slice("v5e:2x4")[1])


def compiled(mesh, function):
    """The HLO of a function of a [4096, 256] array that fsdp splits."""
    x = jax.ShapeDtypeStruct((4096, 256), jnp.float32, sharding=jax.NamedSharding(mesh, P("fsdp")))
    with jax.set_mesh(mesh):
        return slices.compiled(jax.jit(function).trace(x)).as_text()


def summed(axes):
    """A sum over axes of the mesh, by each device of its own part."""
    return jax.shard_map(lambda x: jax.lax.psum(x, axes), in_specs=P("fsdp"), out_specs=P(), check_vma=False)


@pytest.mark.parametrize("axes", [("fsdp",), ("tensor",), ("fsdp", "tensor")])
def test_a_collective_and_its_axes(mesh, axes):
    [(found, number)] = program_cost(compiled(mesh, summed(axes))).collectives.items()
    group = {("fsdp",): 4, ("tensor",): 2}.get(axes, 8)
    assert (found.kind, found.bytes, number) == ("all-reduce", SIZE, 1)
    assert found.axes(mesh) == axes and len(found.devices) == group
    assert found.sent == 2 * found.bytes * (group - 1) / group  # both halves of a ring


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("replica_groups={{0,2,4,6},{1,3,5,7}}, x", (0, 2, 4, 6)),
        ("replica_groups=[2,4]<=[4,2]T(1,0), x", (0, 2, 4, 6)),
        ("replica_groups=[4,2]<=[8], x", (0, 1)),
        ("replica_groups=mesh['fsdp'=4,'tensor'=2] {'fsdp'}, x", (0, 2, 4, 6)),
        ("replica_groups=mesh['fsdp'=4,'tensor'=2] {'tensor','fsdp'}, x", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("source_target_pairs={{0,0},{1,2},{2,1}}, frontend_attributes={x}", (1, 2)),
    ],
)
def test_the_devices_of_a_group_in_each_of_its_forms(line, expected):
    assert devices(line) == expected


def test_loops_are_counted_by_their_trips(mesh):
    def looped(x):
        y = jax.lax.fori_loop(0, 5, lambda i, y: summed("fsdp")(jnp.tile(jnp.sin(y) * i, (4, 1))), x[:1024])
        return y.sum()

    cost = program_cost(compiled(mesh, looped))
    for half in ("reduce-scatter", "all-gather"):  # of the sum, between which the sine is computed
        assert cost.collectives[Collective(half, SIZE, (0, 2, 4, 6))] == 5
    assert cost.cycles > 0


@pytest.mark.parametrize("bounded", [True, False])
def test_open_loops_have_the_trips_that_are_given_in_order(bounded, mesh):
    def until(limit):
        def unfinished(carry):
            enough = carry[1].sum() < limit
            return (carry[0] < 1000) & enough if bounded else enough

        def body(carry):
            return carry[0] + 1, summed("fsdp")(jnp.tile(jnp.sin(carry[1]), (4, 1)))

        return lambda x: jax.lax.while_loop(unfinished, body, (0, x))[1]

    text = compiled(mesh, lambda x: until(2e9)(until(1e9)(x[:1024])))

    def count(trips):
        return program_cost(text, open_loops=trips).sizes()["reduce-scatter", SIZE]

    assert [count(trips) for trips in [(), (7,), (7, 3)]] == [0, 7, 10]


def test_a_conditional_is_its_dearest_branch_or_the_mean(mesh):
    def either(x):
        double = jax.lax.cond(x.sum() > 0, lambda x: summed("fsdp")(jnp.tile(x, (4, 1))), lambda x: x, x[:1024])
        return double.sum()

    text = compiled(mesh, either)
    assert program_cost(text).sizes()["all-reduce", SIZE] == 1
    assert program_cost(text, mean_of_branches=True).sizes()["all-reduce", SIZE] == 0.5


def test_sums_of_different_arrays_that_share_a_channel_are_all_counted(mesh):
    """JAX gives all collectives of shard_map the same channel."""

    def sums(x):
        return jax.lax.psum(x, "fsdp"), jax.lax.psum(jnp.sin(x[:, :128].T @ x), "tensor"), jax.lax.psum(x[:8], "fsdp")

    function = jax.shard_map(sums, in_specs=P("fsdp"), out_specs=P(), check_vma=False)
    sizes = program_cost(compiled(mesh, function)).sizes()
    assert sum(size * times for (_, size), times in sizes.items()) == SIZE + 128 * 256 * 4 + 8 * 256 * 4


def test_what_stands_between_computations():
    """Lines of a kernel begin with braces, and what another core of the chip runs ends with its thread's name."""
    text = """HloModule some

%on_sparse_core (x: f32[8]) -> f32[8] {
  ROOT %kernel = f32[8]{0} custom-call(%x), backend_config={
}}, metadata={op_name="kernel"}, backend_config={"estimated_cycles":"5"}
}, execution_thread="sparsecore"

%called (x: f32[8]) -> f32[8] {
  ROOT %sine = f32[8]{0} sine(%x), backend_config={"estimated_cycles":"70"}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %a = f32[8]{0} call(%x), to_apply=%on_sparse_core
  ROOT %b = f32[8]{0} call(%a), to_apply=%called
}
"""
    assert program_cost(text).cycles == 75


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("%a = (f32[8,4]{1,0}, f32[32,4]{1,0}) all-gather-start(%x)", 32 * 4 * 4),
        ("%a = ((f32[8]{0}, f32[4]{0}), (f32[32]{0}, f32[16]{0})) all-gather-start(%x, %y)", 48 * 4),
        ("%a = (f32[32]{0}, f32[8]{0}) reduce-scatter-start(%x)", 32 * 4),
        ("%a = f32[8]{0} reduce-scatter(%x)", 32 * 4),
        ("%a = (f32[8]{0}, bf16[4]{0}) all-reduce-start(%x, %y)", 40),
        ("%a = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%x)", 32),
    ],
)
def test_the_bytes_of_a_collective_in_each_of_its_forms(line, size):
    found, _ = starts(f"  {line}, channel_id=1, replica_groups=[2,4]<=[8], use_global_device_ids=true")
    assert found is not None and found.bytes == size
