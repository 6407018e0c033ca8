"""Micro-batches of every size give the gradients of the whole; learning rates are the ones asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config import OptimizerConfig
from r1jax.models.completions import Completions, completion_log_probs
from r1jax.models.dense import Transformer
from r1jax.objectives import length_mask, reduction_weights
from r1jax.optimizer import learning_rate
from r1jax.state import init_params, microbatches_of, summed_gradients


@pytest.mark.parametrize("microbatches", [2, 4, 8])
def test_micro_batches_add_up_to_the_whole(microbatches, model_config):
    model = Transformer(model_config, 20)
    params = jax.jit(init_params, static_argnums=0)(model, jax.random.key(0))
    rng = np.random.default_rng(0)
    length = jnp.array(rng.integers(1, 7, 8))
    batch = Completions(
        jnp.array(rng.integers(0, 20, (8, 4))),
        jnp.array(rng.integers(1, 5, 8)),
        jnp.array(rng.integers(0, 20, (8, 6))),
        length,
    )
    weights = reduction_weights(length_mask(length, 6), "sequence_mean")

    def loss(params, rows):
        batch, weights = rows
        total = -jnp.sum(weights * completion_log_probs(model, params, batch, temperature=1.0)[0])
        return total, {"loss": total}

    gradients = jax.jit(summed_gradients, static_argnums=(0, 3))
    whole, sums = gradients(loss, params, (batch, weights), 1)
    parts, part_sums = gradients(loss, params, (batch, weights), microbatches)
    np.testing.assert_allclose(part_sums["loss"], sums["loss"], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), parts, whole)


def test_microbatch_counts_sequences_on_each_device(mesh):
    assert microbatches_of(32, None, mesh) == 1
    assert microbatches_of(32, 2, mesh) == 2


@pytest.mark.parametrize("schedule, last", [("constant", 1.0), ("cosine", 0.1), ("linear", 0.1)])
def test_learning_rates(schedule, last):
    rate = learning_rate(OptimizerConfig(learning_rate=2.0, warmup_updates=4, schedule=schedule), 20)
    assert float(rate(0)) == pytest.approx(2.0 / 5)
    assert float(rate(4)) == pytest.approx(2.0)
    assert float(rate(20)) == pytest.approx(2.0 * last)
    assert all(rate(i) < rate(i + 1) for i in range(4))
