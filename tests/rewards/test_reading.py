"""What a reward model reads: the same text for a pair's response and for a completion of any prompt form."""

import pytest

from r1jax.config.sampling import PromptSettings
from r1jax.rewards.example import Example
from r1jax.rewards.reading import Reading, responses
from r1jax.text.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer("characters", ("<think>", "</think>", *"abcdefghij ?:\n"))


def read(reads, response, template="{question}"):
    reading = Reading(
        TOKENIZER, PromptSettings(template=template), reads=reads, max_prompt_length=9, max_completion_length=9
    )
    ids = reading.ids("ab?", response)
    return ids and (TOKENIZER.decode(ids[0]), TOKENIZER.decode(ids[1][:-1]), ids[1][-1] in TOKENIZER.stop_ids)


def test_the_helpful_model_reads_the_summary_alone():
    assert read("summary", "<think>abc</think>\n\nde \n") == ("ab?", "de", True)
    assert read("summary", "<think>abc</think> de") == ("ab?", " de", True)  # which may be a token
    assert read("summary", "de") == ("ab?", "de", True)
    assert read("everything", "<think>abc</think> de") == ("ab?", "<think>abc</think> de", True)


@pytest.mark.parametrize("response", ["<think>abc", "<think>abc</think>", "<think>abc</think> \n", "", " "])
def test_without_a_summary_there_is_nothing_to_read(response):
    assert read("summary", response) is None
    assert (read("everything", response) is None) == (not response.strip())


def test_a_tag_that_the_prompt_opens_is_read_once():
    opening = "{question}<think>\n"
    assert read("everything", "<think>\nabc</think>de", opening) == ("ab?<think>\n", "abc</think>de", True)


def test_limits():
    reading = Reading(TOKENIZER, PromptSettings(), reads="everything", max_prompt_length=3, max_completion_length=2)
    assert reading.width == 5
    assert reading.fits([1] * 3, [1] * 2)
    assert not reading.fits([], [1]) and not reading.fits([1] * 4, [1]) and not reading.fits([1], [1] * 3)


def test_responses_of_pairs_and_labels():
    assert responses(Example("q", "", data={"chosen": "a", "rejected": "b"})) == ["a", "b"]
    assert responses(Example("q", "", data={"response": "c", "label": 0})) == ["c"]
    assert responses(Example("q", "")) == []
