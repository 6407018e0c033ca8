"""Rows to devices and back; shardings of weights; meshes that do not divide them."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import DIVISIBLE

from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings
from r1jax.models import abstract_params, init_params, make_model
from r1jax.parallel.mesh import (
    TRAIN_WEIGHTS,
    gather,
    make_mesh,
    move_rows,
    own_rows,
    row_shards,
    sharding,
    to_global,
    to_local,
    weight_shardings,
)


@pytest.mark.parametrize("sizes", [{"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"data": 1, "context": 8}])
def test_rows_go_out_and_come_back(sizes):
    mesh = make_mesh(MeshSettings(**sizes))
    rows = np.arange(16, dtype=np.int32).reshape(8, 2)
    assert own_rows(mesh, 8).tolist() == list(range(8))
    on_devices = to_global(mesh, rows, 8)
    assert on_devices.sharding.is_equivalent_to(sharding(mesh, "B"), 2)
    np.testing.assert_array_equal(to_local(on_devices), rows)
    np.testing.assert_array_equal(gather(mesh, rows, 8), rows)
    assert row_shards(mesh) == sizes.get("data", 1) * sizes.get("fsdp", 1)
    with pytest.raises(ValueError, match="got 4 rows; this process owns 8 of 8"):
        to_global(mesh, rows[:4], 8)


def test_rows_move_to_another_mesh():
    rows = np.arange(16, dtype=np.int32).reshape(8, 2)
    there, back = make_mesh(MeshSettings(data=2, fsdp=2, tensor=2)), make_mesh(MeshSettings())
    moved = move_rows({"rows": to_global(back, rows, 8)}, there)["rows"]
    assert moved.sharding == sharding(there, "B") and moved.sharding != sharding(back, "B")
    np.testing.assert_array_equal(to_local(move_rows(moved, back)), rows)


def test_weights_are_sharded_by_their_letters():
    mesh = make_mesh(MeshSettings(data=1, fsdp=2, tensor=4))
    shapes = jax.eval_shape(lambda: init_params(make_model(DIVISIBLE, 20), jax.random.key(0)))
    spec = jax.tree.map(lambda s: tuple(s.spec), weight_shardings(mesh, shapes, TRAIN_WEIGHTS))
    attention = spec["layers"]["attention"]
    assert spec["embed_VD"] == ("tensor", "fsdp")
    assert attention["q_DNH"] == (None, "fsdp", "tensor", None)
    assert attention["k_DKH"] == (None, "fsdp", None, None)  # 2 heads on 4 devices: repeated
    assert attention["o_NHD"] == (None, "tensor", None, "fsdp")


def test_meshes_that_do_not_divide_are_errors():
    with pytest.raises(ConfigError, match="needs 3 devices and there are 8"):
        make_mesh(MeshSettings(data=3))
    with pytest.raises(ConfigError, match="needs 4 devices"):
        make_mesh(MeshSettings(data=2, fsdp=2))
    mesh = make_mesh(MeshSettings(data=1, tensor=8))
    odd = make_model(dataclasses.replace(DIVISIBLE, intermediate_size=36), 20)
    with pytest.raises(ConfigError, match="tensor=8 does not divide F=36"):
        abstract_params(odd, mesh)
