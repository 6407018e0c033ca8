"""All tests run on 8 emulated CPU devices; a shape that would be promoted silently is an error."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Many tests compile the same programs, in subprocesses too: within one session each is compiled once.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="r1jax-tests-")
# Tests compile far more than they compute.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

from tiny import TINY  # noqa: E402

from r1jax.config import MeshConfig, ModelConfig, load_config  # noqa: E402
from r1jax.mesh import make_mesh  # noqa: E402


@pytest.fixture
def tiny_file(tmp_path):
    """A config of two short stages on a tiny model, as a file."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.format(folder=tmp_path / "run"))
    return file


@pytest.fixture
def tiny(tiny_file):
    return load_config(tiny_file)


@pytest.fixture
def mesh():
    return make_mesh(MeshConfig())


@pytest.fixture
def model_config():
    return ModelConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        dtype="float32",
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """One finished tiny run (config, folder), in which every compile after the first step of a shape was an error."""
    from r1jax.programs.pipeline import train

    folder = tmp_path_factory.mktemp("trained")
    file = folder / "tiny.yaml"
    file.write_text(TINY.format(folder=folder / "run"))
    config = load_config(file)
    train(config, strict_compiles=True)
    return config, folder / "run"
