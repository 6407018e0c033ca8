"""The word lists: no word in two languages, and fractions against counting by hand."""

import pytest

from r1jax.tasks.vocabulary import SYMBOLS, WORDS, fraction, text, words_of


def test_no_word_is_in_two_languages_and_lists_correspond():
    english, german = WORDS["en"], WORDS["de"]
    assert not set(english.all) & set(german.all)
    for name in ("numbers", "days", "nouns", "requests", "polite", "adjectives"):
        assert len(getattr(english, name)) == len(set(getattr(english, name))) == len(getattr(german, name))
    assert len(english.numbers) == 21 and english.numbers[12] == "twelve" and german.numbers[12] == "zwölf"
    assert len(set(SYMBOLS)) == len(SYMBOLS)


@pytest.mark.parametrize(
    ("written", "english", "german"),
    [
        (" three und vier", 1 / 3, 2 / 3),
        (" drei ist drei, 5 = 5.", 0, 1),
        ("<answer> three</answer>", 1, 0),  # a tag is no word
        (" three xyz", 0.5, 0),  # a word that is in neither list
        (" Three", 0, 0),
        ("5 + 5, ?", None, None),
        ("", None, None),
    ],
)
def test_fraction(written, english, german):
    assert (fraction(written, "en"), fraction(written, "de")) == (english, german)


def test_text_and_words_are_inverse():
    assert text("which day", "is") == " which day is" and words_of(" which day is?") == ["which", "day", "is"]
