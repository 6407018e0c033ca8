"""Byte-level BPE from a vocab.json and its merges.txt, as older folders have it in the place of a tokenizer.json.

backend = byte_level_bpe(Path("models/qwen/vocab.json"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1jax.text.chat_template import read_json

# How the classes of tokenizers that have only vocab.json and merges.txt divide a text, as in transformers.
PATTERNS = {
    "GPT2Tokenizer": None,  # ByteLevel's own
    "Qwen2Tokenizer": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
}
# The special tokens that these classes have by default, all of them the same one.
END_OF_TEXT = "<|endoftext|>"
SPECIALS = {
    "GPT2Tokenizer": ("bos_token", "eos_token", "unk_token"),
    "Qwen2Tokenizer": ("eos_token", "pad_token", "unk_token"),
}
MODEL_CLASSES = {"gpt2": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}


def byte_level_bpe(file: Path) -> Any:
    """What transformers makes of a vocab.json with its merges.txt, which do not say how a text is divided."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    settings, kind = read_json(file.parent / "tokenizer_config.json"), _class_of(file.parent)
    if kind not in PATTERNS:
        raise ValueError(
            f"tokenizer: {file} has no tokenizer.json beside it, and how a tokenizer of class {kind} divides texts is "
            f"known of {', '.join(PATTERNS)} alone; write one with transformers: AutoTokenizer.from_pretrained(FOLDER)"
            f".save_pretrained(FOLDER)"
        )
    try:
        model = models.BPE.from_file(str(file), str(file.with_name("merges.txt")))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"tokenizer: {file} and its merges.txt are not one vocabulary: {error}") from None
    backend, prefix, pattern = Tokenizer(model), bool(settings.get("add_prefix_space")), PATTERNS[kind]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pattern is None)  # pyright: ignore
    if pattern is not None:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        backend.normalizer = normalizers.NFC()  # pyright: ignore
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, backend.pre_tokenizer])  # pyright: ignore
    return backend


def default_specials(folder: Path) -> tuple[str, ...]:
    """The names of the special tokens that a folder has without naming them: none where it has a whole tokenizer."""
    whole = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))
    return () if whole else SPECIALS.get(_class_of(folder), ())


def _class_of(folder: Path) -> str:
    named = read_json(folder / "tokenizer_config.json").get("tokenizer_class")
    kind = read_json(folder / "config.json").get("model_type")
    return str(named or MODEL_CLASSES.get(str(kind), "none")).removesuffix("Fast")
