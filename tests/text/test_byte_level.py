"""A vocab.json with its merges.txt; tests/text/test_special_tokens.py compares the ids with those of transformers."""

from pathlib import Path

import pytest
from hf_folders import write_tokenizer

from r1jax.text.byte_level import byte_level_bpe, default_specials
from r1jax.text.tokenizer import load_tokenizer

REFERENCES = Path(__file__).parents[1] / "references" / "folders"


def test_vocab_json_needs_its_merges(tmp_path):
    folder = tmp_path
    write_tokenizer(folder, REFERENCES, "vocab.json", {"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"}})
    (folder / "merges.txt").write_text("#version: 0.2\nzz qq\n")
    with pytest.raises(ValueError, match=r"vocab\.json and its merges\.txt are not one vocabulary"):
        load_tokenizer(folder, ())
    (folder / "merges.txt").unlink()
    with pytest.raises(
        ValueError, match=r"no tokenizer\.json or tokenizer\.model in .*, and no vocab\.json with merges"
    ):
        load_tokenizer(folder, ())


def test_texts_come_back_and_classes_have_special_tokens(tmp_path):
    write_tokenizer(tmp_path, REFERENCES, "vocab.json", {"config.json": {"model_type": "qwen2"}})
    backend = byte_level_bpe(tmp_path / "vocab.json")
    for text in ("", "hello  world\n\n 12", "é → 𝟙"):
        assert backend.decode(backend.encode(text).ids) == text
    assert default_specials(tmp_path) == ("eos_token", "pad_token", "unk_token")
    (tmp_path / "tokenizer.json").touch()
    assert default_specials(tmp_path) == ()
