"""A loaded model's sampling weights are its weights, cast and moved; their abstract form has the same shapes."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.sampling import SamplingSettings
from r1jax.config.training import MeshSettings
from r1jax.models import abstract_params, init_params, make_model
from r1jax.parallel.mesh import make_mesh, to_global
from r1jax.run.loading import load_model
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.sampling.sampler import make_sampler


def test_sampling_weights(trained):
    model = load_model(str(trained[1]), ["mesh.data=1", "mesh.fsdp=4", "mesh.tensor=2"]).model
    with model.devices():
        weights = model.sampling_weights()
    jax.tree.map(np.testing.assert_array_equal, weights, model.weights)  # a float32 model: only moved
    spec = {axis for w in jax.tree.leaves(weights) for axes in w.sharding.spec for axis in (axes or ())}
    assert "fsdp" not in spec
    like = model.abstract_sampling_weights()
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), like) == jax.tree.map(
        lambda x: (x.shape, x.dtype, x.sharding), weights
    )


def test_products_are_full_precision_where_the_model_is_float32(trained):
    model = load_model(str(trained[1])).model
    with model.devices():
        assert jax.config.jax_default_matmul_precision == "float32"
        assert jax.sharding.get_abstract_mesh().shape["data"] == 8
        assert float(jnp.ones(()).sum()) == 1


@pytest.mark.parametrize("decode_batch", [None, 1])
def test_decoding_moves_no_weight(decode_batch, model_config):
    """Weights that training splits over fsdp are whole here: the compiled program gathers none of them.

    Nor does it move caches, where a device's sequences wait for each other.
    """
    mesh = make_mesh(MeshSettings(data=1, fsdp=8))
    module = make_model(dataclasses.replace(model_config, num_hidden_layers=6), 512)
    loaded = LoadedModel(module, SimpleNamespace(stop_ids=(1,)), mesh, abstract_params(module, mesh))
    with loaded.devices():
        sampler = loaded.sampler(SamplingSettings(decode_batch=decode_batch), group_size=2, max_new=4)
        rows, key = [jax.ShapeDtypeStruct(s, jnp.int32) for s in ((8, 3), (8,), (8,))], jax.random.key(0)
        text = sampler.lower(loaded.abstract_sampling_weights(), *rows, key).compile().as_text()
    assert not re.findall(r"= f32\[\S* (all-gather|reduce-scatter|all-to-all)\(", text)


@pytest.mark.slow
def test_a_sampler_loses_no_row_where_no_mesh_is_set(mesh, model_config):
    module = make_model(model_config, 20)
    sampler = make_sampler(module, mesh, stop_ids=(1, 2, 3, 4, 5, 6), group_size=2, max_new=6, temperature=1.0)
    rows = np.full((8, 3), 7, np.int32), np.full(8, 3, np.int32), np.arange(8, dtype=np.int32)
    arguments = jax.jit(init_params, static_argnums=0)(module, jax.random.key(0)), *to_global(mesh, rows, 8)
    found = sampler(*arguments, jax.random.key(1))
    with jax.set_mesh(mesh):
        expected = sampler(*arguments, jax.random.key(1))
    assert (np.asarray(found.length_B) > 0).all()
    np.testing.assert_array_equal(found.completion_BT, expected.completion_BT)
