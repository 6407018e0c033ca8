import math
import re
from pathlib import Path

import jax
import pytest

from r1jax.config.model import ModelSettings
from r1jax.config.training import MeshSettings
from r1jax.huggingface.published import PUBLISHED
from r1jax.models import abstract_params, make_model
from r1jax.parallel.mesh import make_mesh
from r1jax.planning.plan import architecture

# As the hub counts the numbers in their safetensors files.
PARAMETERS = {
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-32B": 32_763_876_352,
    "Qwen/Qwen3-0.6B-Base": 596_049_920,
    "Qwen/Qwen3-1.7B-Base": 1_720_574_976,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
}


@pytest.mark.parametrize("model", PARAMETERS)
def test_they_have_as_many_parameters_as_published(model):
    config = architecture(ModelSettings(path=model))
    assert config.vocab_size is not None
    params = abstract_params(make_model(config, config.vocab_size), make_mesh(MeshSettings()))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(params)) == PARAMETERS[model]


def test_those_of_the_shipped_configs_are_there():
    paths = re.findall(r"path: ([\w.-]+/[\w.-]+)", "".join(file.read_text() for file in Path("configs").glob("*.yaml")))
    assert {path for path in paths if not path.startswith("models/")} <= {*PUBLISHED}
