"""Folders as public models have them, rebuilt tiny: logits as of transformers (scripts/hf_folders.py), or a refusal."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hf_folders import LLAMA, MISTRAL, MODELS, QWEN2, QWEN3, TINY, weight, write_model
from safetensors.numpy import load_file, save_file

from r1jax.config.base import ConfigError
from r1jax.config.training import MeshSettings
from r1jax.huggingface.config import read_config, write_description
from r1jax.huggingface.weights import export_params, import_params
from r1jax.models import abstract_params, forward, make_model, unembed
from r1jax.parallel.mesh import make_mesh
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.text.tokenizer import CharacterTokenizer

REFERENCES = Path(__file__).parents[1] / "references" / "folders"
SHAPES = json.loads((REFERENCES / "models.json").read_text())
HEAD, EMBEDDING, NORM = "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"


def logits_of(folder, mesh):
    config = dataclasses.replace(read_config(folder), dtype="float32")
    model = make_model(config, config.vocab_size)
    params = import_params(folder, model.config, abstract_params(model, mesh))
    tokens = np.load(REFERENCES / "logits.npz")["tokens"]
    with jax.default_matmul_precision("float32"):
        hidden, _ = jax.jit(forward, static_argnums=0)(model, params, tokens)
        return np.asarray(unembed(model, params, hidden))[0, :, : config.vocab_size], model, params


def written(folder, name="TinyLlama-1.1B", change=None, tensors=None):
    """A folder of one of the models, with some keys of its config and some tensors others."""
    config = {key: value for key, value in (MODELS[name] | (change or {})).items() if value != "absent"}
    write_model(folder, config, SHAPES[name])
    if tensors is not None:
        save_file(tensors(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name, mesh, tmp_path):
    expected = np.load(REFERENCES / "logits.npz")[name]
    logits, model, params = logits_of(written(tmp_path / "model", name), mesh)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    # What training writes of it has the same tensors, described by a config of its own.
    write_description(tmp_path / "out", model.config, CharacterTokenizer(["a"]), positions=64)
    export_params(params, model.config, tmp_path / "out", dtype="float32")
    assert read_config(tmp_path / "out") == dataclasses.replace(read_config(tmp_path / "model"), dtype="bfloat16")
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == SHAPES[name].keys()


REFUSED = {
    "Mistral-7B-v0.1": (MISTRAL | {"sliding_window": 4096}, "a sliding window of 4096 tokens, which is not supported"),
    "Mistral without a key": ({k: v for k, v in MISTRAL.items() if k != "sliding_window"}, "a sliding window of 4096"),
    "Qwen2 that slides": (QWEN2 | {"use_sliding_window": True, "max_window_layers": 1}, "a sliding window of 64 tok"),
    "layer_types": (QWEN3 | {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types are not all full"),
    "Llama-2-7B-GPTQ": (LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"quantised \(gptq\)"),
    "Qwen2.5-AWQ": (QWEN2 | {"quantization_config": {"quant_method": "awq"}}, r"the weights are quantised \(awq\)"),
    "DeepSeek-V3": (TINY | {"architectures": ["DeepseekV3ForCausalLM"]}, "DeepseekV3ForCausalLM is not supported"),
    "Phi-3-mini": (TINY | {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}, "Phi3ForCausalLM is not supp"),
    "gemma-2-2b": (TINY | {"architectures": ["Gemma2ForCausalLM"]}, "Gemma2ForCausalLM is not supported; those are Ll"),
    "Mixtral-8x7B": (TINY | {"architectures": ["MixtralForCausalLM"]}, "MixtralForCausalLM is not supported"),
    "Qwen1.5-MoE": (TINY | {"architectures": ["Qwen2MoeForCausalLM"]}, "Qwen2MoeForCausalLM is not supported"),
    "granite-3": (TINY | {"architectures": ["GraniteForCausalLM"]}, "GraniteForCausalLM is not supported"),
    "OLMo-2": (TINY | {"model_type": "olmo2"}, "model_type 'olmo2', without architectures, is not supported"),
    "gelu": (LLAMA | {"hidden_act": "gelu_pytorch_tanh"}, "hidden_act gelu_pytorch_tanh is not supported"),
    "dynamic": (LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope scaling dynamic is not supported"),
    "Yarn-Llama-2": (
        LLAMA | {"rope_scaling": {"type": "yarn", "factor": 16.0, "finetuned": True}},
        "rope scaling yarn has finetuned, which is not supported",
    ),
    "Qwen2-VL's text": (
        QWEN2 | {"rope_scaling": {"type": "default", "mrope_section": [2, 1, 1]}},
        "rope scaling default has mrope_section",
    ),
    "partial rotary": (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor is not supported"),
    "two rope blocks": (
        LLAMA | {"rope_parameters": {"rope_theta": 5e5}, "rope_scaling": {"type": "linear", "factor": 2.0}},
        "rope_parameters and rope_scaling, and they differ",
    ),
    "nested rope": (
        QWEN3 | {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
        "rope_parameters is not one block for all layers",
    ),
    "rope_theta null": (LLAMA | {"rope_theta": None}, "rope_theta is None; need a number"),
    "rope_theta text": (LLAMA | {"rope_theta": "10000"}, "rope_theta is '10000'; need a number"),
    "rope a list": (LLAMA | {"rope_scaling": [1]}, "rope_scaling is not one block"),
    "factor text": (LLAMA | {"rope_scaling": {"type": "linear", "factor": "8"}}, "factor is '8'; need a number"),
    "architectures [[]]": (LLAMA | {"architectures": [[]]}, r"architectures is \[\[\]\]; need a list of names"),
    "architectures a text": (
        LLAMA | {"architectures": "LlamaForCausalLM"},
        "architectures is 'LlamaForCausalLM'; need",
    ),
    "a thousand million layers": (LLAMA | {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; 4096 is the"),
    "heads true": (LLAMA | {"num_attention_heads": True}, "num_attention_heads is True; give the config.json"),
    "key-value heads of text": (
        LLAMA | {"num_key_value_heads": "2"},
        "num_key_value_heads is '2'; need a whole number",
    ),
    "epsilon of text": (LLAMA | {"rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5'; need a number"),
    "tied of text": (LLAMA | {"tie_word_embeddings": "yes"}, "tie_word_embeddings must be true or false"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_with_its_reason(name, tmp_path):
    config, reason = REFUSED[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=reason) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_head_of_its_own_is_used_whatever_the_config_says(mesh, tmp_path):
    folder = written(tmp_path / "model", "Llama-2-7b", {"tie_word_embeddings": True})
    with pytest.warns(
        UserWarning, match=r"an lm_head\.weight that differs from the embedding; the one in the file is u"
    ):
        logits, *_ = logits_of(folder, mesh)
    np.testing.assert_allclose(logits, np.load(REFERENCES / "logits.npz")["Llama-2-7b"], atol=1e-4)
    with pytest.warns(UserWarning, match="differs from the embedding"):
        config = read_config(folder)
    write_description(tmp_path / "out", config, CharacterTokenizer(["a"]), positions=64, source=folder)
    assert not read_config(tmp_path / "out").tie_word_embeddings


def test_a_tied_head_that_is_stored_twice_is_the_embedding(mesh, recwarn, tmp_path):
    folder = written(tmp_path, "Llama-3.2-1B", tensors=lambda t: t | {HEAD: t[EMBEDDING]})
    np.testing.assert_allclose(
        logits_of(folder, mesh)[0], np.load(REFERENCES / "logits.npz")["Llama-3.2-1B"], atol=1e-4
    )
    assert not [w for w in recwarn if "lm_head" in str(w.message)]


RENAMED = {
    "torch.compile": lambda t: {f"_orig_mod.{name}": value for name, value in t.items()},
    "data parallel": lambda t: {f"module.{name}": value for name, value in t.items()},
    "both": lambda t: {f"module._orig_mod.{name}": value for name, value in t.items()},
    "each layer": lambda t: {name.replace("mlp.", "_checkpoint_wrapped_module.mlp."): v for name, v in t.items()},
    "the bare decoder": lambda t: {name.removeprefix("model."): value for name, value in t.items()},
    "buffers": lambda t: (
        t
        | {"model.rotary_emb.inv_freq": np.ones(2, np.float32)}
        | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32) for i in range(2)}
    ),
}


@pytest.mark.parametrize("how", RENAMED)
def test_wrappers_prefixes_and_buffers(how, mesh, tmp_path):
    logits, *_ = logits_of(written(tmp_path, "Llama-3.2-1B", tensors=RENAMED[how]), mesh)
    np.testing.assert_allclose(logits, np.load(REFERENCES / "logits.npz")["Llama-3.2-1B"], atol=1e-4)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (lambda t: t | {f"module.{NORM}": t[NORM]}, f"are both the tensor {NORM}; drop one"),
        (lambda t: t | {NORM: np.full(16, np.nan, np.float32)}, f"tensor {NORM} has values that are NaN or infinite"),
        (lambda t: t | {EMBEDDING: np.full((32, 16), np.inf, np.float32)}, "has values that are NaN or infinite"),
        (lambda t: t | {"model.layers.0.mlp.up_proj.qweight": np.ones(2, np.int32)}, "the weights are quantised"),
        (lambda t: t | {NORM: np.ones(16, np.uint8)}, "is U8, as in quantised models; need F32, BF16, F16"),
    ],
)
def test_weights_that_are_refused(tensors, reason, mesh, tmp_path):
    with pytest.raises(ConfigError, match=reason):
        logits_of(written(tmp_path, tensors=tensors), mesh)


def sharded(folder, name="TinyLlama-1.1B"):
    """A model in two files, and the index of its tensors."""
    tensors = load_file(written(folder, name) / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    where = {}
    for file, half in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        save_file({name: tensors[name] for name in half}, folder / file)
        where |= dict.fromkeys(half, file)
    return where


def write_index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("weight_map", [5, [], None, {}, "a.safetensors"])
def test_a_weight_map_that_is_none(weight_map, tmp_path, mesh):
    sharded(tmp_path)
    write_index(tmp_path, weight_map)
    with pytest.raises(
        ConfigError, match=r"index\.json: weight_map is .*; need tensors with the files that they are in"
    ):
        logits_of(tmp_path, mesh)


@pytest.mark.parametrize(
    "file", ["../x.safetensors", "/x.safetensors", "sub/x.safetensors", "..", "x.bin", 5, None, []]
)
def test_a_weight_map_names_files_beside_it_alone(file, tmp_path, mesh):
    where = sharded(tmp_path / "model")
    save_file({NORM: np.ones(16, np.float32)}, tmp_path / "x.safetensors")
    write_index(tmp_path / "model", where | {NORM: file})
    with pytest.raises(ConfigError, match=r"weight_map has the file .*; need \.safetensors files beside it"):
        logits_of(tmp_path / "model", mesh)


def test_an_index_is_followed_and_never_guessed(tmp_path, mesh):
    where = sharded(tmp_path)
    write_index(tmp_path, where)
    expected = np.load(REFERENCES / "logits.npz")["TinyLlama-1.1B"]
    np.testing.assert_allclose(logits_of(tmp_path, mesh)[0], expected, atol=1e-4)
    other = {"a.safetensors": "b.safetensors", "b.safetensors": "a.safetensors"}[where[NORM]]
    wrong = {NORM: np.zeros(16, np.float32)}
    both = load_file(tmp_path / other)
    save_file(both | wrong, tmp_path / other)  # the tensor in two shards: the index says which is meant
    np.testing.assert_allclose(logits_of(tmp_path, mesh)[0], expected, atol=1e-4)
    save_file(both | {"surprise": np.zeros(3, np.float32)}, tmp_path / other)
    with pytest.raises(ConfigError, match=r"has a tensor surprise that model\.safetensors\.index\.json does not name"):
        logits_of(tmp_path, mesh)
    save_file(both, tmp_path / other)
    write_index(tmp_path, where | {"gone": other})
    with pytest.raises(ConfigError, match=rf"{other} has no tensor gone; give one model's files"):
        logits_of(tmp_path, mesh)
    write_index(tmp_path, where)
    save_file(
        {name: weight(name, shape) for name, shape in SHAPES["TinyLlama-1.1B"].items()}, tmp_path / "model.safetensors"
    )
    with pytest.raises(
        ConfigError, match=r"has model\.safetensors, and model\.safetensors\.index\.json names other fil"
    ):
        logits_of(tmp_path, mesh)


@pytest.mark.parametrize("sizes", [{"data": 8}, {"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_biases_on_devices_that_split_the_weights(sizes, tmp_path):
    name = "attention_bias and mlp_bias"
    mesh = make_mesh(MeshSettings(**{"data": 1} | sizes))
    config = dataclasses.replace(read_config(written(tmp_path, name)), dtype="float32")
    model = make_model(config, config.vocab_size)
    reference = np.load(REFERENCES / "logits.npz")
    with LoadedModel(model, CharacterTokenizer(["a"]), mesh, None).devices():
        params = import_params(tmp_path, model.config, abstract_params(model, mesh))
        run = jax.jit(lambda params, tokens: unembed(model, params, forward(model, params, tokens)[0]))
        logits = np.asarray(run(params, np.repeat(reference["tokens"], 8, axis=0)))[..., :32]
    np.testing.assert_allclose(logits, np.broadcast_to(reference[name], logits.shape), atol=1e-4)
