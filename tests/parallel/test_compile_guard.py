"""The compile guard: a compilation in a region that has run before is reported."""

import warnings

import jax
import jax.numpy as jnp
import pytest

from r1jax.parallel.compile_guard import CompileGuard


@pytest.fixture
def double():
    return jax.jit(lambda x: 2 * x)


def test_a_second_shape_in_a_region_is_reported(double):
    guard = CompileGuard()
    short, long, shorter = jnp.zeros(3), jnp.zeros(4), jnp.zeros(2)
    with warnings.catch_warnings(action="error"):
        for _ in range(2):
            with guard("double"):
                double(short)
        before = guard.count
        with guard("another region"):
            double(long)
        assert guard.count == before + 1
    with pytest.warns(UserWarning, match=r"1 compilation\(s\) in double, which has run before"), guard("double"):
        double(shorter)
    assert "in double" in guard.reported
    guard.close()


def test_what_is_forgotten_may_compile_again(double):
    guard = CompileGuard()
    short, long = jnp.zeros(7), jnp.zeros(8)
    with warnings.catch_warnings(action="error"):
        with guard("double"):
            double(short)
        guard.forget()
        with guard("double"):
            double(long)
    assert guard.reported is None
    guard.close()


def test_a_closed_guard_counts_nothing(double):
    guard = CompileGuard()
    array = jnp.zeros(6)
    guard.close()
    before = guard.count
    with guard("double"):
        double(array)
    assert guard.count == before
