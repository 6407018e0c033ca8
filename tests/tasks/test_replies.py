"""Replies against the rule, and the rule against cases that were scored by hand."""

import random
from statistics import mean

import pytest

from r1jax.tasks.replies import Request, rule, sample_replies, sample_reply
from r1jax.tasks.vocabulary import words_of

REQUEST = Request(verb=0, nouns=(0, 1), language="en")  # greet cat and dog


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        (" dear small cat and dog", 1),
        (" cat and dog is small old", 2 / 3),  # not polite
        (" dear dog", (1 / 2 + 1) / 3),  # one of the two nouns, too short
        (" dear old cat and dog and cow", (2 / 3 + 2) / 3),
        (" liebe Katze und Hund ist alt", 1 / 3),  # in another language
        (" thanks cat and dog is old old old old old old old", 2 / 3),
        ("", 0),
    ],
)
def test_rule(reply, score):
    assert rule(REQUEST, reply) == pytest.approx(score)


def test_good_replies_have_full_marks_and_others_vary():
    rng = random.Random(0)
    requests = [Request.sample(rng, language) for language in ("en", "de") for _ in range(300)]
    assert all(rule(request, sample_reply(rng, request, good=True)) == 1 for request in requests)
    scores = [rule(request, sample_reply(rng, request, good=False)) for request in requests]
    assert 0.4 < mean(scores) < 0.7 and min(scores) == 0 and max(scores) == 1


@pytest.mark.parametrize(("lengths", "low", "high"), [("balanced", 0.45, 0.55), ("confounded", 1, 1)])
def test_pairs_are_ordered_by_the_rule_and_by_length_as_asked(lengths, low, high):
    longer, differences = [], []
    for seed in range(1000):
        rng = random.Random(seed)
        request = Request.sample(rng, "de")
        better, worse = sample_replies(rng, request, lengths)
        assert rule(request, better) > rule(request, worse)
        differences.append(len(words_of(better)) - len(words_of(worse)))
        longer.append(differences[-1] > 0)
    assert low <= mean(longer) <= high
    assert abs(mean(differences)) < 0.5 or lengths == "confounded"


def test_question_and_thought():
    assert REQUEST.question() == " greet cat and dog."
    assert REQUEST.thought("de") == " sage etwas Nettes über Katze und Hund"
    assert REQUEST.canonical() == Request(0, (1, 0), "de").canonical() != Request(1, (0, 1), "en").canonical()
