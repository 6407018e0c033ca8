"""Estimators against counting, votes with ties and silence."""

import itertools
import types

import numpy as np
import pytest

from r1jax.config.sampling import EvaluateSettings
from r1jax.data.batches import Prompts
from r1jax.rewards.example import Completion, Example
from r1jax.rewards.grading import grade
from r1jax.rl import evaluation
from r1jax.rl.evaluation import MAX_PROVED, call_sizes, consensus, evaluate, pass_at_k
from r1jax.rl.rollout import Transcript
from r1jax.tasks.mixture import Mixture


@pytest.mark.parametrize("n, right, k, expected", [(4, 1, 4, 1.0), (4, 1, 2, 0.5), (5, 2, 2, 0.7), (16, 0, 8, 0.0)])
def test_pass_at_k_known_values(n, right, k, expected):
    assert pass_at_k(n, right, k) == pytest.approx(expected)


def test_pass_at_k_counts_subsets():
    for n, right, k in itertools.product((3, 5, 6), (0, 1, 3), (1, 2, 3)):
        draws = itertools.combinations([i < right for i in range(n)], k)
        assert pass_at_k(n, right, k) == pytest.approx(np.mean([any(d) for d in draws]))


def test_consensus():
    assert consensus(["72", "72.0", "144/2", "9", "9"], [True, True, True, False, False]) == 1.0
    assert consensus(["7", "7", "1", "2"], [True, True, False, False]) == 1.0
    assert consensus([None, None, None, "7", "7"], [False, False, False, True, True]) == 1.0
    assert consensus([None, None], [False, False]) == 0.0
    assert consensus(["1", "2"], [True, False]) == 0.5  # a tie is shared
    assert consensus(["x", "x", "y"], [False, False, True]) == 0.0


@pytest.mark.parametrize(
    "same", [[r"2\sqrt{2}", r"\sqrt{8}", r"2 \sqrt 2"], ["B", "(B)", "B."], ["1/2", "0.5", r"\frac12"]]
)
def test_equivalent_answers_share_a_vote(same):
    other = [r"3\sqrt{5}"] * 2
    assert consensus([*same, *other], [False, False, False, True, True]) == 0.0
    assert consensus([*same, *other], [True, True, True, False, False]) == 1.0
    assert consensus([*same[:2], *other], [False, False, True, True]) == 0.5


def test_many_different_answers_are_counted_without_much_algebra(monkeypatch):
    calls = []
    monkeypatch.setattr("r1jax.rl.evaluation.grade_answer", lambda *pair: calls.append(pair) or 0.0)
    wrong = [rf"{i}\sqrt{{2}}" for i in range(60)]
    assert consensus(["x", "x", *wrong], [True, True, *[False] * 60]) == 1.0
    assert len(calls) <= MAX_PROVED**2


PROBLEMS = [(0, "1"), (1, ""), (0, "2"), (1, ""), (0, "3"), (2, "4")]  # the part of each, and its gold answer


@pytest.fixture
def evaluated(mesh, monkeypatch):
    """Evaluates problems: of the two samples of problem i the first says 1, the second i."""

    def right(example, text):
        return None if example.answer == "none" else float(text.endswith(example.answer))

    parts = [{"accuracy": right}, {"helpful": lambda example, text: float(text[-1])}, {"accuracy": right}]
    task = Mixture([types.SimpleNamespace(rewards=rewards) for rewards in parts], [1.0] * 3, ["math", "chat", None])
    examples = []

    def fake(sampling, weights, prompts, total, key):
        said = [word for example in prompts.examples for word in ("1", str(examples.index(example)))]
        texts = [Completion(f"<think>r</think>{word}", length=int(word) + 1, truncated=False) for word in said]
        return None, Transcript(prompts.examples, texts, grade(prompts.examples, texts, sampling.rewards))

    def prompts(split, start, rows, width):
        return Prompts([examples[row] for row in rows], np.zeros((len(rows), 1)), np.ones(len(rows)), rows)

    monkeypatch.setattr(evaluation, "roll_out", fake)
    model = types.SimpleNamespace(
        mesh=mesh, tokenizer=None, sampler=lambda *_, **__: None, sampling_weights=lambda: None
    )

    def run(problems):
        examples[:] = [Example(f"q{i}", answer, part=part) for i, (part, answer) in enumerate(problems)]
        batches = types.SimpleNamespace(
            task=task,
            prompts=prompts,
            size=lambda split: len(examples),
            prompt_lengths=lambda split, count: np.ones(count, int),
            max_completion_length=8,
            max_prompt_length=8,
        )
        return evaluate(model, batches, EvaluateSettings(samples=2), None)

    return run


