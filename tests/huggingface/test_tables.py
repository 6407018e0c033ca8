"""The weight table names every weight of the family, and each of its tensors once."""

import jax
import pytest

from r1jax.huggingface.tables import WEIGHTS
from r1jax.models import ModelConfig, init_params, make_model

SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"num_key_value_heads": 2, "head_dim": 4}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_every_weight_is_named(qk_norm, qkv_bias, tied):
    config = ModelConfig(**SIZES, qkv_bias=qkv_bias, qk_norm=qk_norm, tie_word_embeddings=tied)
    shapes = jax.eval_shape(lambda: init_params(make_model(config, 20), jax.random.key(0)))
    for path, leaf in jax.tree.flatten_with_path(shapes)[0]:
        name = "/".join(entry.key for entry in path)
        weight = WEIGHTS[name]
        letters = name.rpartition("_")[2]
        assert sorted(weight.axes.replace(" ", "")) == sorted(letters), name
        assert leaf.ndim == len(letters) + ("{L}" in weight.name)
    names = [weight.name for weight in WEIGHTS.values()]
    assert len(set(names)) == len(names)
