"""Compiled programs are found again by another process, in the user's cache folder or in one that JAX was told of."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax
from r1jax.parallel.compile_cache import use_compile_cache
use_compile_cache()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
jax.jit(lambda x: x @ x + 1)(jax.numpy.ones((8, 8))).block_until_ready()
print(hits.count("/jax/compilation_cache/cache_hits"))
"""


def cache_hits(**environment):
    """How many programs a new process finds compiled."""
    own = {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME")}
    own |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **environment}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=own, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("told", [False, True])
def test_a_second_process_compiles_nothing(told, tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path / "user")}
    if told:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "told")
    assert cache_hits(**environment) == 0
    assert cache_hits(**environment) > 0
    assert (tmp_path / "user").exists() != told
    assert cache_hits(**environment, JAX_ENABLE_COMPILATION_CACHE="false") == 0
