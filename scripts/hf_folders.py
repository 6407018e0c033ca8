"""Folders of public models rebuilt tiny, with what transformers makes of them: token ids and logits, for the tests.

It needs an environment of its own, since r1jax does not depend on torch: `pip install torch transformers sentencepiece
protobuf` (written with transformers 5.24).

    python scripts/hf_folders.py tokenizers tests/references/folders
    python scripts/hf_folders.py models tests/references/folders

`tokenizers` writes the vocabularies and tokenizers.json, `models` models.json and logits.npz. Weights are not kept:
they are made from the names of the tensors.
"""

import json
import random
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

# What public folders are like, as of their config.json files, with the sizes of TINY.
TINY = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 32}  # fmt: skip
LLAMA = TINY | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
                "rms_norm_eps": 1e-5, "pretraining_tp": 1, "tie_word_embeddings": False, "bos_token_id": 1,
                "eos_token_id": 2, "max_position_embeddings": 64, "rope_scaling": None}  # fmt: skip
QWEN2 = TINY | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
                "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "max_window_layers": 2, "sliding_window": 64,
                "use_sliding_window": False, "rope_theta": 1e6, "use_mrope": False}  # fmt: skip
QWEN3 = QWEN2 | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8, "attention_bias": False,
                 "rope_scaling": None, "sliding_window": None}  # fmt: skip
MISTRAL = TINY | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu",
                  "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "rope_theta": 1e6,
                  "sliding_window": None}  # fmt: skip
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
          "rope_type": "llama3"}  # fmt: skip
YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "type": "yarn"}
MODELS = {
    "Llama-2-7b": LLAMA | {"num_key_value_heads": 4, "torch_dtype": "float16"},
    "TinyLlama-1.1B": LLAMA | {"torch_dtype": "bfloat16"},
    "CodeLlama-7b": LLAMA | {"rope_theta": 1000000},
    "Llama-3.1-8B": LLAMA | {"rope_theta": 500000.0, "rope_scaling": LLAMA3, "attention_bias": False,
                             "mlp_bias": False},
    "Llama-3.2-1B": LLAMA | {"rope_theta": 500000.0, "rope_scaling": LLAMA3 | {"factor": 32.0}, "head_dim": 8,
                             "tie_word_embeddings": True},
    "SmolLM2-135M": LLAMA | {"tie_word_embeddings": True, "rope_interleaved": False, "is_llama_config": True,
                             "rope_theta": 100000, "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}}},
    "Yi-1.5-6B": LLAMA | {"rope_theta": 5000000.0, "attention_bias": False, "pad_token_id": 0},
    "longchat-7b-16k": LLAMA | {"rope_scaling": {"type": "linear", "factor": 8.0}},
    "attention_bias": LLAMA | {"attention_bias": True},
    "attention_bias and mlp_bias": LLAMA | {"attention_bias": True, "mlp_bias": True},
    "hidden_act swish": LLAMA | {"hidden_act": "swish"},
    "Qwen2-7B-Instruct": QWEN2,
    "Qwen2.5-0.5B": QWEN2 | {"tie_word_embeddings": True},
    "Qwen2.5-Math-1.5B": QWEN2 | {"tie_word_embeddings": True, "rope_theta": 10000, "use_mrope": False},
    "DeepSeek-R1-Distill-Qwen-1.5B": QWEN2 | {"tie_word_embeddings": False, "rope_theta": 10000},
    "Qwen2.5-7B-Instruct with yarn": QWEN2 | {"rope_scaling": YARN},
    "no layer slides": QWEN2 | {"use_sliding_window": True},
    "Qwen3-0.6B": QWEN3 | {"tie_word_embeddings": True},
    "Qwen3-8B with yarn": QWEN3 | {"rope_scaling": {**YARN, "rope_type": "yarn"}},
    "Qwen3 as transformers 5 writes it": {
        **{key: value for key, value in QWEN3.items() if key not in ("rope_theta", "rope_scaling")},
        "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
        "layer_types": ["full_attention"] * 2,
        "dtype": "bfloat16",
    },
    "Qwen3 with attention_bias": QWEN3 | {"attention_bias": True},
    "Mistral-7B-v0.3": MISTRAL,
    "Mistral-Nemo": MISTRAL | {"head_dim": 8},
    "yarn with its own theta": LLAMA | {"rope_scaling": {**YARN, "rope_theta": 500.0, "beta_fast": 16,
                                                         "attention_factor": 1.5}},
    "yarn, truncate false": LLAMA | {"rope_scaling": {**YARN, "truncate": False, "mscale": 0.7, "mscale_all_dim": 0.4}},
}  # fmt: skip
MODELS["no architectures"] = {key: value for key, value in QWEN2.items() if key != "architectures"}
MODELS["no key-value heads"] = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}

