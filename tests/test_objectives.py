"""Each formula against a few lines of float64 numpy, and at the edges where others have gone wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.objectives import (
    entropy,
    group_advantages,
    kl_terms,
    length_mask,
    log_probabilities,
    policy_terms,
    sequence_mean_weights,
    token_mean_weights,
)


def test_log_probabilities_over_the_tokenizers_ids():
    logits = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    logp = np.asarray(log_probabilities(jnp.array(logits), temperature=0.5, vocabulary=5))
    z = logits[:, :5].astype(np.float64) / 0.5
    np.testing.assert_allclose(logp[:, :5], z - np.log(np.exp(z).sum(1, keepdims=True)), atol=1e-6)
    assert (np.exp(logp[:, 5:]) == 0).all()


def test_temperature_divides_before_the_softmax():
    logits = jnp.array([[2.0, 0.0]])
    raw = jax.nn.log_softmax(logits)[0, 0]
    assert abs(log_probabilities(logits, temperature=0.7, vocabulary=2)[0, 0] - raw / 0.7) > 0.01


def test_entropy_of_uniform_and_certain():
    logp = log_probabilities(jnp.array([[0.0, 0.0, 0.0, 9.0], [500.0, 0, 0, 0]]), temperature=1.0, vocabulary=3)
    np.testing.assert_allclose(entropy(logp), [np.log(3), 0.0], atol=1e-6)
    gradient = jax.grad(lambda z: entropy(log_probabilities(z, temperature=1.0, vocabulary=3)).sum())
    assert np.isfinite(gradient(jnp.array([[500.0, 0, 0, 0]]))).all()


@pytest.mark.parametrize("value, size", [(0.1, 7), (0.3, 6), (0.7, 7), (1.1, 12)])
def test_equal_rewards_give_exactly_zero(value, size):
    advantage, graded = group_advantages(jnp.full((1, size), value, jnp.float32))
    assert (np.asarray(advantage) == 0).all() and np.asarray(graded).all()


def test_advantages_equal_numpy():
    rewards = np.random.default_rng(1).normal(size=(5, 6))
    expected = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(group_advantages(jnp.array(rewards, jnp.float32))[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(group_advantages(jnp.array([[1.0, 0, 0, 1]]))[0][0, 0], 0.86588, atol=1e-4)


def test_ungraded_leaves_its_group():
    advantage, graded = group_advantages(jnp.array([[1.0, jnp.nan, 0.0], [jnp.nan] * 3, [jnp.nan, 5.0, jnp.nan]]))
    expected = 0.5 / (np.std([1, 0], ddof=1) + 1e-4)
    np.testing.assert_allclose(advantage, [[expected, 0, -expected], [0, 0, 0], [0, 0, 0]], atol=1e-5)
    assert graded.tolist() == [[True, False, True], [False] * 3, [False, True, False]]


def test_policy_terms_equal_numpy():
    rng = np.random.default_rng(2)
    logp, old, advantage = rng.normal(size=(4, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    ratio = np.exp(logp - old)
    a = advantage[:, None]
    expected = -np.minimum(ratio * a, np.clip(ratio, 0.8, 1.3) * a)
    terms, r = policy_terms(
        jnp.array(logp), old_logp_BT=jnp.array(old), advantage_B=jnp.array(advantage), clip_low=0.2, clip_high=0.3
    )
    np.testing.assert_allclose(terms, expected, rtol=1e-5)
    np.testing.assert_allclose(r, ratio, rtol=1e-5)


def test_on_policy_gradient_is_the_advantage():
    logp = jnp.log(jnp.array([[0.5, 0.25]]))

    def loss(x):
        return policy_terms(x, old_logp_BT=logp, advantage_B=jnp.array([2.0]), clip_low=0.2, clip_high=0.2)[0].sum()

    np.testing.assert_allclose(jax.grad(loss)(logp), [[-2.0, -2.0]], rtol=1e-6)


@pytest.mark.parametrize("ratio", [200.0, -200.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_extreme_ratios_stay_finite(ratio, advantage):
    def loss(x):
        terms, _ = policy_terms(
            x, old_logp_BT=jnp.zeros((1, 1)), advantage_B=jnp.array([advantage]), clip_low=0.2, clip_high=0.2
        )
        return terms.sum() + kl_terms(x, jnp.zeros((1, 1))).sum()

    value, gradient = jax.value_and_grad(loss)(jnp.full((1, 1), ratio))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_kl_is_k3_and_never_negative():
    np.testing.assert_allclose(kl_terms(jnp.zeros((1, 1)), jnp.log(2.0) * jnp.ones((1, 1))), 0.30685, atol=1e-5)
    small = jnp.array(np.random.default_rng(3).normal(size=(1, 10_000)) * 1e-4, jnp.float32)
    assert (np.asarray(kl_terms(jnp.zeros_like(small), small)) >= 0).all()


def test_reductions():
    """Lengths 2 and 4, terms 1 and 2: sequence mean 1.5, token mean 10/6; the same when summed in two halves."""
    mask = length_mask(jnp.array([2, 4]), 8)
    assert mask.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]
    terms = jnp.array([[1.0], [2.0]]) * jnp.ones((2, 8))
    for weights, expected in ((sequence_mean_weights(mask), 1.5), (token_mean_weights(mask), 10 / 6)):
        np.testing.assert_allclose(jnp.sum(weights * terms), expected, rtol=1e-6)
        np.testing.assert_allclose(
            sum(jnp.sum(weights[i : i + 1] * terms[i : i + 1]) for i in range(2)), expected, rtol=1e-6
        )
    for weights in (sequence_mean_weights, token_mean_weights):
        assert (np.asarray(weights(jnp.zeros((3, 4)))) == 0).all()
    one_masked = sequence_mean_weights(jnp.array([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_allclose(one_masked, [[0, 0], [0.5, 0.5]])
