"""Architectures from settings and from config.json, and a folder that describes a model."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from r1jax.config.base import ConfigError
from r1jax.config.model import ModelSettings
from r1jax.huggingface.config import config_json, model_config, read_config, write_description
from r1jax.models import make_model
from r1jax.text.tokenizer import CharacterTokenizer, load_tokenizer

REFERENCES = Path(__file__).parents[1] / "references"
FAMILIES = ["llama", "llama_linear", "qwen2", "qwen3", "yarn"]
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_config_json_round_trip(name, tmp_path):
    config = read_config(REFERENCES / name)
    (tmp_path / "config.json").write_text(json.dumps(config_json(config, dtype="float32", positions=64)))
    assert read_config(tmp_path) == config


@pytest.mark.parametrize(
    ("family", "qkv_bias", "qk_norm"), [("llama", False, False), ("qwen2", True, False), ("qwen3", False, True)]
)
def test_a_description_names_its_family(family, qkv_bias, qk_norm):
    config = model_config(ModelSettings(family=family, **SIZES, rope_theta=300.0, dtype="float32", remat="dots"))
    assert (config.qkv_bias, config.qk_norm, config.rope_theta) == (qkv_bias, qk_norm, 300.0)
    assert (config.dtype, config.remat, config.tie_word_embeddings) == ("float32", "dots", True)
    assert {name: getattr(config, name) for name in SIZES} == SIZES


def test_a_path_is_read_and_a_runs_own_folder_comes_first(tmp_path):
    source = REFERENCES / "qwen3"
    settings = ModelSettings(path=str(source), dtype="float32", remat="full")
    expected = dataclasses.replace(read_config(source), dtype="float32", remat="full")
    assert model_config(settings) == expected
    gone = ModelSettings(path=str(tmp_path / "gone"), dtype="float32", remat="full")
    assert model_config(gone, source) == expected


def test_a_described_model_is_read_back_from_its_folder(model_config, tmp_path):
    tokenizer = CharacterTokenizer(["a", "b"])
    config = make_model(dataclasses.replace(model_config, dtype="bfloat16"), tokenizer.size).config
    write_description(tmp_path / "model", config, tokenizer, positions=64)
    assert read_config(tmp_path / "model") == config
    raw = json.loads((tmp_path / "model" / "config.json").read_text())
    assert raw["max_position_embeddings"] == 64 and raw["torch_dtype"] == "float32"
    again = load_tokenizer(tmp_path / "model", ())
    assert again.encode("ab") == tokenizer.encode("ab") and again.stop_ids == tokenizer.stop_ids


def test_a_pretrained_models_own_config_is_taken_over(tmp_path):
    source = REFERENCES / "llama"
    write_description(
        tmp_path, read_config(source), CharacterTokenizer(["a"]), positions=1, dtype="bfloat16", source=source
    )
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path))
    assert after == before | {"dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architectures": ["MambaForCausalLM"]},
            "MambaForCausalLM is not supported; those are LlamaForCausalLM, Qwen2",
        ),
        ({"hidden_act": "gelu"}, "hidden_act gelu is not supported; only silu"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope scaling longrope is not supported; linear, llama3"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide'; give the config.json"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 0.5}}, "rope scaling: factor is 0.5"),
    ],
)
def test_configs_that_are_not_supported(change, message, tmp_path):
    raw = json.loads((REFERENCES / "llama" / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path)


def test_the_same_scaling_may_be_written_twice(tmp_path):
    raw = json.loads((REFERENCES / "llama" / "config.json").read_text())
    raw.pop("rope_parameters", None), raw.pop("rope_scaling", None)
    block = {"factor": 2.0}
    files = [{"rope_scaling": block | {"type": "linear"}}, {"rope_parameters": block | {"rope_type": "linear"}}]
    found = []
    for change in (*files, files[0] | {"rope_parameters": block | {"rope_type": "linear", "rope_theta": 10_000.0}}):
        (tmp_path / "config.json").write_text(json.dumps(raw | {"rope_theta": 10_000.0} | change))
        found.append(read_config(tmp_path))
    assert found[0] == found[1] == found[2] and found[0].rope_scaling.factor == 2.0


@pytest.mark.parametrize("named", [[5], 5, [1, 5], None])
def test_a_folder_keeps_the_stop_tokens_of_its_tokenizer(named, pretrained, tmp_path):
    """A run with a pretrained model and another tokenizer: what is read back stops where the run does."""
    tokenizer, config = load_tokenizer(pretrained, ()), read_config(pretrained)
    source = tmp_path / "source"
    shutil.copytree(pretrained, source)
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": named, "temperature": 0.6}))
    write_description(tmp_path / "model", config, tokenizer, positions=8, source=source)
    assert load_tokenizer(tmp_path / "model", ()).stop_ids == tokenizer.stop_ids == (1,)
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["temperature"] == 0.6


def test_the_generation_config_of_the_tokenizers_own_model_is_kept(pretrained, tmp_path):
    write_description(
        tmp_path / "model", read_config(pretrained), load_tokenizer(pretrained, ()), positions=8, source=pretrained
    )
    names = "generation_config.json"
    assert json.loads((tmp_path / "model" / names).read_text()) == json.loads((pretrained / names).read_text())