BASE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
SPM = BASE | {"tokenizer_class": "LlamaTokenizer"}
CHAT = ["<|im_start|>", "<|im_end|>"]
PIECES = 400  # of the vocabularies, before what is added to them


def _added(text: str, **flags: bool) -> dict:
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {"content": text} | plain | flags


_DECODER = {"400": _added("<|im_start|>"), "401": _added("<|im_end|>"),
            "402": _added("<think>", special=False, normalized=True)}  # fmt: skip
_QWEN = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "</s>", "unk_token": "</s>"}
# Name: the vocabulary (tokenizer.json, with special tokens or without, vocab.json or tokenizer.model), other files.
TOKENIZERS: dict[str, tuple[str, dict[str, dict]]] = {
    "tokenizer.json": ("special.json", {"tokenizer_config.json": BASE}),
    "tokens only in added_tokens_decoder": (
        "tokenizer.json", {"tokenizer_config.json": {"eos_token": "<|im_end|>", "added_tokens_decoder": _DECODER}}),
    "added_tokens_decoder with white space": (
        "tokenizer.json", {"tokenizer_config.json": {"eos_token": "<|im_end|>", "added_tokens_decoder": {
            "400": _added("<|im_start|>", rstrip=True), "401": _added("<|im_end|>", lstrip=True, rstrip=True),
            "402": _added("Zeta", single_word=True, special=False)}}}),
    "added_tokens_decoder that changes a token": (
        "special.json", {"tokenizer_config.json": BASE | {"added_tokens_decoder": {
            "400": _added("<s>"), "401": _added("</s>", lstrip=True), "402": _added("<unk>")}}}),
    "added_tokens.json": (
        "special.json", {"tokenizer_config.json": BASE, "added_tokens.json": {"<|im_end|>": 403, "<think>": 404}}),
    "additional_special_tokens": (
        "special.json", {"tokenizer_config.json": BASE | {"additional_special_tokens": [*CHAT, "<think>"]}}),
    "extra_special_tokens": (
        "special.json", {"tokenizer_config.json": BASE | {"extra_special_tokens": {"image_token": "<think>"}}}),
    "sep_token and mask_token": (
        "special.json", {"tokenizer_config.json": BASE | {"mask_token": "[MASK]", "sep_token": "[SEP]"}}),
    "special_tokens_map.json comes first": (
        "special.json", {"tokenizer_config.json": BASE, "special_tokens_map.json": {
            "eos_token": "<unk>", "sep_token": _added("[SEP]", rstrip=True),
            "additional_special_tokens": ["<think>"]}}),
    "an eos_token that is no token yet": ("special.json", {"tokenizer_config.json": {"eos_token": "<|im_end|>"}}),
    "Qwen2 with vocab.json": ("vocab.json", {
        "tokenizer_config.json": _QWEN, "added_tokens.json": {"</s>": 400, "<|im_start|>": 401, "<|im_end|>": 402}}),
    "Qwen2 with vocab.json and added_tokens_decoder": ("vocab.json", {"tokenizer_config.json": _QWEN | {
        "added_tokens_decoder": {"400": _added("</s>"), "401": _added("<|im_start|>"), "402": _added("<|im_end|>")}}}),
    "Qwen3 with vocab.json alone": ("vocab.json", {"config.json": {"model_type": "qwen3"}}),
    "GPT-2's tokenizer with vocab.json": (
        "vocab.json", {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"}}),
    "GPT-2's tokenizer with a space in front": ("vocab.json", {"tokenizer_config.json": {
        "tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True, "eos_token": "<|im_end|>"}}),
    "SentencePiece": ("tokenizer.model", {"tokenizer_config.json": SPM}),
    "SentencePiece, legacy false": ("tokenizer.model", {"tokenizer_config.json": SPM | {"legacy": False}}),
    "SentencePiece, legacy true": ("tokenizer.model", {"tokenizer_config.json": SPM | {"legacy": True}}),
    "SentencePiece alone": ("tokenizer.model", {"config.json": {"model_type": "llama"}}),
    "SentencePiece of another class": (
        "tokenizer.model", {"tokenizer_config.json": BASE | {"tokenizer_class": "PreTrainedTokenizerFast"}}),
    "SentencePiece with added_tokens.json": ("tokenizer.model", {
        "tokenizer_config.json": SPM | {"legacy": False},
        "added_tokens.json": {"<|im_start|>": 400, "<|im_end|>": 401}}),
    "SentencePiece with added_tokens_decoder": ("tokenizer.model", {"tokenizer_config.json": SPM | {
        "legacy": False, "added_tokens_decoder": {
            "0": _added("<unk>"), "1": _added("<s>"), "2": _added("</s>", rstrip=True),
            "400": _added("<|im_start|>"), "401": _added("<|im_end|>", rstrip=True)}}}),
    "SentencePiece with additional_special_tokens": ("tokenizer.model", {
        "tokenizer_config.json": SPM | {
            "legacy": False, "additional_special_tokens": ["<|im_end|>", "</s>", "<think>"]}}),
    "SentencePiece with a pad_token of its own": (
        "tokenizer.model", {"tokenizer_config.json": SPM | {"legacy": False, "pad_token": "[PAD]"}}),
}  # fmt: skip


def weight(name: str, shape: list[int]) -> np.ndarray:
    """The values of a tensor, made from its name: norms not 1, biases not 0."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32)
    if name.endswith("norm.weight"):
        return 1 + np.float32(0.2) * noise
    return np.float32(0.5) * noise if name.endswith(".bias") else noise * np.float32(1.5 / shape[-1] ** 0.5)


def write_model(folder: Path, config: dict, shapes: dict[str, list[int]]) -> None:
    """A folder with this config.json and the tensors of these names and shapes."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {name: weight(name, shape) for name, shape in shapes.items()}, folder / "model.safetensors", {"format": "pt"}
    )


def write_tokenizer(folder: Path, vocabularies: Path, kind: str, files: dict[str, dict]) -> None:
    """A folder with one of the vocabularies and these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in {"special.json": ["special.json"], "vocab.json": ["vocab.json", "merges.txt"]}.get(kind, [kind]):
        target = "tokenizer.json" if source == "special.json" else source
        (folder / target).write_bytes((vocabularies / source).read_bytes())
    for name, content in ({"config.json": {"model_type": "llama"}} | files).items():
        (folder / name).write_text(json.dumps(content))


def texts(count: int = 60) -> list[str]:
    """Texts in which special tokens and white space meet in every way."""
    special = ["<s>", "</s>", "<unk>", *CHAT, "<think>", "[SEP]", "[PAD]", "[MASK]", "<|endoftext|>", "Zeta"]
    words = [
        "hello",
        "The",
        " value",
        " is",
        "\n",
        "\n\n",
        "  ",
        "12",
        "345",
        "é",
        "→",
        "'s",
        "task",
        "\t",
        "▁a",
        "<|",
        "|>",
    ]
    rng = random.Random(0)
    drawn = [
        "".join(rng.choice(special if rng.random() < 0.3 else words) for _ in range(rng.randint(2, 8)))
        for _ in range(count)
    ]
    return ["", " ", " hello", "<s>hello", "<s> hello", "a</s> b", *drawn]


def tokenizers(out: Path) -> None:
    import sentencepiece
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import AutoTokenizer

    lines = [line for line in (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text().splitlines() if line]
    out.mkdir(parents=True, exist_ok=True)
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    split = pre_tokenizers.Split(Regex(pattern + r"|\s+(?!\S)|\s+"), "isolated")
    backend = Tokenizer(models.BPE())
    backend.normalizer, backend.decoder = normalizers.NFC(), decoders.ByteLevel()
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=PIECES, initial_alphabet=alphabet))
    backend.model.save(str(out))
    backend.save(str(out / "tokenizer.json"), pretty=False)
    backend.add_special_tokens([*BASE.values()])
    backend.save(str(out / "special.json"), pretty=False)
    with (out / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, vocab_size=PIECES, model_type="bpe", byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.99,
            num_threads=1, minloglevel=2,
        )  # fmt: skip
    cases = {}
    for name, (kind, files) in TOKENIZERS.items():
        with tempfile.TemporaryDirectory() as folder:
            write_tokenizer(Path(folder), out, kind, files)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            cases[name] = [tokenizer.encode(text, add_special_tokens=False) for text in texts()]
            print(f"{name}: {type(tokenizer).__name__}, {len(tokenizer)} tokens")
    rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(ids, separators=(',', ':'))}" for name, ids in cases.items())
    (out / "tokenizers.json").write_text(f"{{\n{rows}\n}}\n")


def models(out: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shapes, logits = {}, {}
    tokens = torch.arange(24).remainder(7).mul(3).add(torch.arange(24).remainder(5))[None]
    for name, config in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config))
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
            shapes[name] = {key: list(value.shape) for key, value in model.state_dict().items()}
            if model.config.tie_word_embeddings:
                del shapes[name]["lm_head.weight"]
            write_model(Path(folder), config, shapes[name])
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager"
            ).eval()
            with torch.no_grad():
                logits[name] = model(tokens, use_cache=False).logits[0].numpy()
        print(f"{name}: std of the logits {logits[name].std():.2f}")
    rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(each)}" for name, each in shapes.items())
    (out / "models.json").write_text(f"{{\n{rows}\n}}\n")
    np.savez_compressed(out / "logits.npz", tokens=tokens.numpy().astype(np.int32), **logits)


if __name__ == "__main__":
    {"tokenizers": tokenizers, "models": models}[sys.argv[1]](Path(sys.argv[2]))
