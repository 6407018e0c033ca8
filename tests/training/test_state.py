"""Micro-batches are counted on each device; learning rates are the ones asked for."""

import pytest

from r1jax.config.training import OptimizerSettings
from r1jax.training.optimizer import learning_rate
from r1jax.training.state import microbatches_of


def test_microbatch_counts_sequences_on_each_device(mesh):
    assert microbatches_of(32, None, mesh) == 1
    assert microbatches_of(32, 2, mesh) == 2


@pytest.mark.parametrize("schedule, last", [("constant", 1.0), ("cosine", 0.1), ("linear", 0.1)])
def test_learning_rates(schedule, last):
    rate = learning_rate(OptimizerSettings(learning_rate=2.0, warmup_updates=4, schedule=schedule), 20)
    assert float(rate(0)) == pytest.approx(2.0 / 5)
    assert float(rate(4)) == pytest.approx(2.0)
    assert float(rate(20)) == pytest.approx(2.0 * last)
    assert all(rate(i) < rate(i + 1) for i in range(4))
