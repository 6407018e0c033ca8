"""Meshes and optimizers that cannot be are refused."""

import pytest
from pydantic import ValidationError

from r1jax.config.training import MeshSettings, OptimizerSettings


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"data": 0}, "at least 1 device"), ({"fsdp": -2}, "at least 1 device"), ({"fsdp": -1}, "data and fsdp")],
)
def test_wrong_meshes(sizes, message):
    with pytest.raises(ValidationError, match=message):
        MeshSettings(**sizes)


def test_sizes_are_by_axis():
    sizes = MeshSettings(data=2, context=4).sizes()
    assert sizes == {"data": 2, "fsdp": 1, "tensor": 1, "expert": 1, "context": 4}


@pytest.mark.parametrize("wrong", [{"learning_rate": 0.0}, {"b2": 1.0}, {"min_lr_ratio": 2.0}, {"schedule": "step"}])
def test_wrong_optimizers(wrong):
    with pytest.raises(ValidationError):
        OptimizerSettings(**{"learning_rate": 1e-3, **wrong})
