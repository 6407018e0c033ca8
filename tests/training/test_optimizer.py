"""AdamW after clipping by the global norm, against its formula; learning rates are the ones asked for."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1jax.config.training import OptimizerSettings
from r1jax.training.optimizer import learning_rate, make_optimizer, updates_made


@pytest.mark.parametrize("schedule, last", [("constant", 1.0), ("cosine", 0.1), ("linear", 0.1)])
def test_learning_rates(schedule, last):
    rate = learning_rate(OptimizerSettings(learning_rate=2.0, warmup_updates=4, schedule=schedule), 20)
    assert float(rate(0)) == pytest.approx(2.0 / 5)
    assert float(rate(4)) == pytest.approx(2.0)
    assert float(rate(20)) == pytest.approx(2.0 * last)
    assert all(rate(i) < rate(i + 1) for i in range(4))


def test_updates_are_adamw_on_clipped_gradients():
    """Two updates by hand: gradients of norm 5 are scaled to norm 1, then AdamW with weight decay."""
    settings = OptimizerSettings(learning_rate=0.1, b2=0.95, weight_decay=0.2, max_grad_norm=1.0)
    optimizer = make_optimizer(settings, 10)
    weight, gradient = np.array([1.0, -2.0]), np.array([3.0, 4.0])
    params, state, first, second = {"w_D": jnp.array(weight)}, None, 0.0, 0.0
    state = optimizer.init(params)
    for step in (1, 2):
        assert int(updates_made(state)) == step - 1
        updates, state = optimizer.update({"w_D": jnp.array(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        clipped = gradient / 5
        first, second = 0.9 * first + 0.1 * clipped, 0.95 * second + 0.05 * clipped**2
        moved = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.95**step)) + settings.eps)
        weight = weight - 0.1 * (moved + 0.2 * weight)
        np.testing.assert_allclose(params["w_D"], weight, rtol=1e-5)
