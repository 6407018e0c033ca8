import dataclasses

import jax
import jax.numpy as jnp
import pytest
from tiny import DIVISIBLE

from r1jax.config.training import MeshSettings
from r1jax.models import abstract_params, forward, make_model, unembed
from r1jax.models.flops import forward_flops
from r1jax.parallel.mesh import make_mesh
from r1jax.planning.flops import jaxpr_flops


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positions", [1, 7])
def test_they_are_those_of_the_products_that_a_forward_traces(tied, positions):
    """The plain attention computes all products of queries and keys, of which causal ones need half."""
    config = dataclasses.replace(DIVISIBLE, tie_word_embeddings=tied)
    model, predicted = make_model(config, 64), (positions + 1) // 2
    params = abstract_params(model, make_mesh(MeshSettings()))

    def logits(params, tokens):
        return unembed(model, params, forward(model, params, tokens)[0][:, -predicted:])

    traced = jax.jit(logits).trace(params, jax.ShapeDtypeStruct((1, positions), jnp.int32))
    c = model.config
    masked = 2 * c.num_hidden_layers * positions**2 * c.num_attention_heads * c.head_dim
    expected = forward_flops(c, positions=positions, predicted=predicted) + masked
    assert jaxpr_flops(traced.jaxpr).total == expected
