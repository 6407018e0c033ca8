"""The alphabet of a task whose examples are listed: R1's tags, then each character once."""

from r1jax.rewards.example import Example
from r1jax.tasks.listed import ListedTask
from r1jax.text.tokenizer import CharacterTokenizer


def test_the_alphabet_covers_every_text():
    examples = [
        Example(question="2+3?", answer="5"),
        Example(question=[{"role": "user", "content": "Größe?"}], answer="π", demonstration="<think>x</think>"),
    ]
    symbols = ListedTask({"train": examples[:1], "test": examples[1:]}, {}).symbols
    assert symbols[:4] == ("<think>", "</think>", "<answer>", "</answer>") and list(symbols[4:]) == sorted(symbols[4:])
    tokenizer = CharacterTokenizer(symbols)
    for text in ("2+3?", "Größe?", "<think>x</think>", "π", "5"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("<think>x</think>")) == 3
