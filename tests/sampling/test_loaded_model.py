"""A loaded model's sampling weights are its weights, cast and moved; their abstract form has the same shapes."""

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.run.loading import load_model


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
