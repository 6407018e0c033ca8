"""The bilingual task: its splits, its rewards on its own demonstrations, and on answers that try to be counted."""

import re

import pytest

from r1jax.config.tasks import BilingualTask
from r1jax.rewards.example import Example
from r1jax.tasks import make_task
from r1jax.tasks.bilingual import Bilingual, accuracy, language
from r1jax.tasks.vocabulary import WORDS, words_of
from r1jax.text.tokenizer import CharacterTokenizer


def bilingual(seed, **settings):
    return Bilingual(BilingualTask(name="bilingual", **settings), seed)


def value(result):
    return result[0] if isinstance(result, tuple) else result


def test_examples_are_fixed():
    task = bilingual(0)
    example = task.example("train", 0)
    assert example.question == " compute three less two and five less one less five and four?"
    assert example.demonstration == (
        "<think> three less two is one, and five is six, less one is five, less five is zero, and four is four</think>"
        "<answer> four</answer>"
    )
    assert example.data == {"domain": "sums", "language": "en", "level": 5}
    request = bilingual(0, domains=["general"], demonstrations="messy").example("train", 2)
    assert request.question == " praise fox and mouse and cat." and request.answer == ""
    assert request.demonstration == (
        " say something kind of fox and mouse and cat<answer> small brave big fox and mouse and cat</answer>"
    )


@pytest.mark.parametrize("domain", ["sums", "logic", "general"])
@pytest.mark.parametrize("demonstrations", ["clean", "messy"])
def test_examples_are_as_the_settings_say_and_one_token_a_word(domain, demonstrations):
    task = bilingual(1, domains=[domain], min_level=2, max_level=8, demonstrations=demonstrations)
    tokenizer, seen = CharacterTokenizer(task.symbols), {"language": set(), "level": set()}
    for index in range(400):
        example = task.example("train", index)
        code = example.data["language"]
        assert example.data["domain"] == domain
        assert set(words_of(example.question)) <= set(WORDS[code].all)
        text = example.question + example.demonstration
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert len(ids) == len(words_of(text)) + len(re.findall(r"</?\w+>|[,.?]", text))
        assert len(tokenizer.encode(example.demonstration)) + 1 <= 48
        for name in seen:
            seen[name].add(example.data[name])
    assert seen == {"language": {"en", "de"}, "level": {1, 2, 3} if domain == "general" else {2, 3, 4, 5, 6, 7, 8}}


def test_languages_and_domains_can_be_chosen():
    task = bilingual(0, domains=["logic"], languages=["de"])
    data = [task.example("test", i).data for i in range(50)]
    assert {(d["domain"], d["language"]) for d in data} == {("logic", "de")}
    both = [bilingual(0).example("test", i).data["domain"] for i in range(50)]
    assert set(both) == {"sums", "logic"}


def test_clean_demonstrations_score_full_marks():
    task = bilingual(2, max_level=6)
    for index in range(300):
        example = task.example("train", index)
        for name, reward in task.rewards.items():
            assert reward(example, example.demonstration) == 1.0, (name, example)


def test_rewards_of_requests():
    task = bilingual(2, domains=["general"])
    scores = {name: [] for name in task.rewards}
    for index in range(100):
        example = task.example("train", index)
        for name, reward in task.rewards.items():
            scores[name].append(reward(example, example.demonstration))
    assert list(scores) == ["accuracy", "format", "language", "rule"]
    assert set(scores["accuracy"]) == {(None, "no_gold")}
    assert set(scores["format"]) == set(scores["language"]) == {1.0}
    assert 0.5 < sum(scores["rule"]) / 100 < 0.9
    assert task.rewards["rule"](example, "<think> say something") == 0.0


@pytest.mark.parametrize("domain", ["sums", "logic", "general"])
def test_no_problem_is_in_both_splits(domain):
    """A problem is the same in both languages, and for any order of its terms, moves or nouns."""
    meaning = {word: place for words in WORDS.values() for place, word in enumerate(words.all)}
    assert [meaning[word] for word in ("and", "und", "cat", "Katze")] == [0, 0, meaning["cat"], meaning["cat"]]

    def problem(question):
        said = [meaning[word] for word in words_of(question)]
        if domain == "general":
            return said[0], frozenset(said[1:])
        if domain == "sums":  # the first number is added, too
            said = [said[0], meaning["and"], *said[1:]]
        start = 1 if domain == "sums" else 4
        return *said[:start], *sorted(zip(said[start::2], said[start + 1 :: 2], strict=True))

    train = {problem(bilingual(0, domains=[domain]).example("train", i).question) for i in range(3000)}
    test = {problem(bilingual(9, domains=[domain]).example("test", i).question) for i in range(1000)}
    assert len(train) > 300 and len(test) > 20 and not train & test


