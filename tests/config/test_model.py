"""The `model` block: a path or a full description, and an error that says which keys to give or leave out."""

import pytest
from pydantic import ValidationError

from r1jax.config.model import ModelSettings

TINY = {
    "family": "qwen3",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
}


@pytest.mark.parametrize("settings", [{"path": "somewhere", "dtype": "float32"}, TINY, TINY | {"rope_theta": 300.0}])
def test_what_is_valid_reads_back_the_same(settings):
    model = ModelSettings(**settings)
    assert ModelSettings(**model.model_dump()) == model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "missing: family, hidden_size, .*, head_dim; give a path, or the family and all sizes"),
        ({"hidden_size": 16}, "missing: family, intermediate_size, num_hidden_layers"),
        ({k: v for k, v in TINY.items() if k != "head_dim"}, "missing: head_dim; give a path"),
        (TINY | {"path": "x"}, "family is given beside path x, whose config.json describes .*leave out family, hidden"),
        ({"path": "x", "rope_theta": 300.0}, "rope_theta is given beside path x"),
        (TINY | {"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide num_attention_heads 4"),
        (TINY | {"head_dim": 5}, "head_dim 5 is odd"),
        (TINY | {"family": "mamba"}, "'llama', 'qwen2' or 'qwen3'"),
    ],
)
def test_what_does_not_go_together_is_an_error(settings, message):
    with pytest.raises(ValidationError, match=message):
        ModelSettings(**settings)
