"""The value model: a copy of the policy with a head of zeros, read out at each position."""

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.models import forward, init_params, make_model
from r1jax.models.value import init_value_params, values


def test_values_are_the_head_on_the_models_own_hidden_states(model_config):
    model = make_model(model_config, 20)
    params = jax.jit(init_params, static_argnums=0)(model, jax.random.key(0))
    value_params = init_value_params(params)
    tokens = jnp.arange(12).reshape(2, 6)
    value = jax.jit(values, static_argnums=0)
    assert (np.asarray(value(model, value_params, tokens)) == 0).all()
    head = np.random.default_rng(0).normal(size=16).astype(np.float32)
    hidden, _ = jax.jit(forward, static_argnums=0)(model, params, tokens)
    expected = np.asarray(hidden) @ head
    np.testing.assert_allclose(value(model, value_params | {"head_D": jnp.array(head)}, tokens), expected, atol=1e-5)
