"""A loaded model generates by seed and length, and its log-probs are those of a plain forward."""

import jax
import numpy as np
import pytest

import r1jax
from r1jax.config.base import ConfigError
from r1jax.models import forward, unembed


def test_a_loaded_run_generates_and_scores(trained):
    model = r1jax.load(trained[1])
    texts = model.generate("1+2=", samples=3, temperature=1.0)
    assert len(texts) == 3 and texts == model.generate("1+2=", samples=3, temperature=1.0)
    assert texts != model.generate("1+2=", samples=3, temperature=1.0, seed=1)
    assert len(model.generate("1+2=")) == 1
    assert all(len(model.model.tokenizer.encode(text)) <= 4 for text in model.generate("1+2=", samples=8, max_tokens=4))
    with pytest.raises(ConfigError, match="'w' at position 0"):
        model.generate("what?")


def test_log_probs_are_those_of_a_plain_forward(trained):
    model = r1jax.load(trained[1])
    completions = ["3", "<think>1+2=3</think>", ""]
    ours = model.log_probs("1+2=", completions, temperature=0.5)
    for completion, logp_T in zip(completions, ours, strict=True):
        encode = model.model.tokenizer.encode
        prompt, ids = encode("1+2="), [*encode(completion), model.model.tokenizer.stop_ids[0]]
        hidden, _ = forward(model.model.model, model.model.weights, np.array([prompt + ids]))
        logits = np.asarray(unembed(model.model.model, model.model.weights, hidden))[0, :, : model.model.tokenizer.size]
        expected = jax.nn.log_softmax(logits / 0.5)[np.arange(len(ids)) + len(prompt) - 1, ids]
        np.testing.assert_allclose(logp_T, expected, atol=1e-4)
