"""Norm, rotary positions and SwiGLU against numpy; the models' logits check them against transformers as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models.layers import RMSNorm, RopeScaling, SwiGLU, dense_init, rope_frequencies, rotary


def test_rms_norm_in_float32():
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32) * 100
    scale = np.random.default_rng(1).normal(size=8).astype(np.float32)
    norm = RMSNorm(1e-3)
    expected = x / np.sqrt((np.float64(x) ** 2).mean(-1, keepdims=True) + 1e-3) * scale
    params = {"params": {"scale_D": jnp.array(scale)}}
    np.testing.assert_allclose(norm.apply(params, jnp.array(x)), expected, rtol=1e-5)
    low = norm.apply(params, jnp.array(x, jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(low, np.float32), expected, rtol=2e-2)


def test_swiglu():
    rng = np.random.default_rng(0)
    x, gate, up, down = (rng.normal(size=shape) for shape in ((1, 2, 4), (4, 6), (4, 6), (6, 4)))
    hidden = x @ gate / (1 + np.exp(-(x @ gate))) * (x @ up)
    params = {"params": {"gate_DF": jnp.array(gate), "up_DF": jnp.array(up), "down_FD": jnp.array(down)}}
    np.testing.assert_allclose(SwiGLU(6).apply(params, jnp.array(x, jnp.float32)), hidden @ down, rtol=1e-4)


def test_initial_weights_have_variance_1_over_fan_in():
    for inputs, fan_in in ((1, 50), (2, 50 * 40)):
        weight = dense_init(inputs)(jax.random.key(0), (50, 40, 30))
        np.testing.assert_allclose(np.var(weight) * fan_in, 1, rtol=0.05)


def test_rotary_turns_each_pair_by_its_angle():
    frequencies, factor = rope_frequencies(6, 100.0, None)
    np.testing.assert_allclose(frequencies, [1, 100 ** (-1 / 3), 100 ** (-2 / 3)], rtol=1e-6)
    x = np.random.default_rng(0).normal(size=(1, 2, 1, 6)).astype(np.float32)
    turned = np.asarray(rotary(jnp.array(x), jnp.array([[0, 7]]), frequencies, factor))
    np.testing.assert_allclose(turned[0, 0], x[0, 0], rtol=1e-6)
    pairs = (x[0, 1, 0, :3] + 1j * x[0, 1, 0, 3:]) * np.exp(7j * frequencies)
    np.testing.assert_allclose(turned[0, 1, 0], [*pairs.real, *pairs.imag], rtol=1e-4, atol=1e-5)


def test_scaled_frequencies():
    """Linear divides all; llama3 the long waves and not the short; yarn likewise, and scales the logits."""
    plain, _ = rope_frequencies(16, 500.0, None)
    linear, _ = rope_frequencies(16, 500.0, RopeScaling("linear", 4.0))
    np.testing.assert_allclose(linear, plain / 4, rtol=1e-6)
    llama3, factor = rope_frequencies(16, 500.0, RopeScaling("llama3", 8.0, 32))
    turns = 32 * plain / (2 * np.pi)
    np.testing.assert_allclose(llama3[turns > 4], plain[turns > 4], rtol=1e-6)
    np.testing.assert_allclose(llama3[turns < 1], plain[turns < 1] / 8, rtol=1e-6)
    between = (turns > 1) & (turns < 4)
    assert between.any() and (llama3 < plain)[between].all() and (llama3 > plain / 8)[between].all() and factor == 1
    yarn, factor = rope_frequencies(16, 500.0, RopeScaling("yarn", 4.0, 32))
    np.testing.assert_allclose(factor, 0.1 * np.log(4) + 1)
    np.testing.assert_allclose([yarn[0], yarn[-1]], [plain[0], plain[-1] / 4], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [(("linear", 0.5), "factor is 0.5; need 1 or more"), (("yarn", 4.0), "yarn needs original_max_position")],
)
def test_scalings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        RopeScaling(*settings)