def test_a_mixture_is_scored_over_the_problems_that_have_the_reward(evaluated):
    """One sample of two is right for problems 0 and 2, none for 4 and 5; problems 1 and 3 have no accuracy."""
    scores, rows, accuracy_P = evaluated(PROBLEMS)
    np.testing.assert_array_equal(accuracy_P, [0.5, np.nan, 0.5, np.nan, 0, 0])
    assert [list(row["rewards"]) for row in rows[::2]] == [["accuracy"], ["helpful"]] * 2 + [["accuracy"]] * 2
    length = np.mean([[2, i + 1] for i in range(6)], axis=1)
    expected = {
        "accuracy": 2 / 8, "helpful": (1 + 1 + 1 + 3) / 4, "frac_reward_none": 0, "pass@2": 2 / 4, "cons@2": 1 / 4,
        "mean_length": length.mean(), "clipped_ratio": 0,
        "accuracy/math": 2 / 6, "frac_reward_none/math": 0, "pass@2/math": 2 / 3, "cons@2/math": 1 / 3,
        "mean_length/math": length[[0, 2, 4]].mean(), "clipped_ratio/math": 0,
        "helpful/chat": 1.5, "mean_length/chat": length[[1, 3]].mean(), "clipped_ratio/chat": 0,
    }  # fmt: skip
    assert scores == pytest.approx({f"eval/{name}": value for name, value in expected.items()})


def test_samples_that_could_not_be_scored_are_counted_among_those_that_have_the_reward(evaluated):
    """What accuracy cannot score is not what it does not apply to."""
    scores, *_ = evaluated([(1, ""), (0, "none")])
    assert scores["eval/frac_reward_none"] == scores["eval/frac_reward_none/math"] == 1
    assert np.isnan(scores["eval/accuracy"]) and scores["eval/helpful"] == 0.5
    scores, *_ = evaluated([(1, "")])
    assert set(scores) == {f"eval/{n}{p}" for n in ("helpful", "mean_length", "clipped_ratio") for p in ("", "/chat")}


@pytest.mark.parametrize(
    ("settings", "problems", "sequences", "lengths", "expected"),
    [
        ({}, 12, 64, (8, 8), (12, None)),  # all fit: on 4 devices 3 each
        ({}, 500, 64, (64, 64), (64, None)),  # 8 calls of 64 and not 7 of 72, which would not fit
        ({}, 100, 64, (64, 64), (52, None)),  # 2 calls, as full as each other
        ({"samples": 4}, 100, 64, (64, 64), (16, None)),
        # 16 on a device fit with 64 + 960 slots each: 12 of them with the prompts of 48 samples.
        ({}, 500, 64, (64, 960), (168, 12)),
        ({}, 500, 64, (1, 1023), (168, 15)),
        ({"samples": 4}, 500, 64, (64, 960), (56, 15)),
        ({}, 500, None, (64, 960), (500, 51)),  # 64 on a device
        ({"samples": 64}, 30, 32, (64, 960), (4, 7)),  # of a problem's samples 7 at once: 8 would leave no room for it
        ({"decode_batch": 2}, 500, 64, (64, 64), (32, 2)),
        ({"decode_batch": 20}, 500, 64, (64, 64), (72, 20)),  # more than there would be, as the user wants it
    ],
)
def test_the_sizes_of_a_call(settings, problems, sequences, lengths, expected):
    settings = EvaluateSettings(**{"temperature": 1.0} | settings)
    assert call_sizes(settings, problems, 4, sequences, *lengths) == expected
