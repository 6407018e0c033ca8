import importlib.util

import pytest

from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings
from r1jax.parallel.mesh import make_mesh
from r1jax.planning.slices import find_slice


@pytest.mark.parametrize(("topology", "chips"), [("v5e:1x1", 1), ("v5e:4x4", 16), ("v5p:4x4x8", 128), ("v6e:2x4", 8)])
def test_a_slice_has_its_chips(topology, chips):
    chip, devices = find_slice(topology)
    assert len(devices) == chips and chip.flops > 1e14


@pytest.mark.parametrize(
    ("topology", "why"),
    [("v9:2x2", "v5e, v5p, v6e"), ("", "v5e:2x4"), ("v5e", "is no slice"), ("v5e:3x3", "is no slice: .*not divisible")],
)
def test_what_is_no_slice_is_refused_in_one_line(topology, why):
    with pytest.raises(ConfigError, match=why) as error:
        find_slice(topology)
    assert "\n" not in str(error.value)


def test_without_the_compiler_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"r1jax\[plan\]"):
        find_slice("v5e:2x4")


@pytest.mark.parametrize(
    ("topology", "axes"),
    [
        ("v5e:4x4", {"fsdp": 2, "tensor": 8}),
        ("v5p:4x4x8", {"fsdp": 64, "tensor": 2}),  # no dimension of the torus has 2 chips
        ("v5e:8x8", {"fsdp": 16, "context": 4}),
    ],
)
def test_any_axes_lie_on_a_torus(topology, axes):
    mesh = make_mesh(MeshSettings(data=1, **axes), find_slice(topology)[1])
    assert {axis: mesh.shape[axis] for axis in axes} == axes and len(set(mesh.devices.flat)) == mesh.devices.size


def test_a_mesh_of_another_number_of_chips_is_refused():
    with pytest.raises(ConfigError, match="needs 3 devices and there are 8"):
        make_mesh(MeshSettings(data=1, fsdp=3), find_slice("v5e:2x4")[1])
