"""Log-probs of completions against one row at a time, without padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.data.packing import lay_out
from r1jax.models import forward, init_params, make_model, unembed
from r1jax.rl.logprobs import completion_log_probs, completion_values, joined_rows
from r1jax.rl.types import TrainBatch


def batch_of(prompts, completions):
    def pad(rows):
        width = max(map(len, rows))
        return jnp.array([list(row) + [0] * (width - len(row)) for row in rows]), jnp.array([len(r) for r in rows])

    return TrainBatch(*pad(prompts), *pad(completions))


def test_joined_rows():
    batch = batch_of([[5, 6, 7], [8]], [[1, 2], [3, 4]])
    rows = joined_rows(batch)
    assert rows[0].tolist() == [5, 6, 7, 1, 2]
    assert rows[1, :3].tolist() == [8, 3, 4]


def test_equal_rows_without_padding(model_config):
    model = make_model(model_config, 20)
    params = jax.jit(init_params, static_argnums=0)(model, jax.random.key(0))
    prompts, completions = [[5, 6, 7, 2], [8], [9, 9]], [[3, 1], [4, 4, 11, 12, 1], [1]]
    temperature = 0.7
    batch = batch_of(prompts, completions)
    log_probs = jax.jit(lambda params, batch: completion_log_probs(model, params, batch, temperature=temperature))
    logp, entropy = log_probs(params, batch)
    logits_of = jax.jit(lambda params, row: unembed(model, params, forward(model, params, row)[0])[0])
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        logits = np.asarray(logits_of(params, jnp.array([prompt + completion])))
        for t, token in enumerate(completion):
            z = logits[len(prompt) - 1 + t, :20].astype(np.float64) / temperature
            p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            np.testing.assert_allclose(logp[row, t], np.log(p[token]), atol=1e-5)
            np.testing.assert_allclose(entropy[row, t], -(p * np.log(p)).sum(), atol=1e-5)


@pytest.mark.parametrize(("width", "in_rows"), [(20, True), (50, False)])
@pytest.mark.parametrize("limited", [False, True])
def test_packed_rows_give_the_same(width, in_rows, limited, model_config):
    """Where the logits are those of the rows' positions, and where these are more, of the completions'; and values."""
    model = make_model(model_config, 20)
    params = jax.jit(init_params, static_argnums=0)(model, jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = batch_of([rng.integers(2, 20, n) for n in (4, 1, 2, 3)], [rng.integers(2, 20, n) for n in (3, 12, 1, 5)])
    if limited:  # each token was drawn from three, of which it is the second
        support = np.repeat(np.asarray(batch.completion_BT)[:, :, None], 3, axis=2) + np.array([1, 0, -1])
        batch = dataclasses.replace(batch, support_BTI=jnp.array(support % 20))
    lengths = np.asarray(batch.prompt_length_B + batch.length_B)
    layout = lay_out(lengths, shards=1, microbatches=1, joined=4 + 12, width=width)
    assert (layout.source_MW.size < batch.completion_BT.size) == in_rows
    value_params = {"model": params, "head_D": jnp.array(rng.normal(size=16), jnp.float32)}

    @jax.jit
    def outputs(batch):
        log_probs = completion_log_probs(model, params, batch, temperature=0.7)
        return *log_probs, completion_values(model, value_params, batch)

    packed = outputs(dataclasses.replace(batch, layout=jax.tree.map(jnp.array, layout)))
    counts = np.arange(12) < np.asarray(batch.length_B)[:, None]
    for ours, expected in zip(packed, outputs(batch), strict=True):
        np.testing.assert_allclose(ours[counts], expected[counts], atol=5e-6)
        assert np.std(np.asarray(expected)[counts]) > 0.1
