"""The interface of models: what every family has to offer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import (
    abstract_params,
    cast_for_sampling,
    forward,
    head,
    init_params,
    init_value_params,
    make_model,
    unembed,
    values,
)


def test_the_embedding_has_rows_for_the_tokenizer_and_the_models_own(model_config):
    assert (make_model(model_config, 70).config.vocab_size, make_model(model_config, 70).rows) == (70, 128)
    larger = dataclasses.replace(model_config, vocab_size=200)
    assert (make_model(larger, 70).config.vocab_size, make_model(larger, 70).rows) == (200, 256)
    with pytest.raises(ValueError, match="ids up to 200 and the model's embedding 200 rows; give the tokenizer that"):
        make_model(larger, 201)


def test_abstract_params_have_the_shapes_and_shardings_of_the_weights(model_config, mesh):
    model = make_model(model_config, 20)
    abstract = abstract_params(model, mesh)
    params = jax.jit(init_params, static_argnums=0, out_shardings=jax.tree.map(lambda x: x.sharding, abstract))(
        model, jax.random.key(0)
    )
    for expected, weight in zip(jax.tree.leaves(abstract), jax.tree.leaves(params), strict=True):
        assert (weight.shape, weight.dtype, weight.sharding) == (expected.shape, expected.dtype, expected.sharding)


def test_the_cast_for_sampling_changes_no_output(model_config):
    """A forward casts each weight to its type anyway; the scales of norms stay float32, in which norms are computed."""
    model = make_model(dataclasses.replace(model_config, dtype="bfloat16", qk_norm=True), 20)
    params = jax.jit(init_params, static_argnums=0)(model, jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.1, params)
    cast = cast_for_sampling(params, "bfloat16")
    types = {path[-1].key: leaf.dtype for path, leaf in jax.tree.leaves_with_path(cast)}
    assert {name for name, dtype in types.items() if dtype == jnp.float32} == {"scale_D", "scale_H"}

    @jax.jit
    def logits(params):
        return unembed(model, params, forward(model, params, jnp.arange(12).reshape(2, 6))[0])

    np.testing.assert_array_equal(logits(params), logits(cast))


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_all_that_logits_need(tied, model_config):
    model = make_model(dataclasses.replace(model_config, tie_word_embeddings=tied), 20)
    params = jax.jit(init_params, static_argnums=0)(model, jax.random.key(0))
    hidden_BTD = jax.random.normal(jax.random.key(1), (2, 3, model_config.hidden_size))
    assert len(head(params)) == 2 - tied
    np.testing.assert_array_equal(unembed(model, head(params), hidden_BTD), unembed(model, params, hidden_BTD))


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