def test_same_index_same_example_and_another_seed_another():
    for settings in ({"demonstrations": "messy"}, {"domains": ["general"]}):
        task, again, other = bilingual(3, **settings), bilingual(3, **settings), bilingual(4, **settings)
        backwards = [again.example("train", i) for i in reversed(range(50))]
        assert [task.example("train", i) for i in range(50)] == backwards[::-1]
        assert [task.example("train", i) for i in range(50)] != [other.example("train", i) for i in range(50)]


def test_every_symbol_is_used():
    texts = ""
    for settings in ({}, {"domains": ["general"]}):
        task = bilingual(0, demonstrations="messy", **settings)
        texts += "".join(e.question + e.demonstration for e in (task.example("train", i) for i in range(1000)))
    assert all(symbol in texts for symbol in bilingual(0).symbols)


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("<think> three and five is eight</think><answer> acht</answer>", 1),
        ("<think> r</think> acht", 1),
        (" drei und fünf ist acht<answer> acht</answer>", 1),
        (" acht", 1),
        ("<think> r</think><answer> eight</answer>", 0),  # the question is in German
        ("<think> r</think><answer> acht neun</answer>", 0),
        ("<think> r</think><answer> acht, neun</answer>", 0),
        ("<think> r</think><answer> neun</answer><answer> acht</answer>", 1),  # which the format reward refuses
        ("<think> r</think><answer> acht</answer><answer> neun</answer>", 0),
        ("<think> r</think> neun<answer> acht", 0),
        ("<think> r<answer> acht</answer>", 0),
        ("<think> acht", 0),
        ("<think> acht</think>", 0),
        ("", 0),
    ],
)
def test_accuracy(completion, score):
    example = Example(" rechne drei und fünf?", "acht", data={"language": "de"})
    assert accuracy(example, completion) == score


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("<think> drei und five ist acht</think><answer> eight</answer>", 0.8),
        ("<think> three and five is eight</think><answer> acht</answer>", 0),
        ("<think> drei und", 1),  # truncated
        ("<think></think><answer> acht</answer>", (0, "no_reasoning")),
        (" drei<answer> acht</answer>", (0, "no_reasoning")),
        ("<think> , 5</think> acht", (0, "no_words")),
    ],
)
def test_language(completion, score):
    assert language(Example("", "acht", data={"language": "de"}), completion) == score


def test_pairs():
    task, other = (bilingual(seed, domains=["general"], pairs="balanced") for seed in (0, 1))
    assert task.example("test", 3) == bilingual(0, domains=["general"], pairs="balanced").example("test", 3)
    assert task.example("test", 3).data != other.example("test", 3).data
    for index in range(50):
        example = task.example("train", index)
        better, worse = example.data["chosen"], example.data["rejected"]
        assert task.rewards["rule"](example, better) > task.rewards["rule"](example, worse)
        assert all(task.rewards["format"](example, reply) == 1 for reply in (better, worse))
    confounded = bilingual(0, domains=["general"], pairs="confounded")
    data = [confounded.example("train", i).data for i in range(50)]
    assert all(len(pair["chosen"].split()) > len(pair["rejected"].split()) for pair in data)
    assert "chosen" not in bilingual(0, domains=["general"]).example("train", 0).data


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"min_level": 4, "max_level": 3}, "min_level 4 is above"),
        ({"domains": ["sums", "general"]}, "give it alone"),
        ({"domains": []}, "domains"),
        ({"max_level": 9}, "max_level"),
        ({"languages": ["fr"]}, "languages"),
    ],
)
def test_settings_that_make_no_sense_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        bilingual(0, **bad)


def test_make_task_passes_the_settings_on():
    made = make_task(BilingualTask(name="bilingual", domains=["logic"]), 1)
    assert [made.example("test", i) for i in range(5)] == [
        bilingual(1, domains=["logic"]).example("test", i) for i in range(5)
    ]
