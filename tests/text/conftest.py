"""A SentencePiece model that the tests of tokenizers train."""

import pytest

TAGS = ["<think>", "</think>", "<answer>", "</answer>"]


@pytest.fixture(scope="session")
def sentencepiece_model(tmp_path_factory):
    import sentencepiece

    path = tmp_path_factory.mktemp("sentencepiece") / "tiny.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([f"{a} + {b} = {a + b}" for a in range(20) for b in range(20)]),
            model_writer=file,
            vocab_size=40,
            hard_vocab_limit=False,
            pad_id=3,
            user_defined_symbols=TAGS,
            num_threads=1,
            minloglevel=2,
        )
    return path
