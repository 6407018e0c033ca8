"""Weights of Hugging Face folders in and out, against references that transformers wrote (scripts/hf_references.py)."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings
from r1jax.huggingface.config import read_config
from r1jax.huggingface.tables import Weight
from r1jax.huggingface.weights import export_params, find_tensors, import_params
from r1jax.models import abstract_params, forward, make_model, unembed
from r1jax.parallel.mesh import TRAIN_WEIGHTS, abstract_weights, make_mesh

REFERENCES = Path(__file__).parents[1] / "references"
FAMILIES = ["llama", "llama_linear", "qwen2", "qwen3", "yarn"]
TYPES = ["llama_bf16", "llama_f16"]
TOKENIZER_SIZE = 80  # of the references; their embeddings have 96 rows


def load(name, mesh, folder=None):
    folder = folder or REFERENCES / name
    config = dataclasses.replace(read_config(folder), dtype="float32")
    model = make_model(config, TOKENIZER_SIZE)
    params = jax.device_get(import_params(folder, model.config, abstract_params(model, mesh)))
    return model, params, dict(np.load(REFERENCES / name / "reference.npz"))


def logits_of(model, params, *inputs):
    def run(params, *inputs):
        return unembed(model, params, forward(model, params, *inputs)[0])

    with jax.default_matmul_precision("float32"):
        return np.asarray(jax.jit(run)(params, *inputs))[..., : model.config.vocab_size]


def tensors_of(folder):
    return {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}


@pytest.mark.parametrize("name", FAMILIES + TYPES)
def test_logits_are_those_of_transformers(name, mesh):
    model, params, reference = load(name, mesh)
    np.testing.assert_allclose(logits_of(model, params, reference["tokens"]), reference["logits"], atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_and_padded_rows(name, mesh):
    model, params, reference = load(name, mesh)
    packed = [reference[f"packed_{part}"] for part in ("tokens", "positions", "segments")]
    np.testing.assert_allclose(logits_of(model, params, *packed), reference["packed_logits"], atol=1e-4)
    logits = logits_of(model, params, reference["padded_tokens"])
    for row, length, expected in zip(logits, reference["lengths"], reference["padded_logits"], strict=True):
        np.testing.assert_allclose(row[:length], expected[:length], atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_cached_decoding(name, mesh):
    model, params, reference = load(name, mesh)
    tokens = reference["tokens"][:1]
    half, total = tokens.shape[1] // 2, tokens.shape[1]
    step = jax.jit(lambda params, tokens, positions, cache: forward(model, params, tokens, positions, None, cache))
    with jax.default_matmul_precision("float32"):
        cache = model.empty_cache(1, total)
        hidden, cache = step(params, tokens[:, :half], jnp.arange(half)[None], cache)
        parts = [unembed(model, params, hidden)]
        for t in range(half, total):
            hidden, cache = step(params, tokens[:, t : t + 1], jnp.full((1, 1), t), cache)
            parts.append(unembed(model, params, hidden))
    logits = np.concatenate(parts, axis=1)[..., : model.config.vocab_size]
    np.testing.assert_allclose(logits, reference["cached_logits"], atol=1e-4)


@pytest.mark.parametrize("sizes", [{"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"data": 2, "tensor": 4}])
def test_sharded_import_is_the_same(sizes, mesh):
    _, whole, _ = load("qwen3", mesh)
    _, sharded, _ = load("qwen3", make_mesh(MeshSettings(**{"data": 1} | sizes)))
    jax.tree.map(np.testing.assert_array_equal, whole, sharded)


@pytest.mark.parametrize("name", [*FAMILIES, *TYPES, "qwen3_sharded"])
def test_import_then_export_gives_the_same_bytes(name, mesh, tmp_path):
    source = REFERENCES / name
    before = tensors_of(source)
    model, params, _ = load(name.removesuffix("_sharded"), mesh, source)
    dtype = {"llama_bf16": "bfloat16", "llama_f16": "float16"}.get(name, "float32")
    few = {"shard_bytes": 20_000} if name == "qwen3_sharded" else {}
    export_params(params, model.config, tmp_path, dtype=dtype, **few)
    after = tensors_of(tmp_path)
    assert before.keys() == after.keys()
    for tensor, value in before.items():
        assert after[tensor].dtype == value.dtype and after[tensor].tobytes() == value.tobytes(), tensor
    if few:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(value.nbytes for value in before.values())
        assert set(index["weight_map"]) == set(before) and len(set(index["weight_map"].values())) > 2
        assert all(file.stat().st_size < 30_000 for file in tmp_path.glob("*.safetensors"))


def broken(tmp_path, name="llama"):
    folder = tmp_path / "model"
    shutil.copytree(REFERENCES / name, folder)
    return folder


def test_tensors_that_do_not_match_the_config_are_errors(mesh, tmp_path):
    folder = broken(tmp_path)
    model = make_model(read_config(folder), TOKENIZER_SIZE)
    good = tensors_of(folder)
    norm = "model.norm.weight"

    def with_tensors(tensors):
        save_file(tensors, folder / "model.safetensors")
        return import_params(folder, model.config, abstract_params(model, mesh))

    with pytest.raises(ConfigError, match=r"tensor model.norm.weight has shape \[7\], config.json asks \[16\]"):
        with_tensors(good | {norm: np.ones(7, np.float32)})
    with pytest.raises(ConfigError, match=r"no tensor model.norm.weight of shape \[16\]"):
        with_tensors({name: value for name, value in good.items() if name != norm})
    with pytest.raises(ConfigError, match=r"tensor surprise of shape \[3\] is not expected"):
        with_tensors(good | {"surprise": np.ones(3, np.float32)})
    with pytest.raises(ConfigError, match="is I32, as in quantised models; need F32, BF16, F16"):
        with_tensors(good | {norm: np.ones(16, np.int32)})
    with_tensors(good | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)})


def test_truncated_and_missing_files_are_errors(mesh, tmp_path):
    folder = broken(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=r"model\.safetensors: a truncated or broken safetensors file"):
        find_tensors(folder)
    file.unlink()
    with pytest.raises(ConfigError, match=r"no model\.safetensors; need"):
        find_tensors(folder)
    sharded = broken(tmp_path / "two", "qwen3_sharded")
    next(sharded.glob("*.safetensors")).unlink()
    with pytest.raises(ConfigError, match=r"no model-0000\d-of-"):
        find_tensors(sharded)


def test_values_that_the_type_cannot_hold_are_an_error(model_config, mesh, tmp_path):
    model = make_model(model_config, 10)
    params = jax.tree.map(lambda x: jnp.full(x.shape, 1e6), abstract_params(model, mesh))
    with pytest.raises(ConfigError, match="float16 cannot hold; choose bfloat16"):
        export_params(params, model.config, tmp_path, dtype="float16")


def test_the_exported_file_has_the_mode_of_any_new_file(model_config, mesh, tmp_path):
    model = make_model(model_config, 10)
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), abstract_params(model, mesh))
    export_params(params, model.config, tmp_path, dtype="float32")
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


STACKS = {
    "dense/up_DF": Weight("layers.{L}.up", "F D"),
    "moe/up_EDF": Weight("layers.{L}.experts.{E}.up", "F D", first_layer=2),
    "moe/router_DE": Weight("layers.{L}.router", "E D", first_layer=2),
}


@pytest.mark.parametrize("sizes", [{"data": 8}, {"fsdp": 2, "tensor": 2, "expert": 2}])
def test_a_family_with_two_stacks_and_experts(sizes, monkeypatch, tmp_path):
    """Two dense layers, then three of four experts each: every expert is a tensor of its own in the file."""
    monkeypatch.setattr("r1jax.huggingface.weights.WEIGHTS", STACKS)
    rng = np.random.default_rng(0)
    shapes = {"dense": {"up_DF": (2, 4, 6)}, "moe": {"up_EDF": (3, 4, 4, 2), "router_DE": (3, 4, 4)}}
    params = {
        stack: {name: rng.normal(size=shape).astype(np.float32) for name, shape in weights.items()}
        for stack, weights in shapes.items()
    }
    config = read_config(REFERENCES / "llama")
    export_params(jax.tree.map(jnp.asarray, params), config, tmp_path, dtype="float32")
    tensors = tensors_of(tmp_path)
    assert len(tensors) == 2 + 3 * 4 + 3
    np.testing.assert_array_equal(tensors["layers.1.up"], params["dense"]["up_DF"][1].T)
    np.testing.assert_array_equal(tensors["layers.4.experts.3.up"], params["moe"]["up_EDF"][2, 3].T)
    np.testing.assert_array_equal(tensors["layers.2.router"], params["moe"]["router_DE"][0].T)
    abstract = abstract_weights(make_mesh(MeshSettings(**{"data": 1} | sizes)), params, TRAIN_WEIGHTS)
    jax.tree.map(np.testing.assert_array_equal, import_params(tmp_path, config, abstract), params)
