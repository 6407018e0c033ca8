"""SentencePiece models: round trips, special pieces, and ids against those of transformers (scripts/hf_folders.py)."""

import pytest

from r1jax.text.sentence_piece import SentencePieceTokenizer
from r1jax.text.tokenizer import load_tokenizer


def test_sentencepiece_round_trip(sentencepiece_model):
    tokenizer = SentencePieceTokenizer(sentencepiece_model)
    text = "<think>12 + 7 = 19</think><answer>19</answer>"
    ids = tokenizer.encode(text)
    assert all(0 <= i < tokenizer.size for i in ids)
    assert not {1, 2, 3} & {*ids}
    assert tokenizer.decode([1, *ids, 2, 3]) == text  # start, stop, padding
    assert tokenizer.encode_batch([text, ""]) == [ids, []]


def test_sentencepiece_special_ids(sentencepiece_model):
    tokenizer = SentencePieceTokenizer(sentencepiece_model)
    assert (tokenizer.bos_id, tokenizer.stop_ids, tokenizer.chat_template) == (1, (2,), None)


def test_sentencepiece_errors(tmp_path):
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
        SentencePieceTokenizer(tmp_path / "bad.model")


def test_sentencepiece_folder_settings(tmp_path, sentencepiece_model):
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": false, "chat_template": "{{ bos_token }}x"}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    tokenizer = load_tokenizer(tmp_path, ())
    assert (tokenizer.bos_id, tokenizer.stop_ids) == (None, (2, 5))
    assert tokenizer.chat_template.render([]) == "<s>x"
    (tmp_path / "added_tokens.json").write_text('{"</s>": 2, "<|im_end|>": 999}')
    with pytest.raises(
        ValueError, match=r"gives '<\|im_end\|>' the id 999 in .*added_tokens\.json, and its vocabulary 4"
    ):
        load_tokenizer(tmp_path, ())


def test_sentencepiece_control_pieces_in_a_text_become_their_ids(sentencepiece_model):
    tokenizer = SentencePieceTokenizer(sentencepiece_model)
    ids = tokenizer.encode("12 + 7")
    assert tokenizer.encode("<s>12 + 7</s><s>") == [1, *ids, 2, 1]


def test_sentencepiece_save_round_trip(tmp_path, sentencepiece_model):
    SentencePieceTokenizer(sentencepiece_model).save(tmp_path / "copy")
    text = "12 + 7 = 19"
    copy = load_tokenizer(tmp_path / "copy", ())
    assert copy.encode(text) == SentencePieceTokenizer(sentencepiece_model).encode(text)
