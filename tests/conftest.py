"""All tests run on 8 emulated CPU devices; a shape that would be promoted silently is an error."""

import atexit
import dataclasses
import json
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Many tests compile the same programs, in subprocesses too: within one session each is compiled once.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="r1jax-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
# Tests compile far more than they compute.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import numpy as np
import pytest
from orbax.checkpoint._src.serialization.type_handler_registry import GLOBAL_TYPE_HANDLER_REGISTRY

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

from tiny import TINY  # noqa: E402

from r1jax.config.experiment import MeshSettings  # noqa: E402
from r1jax.config.load import load_config  # noqa: E402
from r1jax.models import ModelConfig  # noqa: E402
from r1jax.parallel.mesh import make_mesh  # noqa: E402
from r1jax.rewards import accuracy, text_match  # noqa: E402
from r1jax.tasks import gym  # noqa: E402
from r1jax.text import chat_template  # noqa: E402

# Orbax has each of 8 replicas write a part of each array, for which it compiles a program by shape: a third of the time
# of a tiny run. Runs in processes of their own do it as always.
GLOBAL_TYPE_HANDLER_REGISTRY.get(jax.Array)._use_replica_parallel = False

# A busy machine may stop a worker for seconds. Tests of what is late set a time of their own.
accuracy.SECONDS = text_match.SECONDS = gym.SECONDS = chat_template.RENDER_SECONDS = 60.0


def pytest_addoption(parser):
    parser.addoption("--all-meshes", action="store_true", help="every factorisation of 8 devices, not 9 of the 35")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all-meshes"):
        left_out = [item for item in items if item.get_closest_marker("many_meshes")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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
    return make_mesh(MeshSettings())


@pytest.fixture(scope="session")
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
    train(config)
    return config, folder / "run"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder as tensorflow-datasets writes it, without TensorFlow."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class Sums(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            columns = {"question": tfds.features.Text(), "answer": tfds.features.Text(), "n": np.int64}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(columns))

        def _split_generators(self, manager):
            return {"train": self._generate_examples(0, 40), "test": self._generate_examples(40, 50)}

        def _generate_examples(self, start, stop):
            for i in range(start, stop):
                yield i, {"question": f"{i} + 1 → ?", "answer": f"count → #### {i + 1}", "n": i}

    folder = tmp_path_factory.mktemp("tfds")
    Sums(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(scope="session")
def pretrained(model_config, tmp_path_factory):
    """A tiny random Qwen3 as a Hugging Face folder: one token a character, a chat template, ten spare rows."""
    from r1jax.huggingface.config import config_json
    from r1jax.huggingface.weights import export_params
    from r1jax.models import init_params, make_model
    from r1jax.text.tokenizer import CharacterTokenizer

    folder = tmp_path_factory.mktemp("pretrained")
    tokenizer = CharacterTokenizer(
        ["<think>", "</think>", "<answer>", "</answer>", *map(chr, range(32, 127)), "\n", "→"]
    )
    config = dataclasses.replace(model_config, vocab_size=tokenizer.size + 10, head_dim=8, qk_norm=True)
    tokenizer.save(folder)
    described = config_json(config, dtype="float32", positions=512)
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(tokenizer.stop_ids)}))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<think>{% endif %}"
    )
    params = init_params(make_model(config, tokenizer.size), jax.random.key(0))
    export_params(params, config, folder, dtype="float32")
    return folder
