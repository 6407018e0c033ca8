"""Batches are sampled until all groups have non-zero reward variance, and everything of a group stays together."""

import types

import jax
import numpy as np
import pytest

from r1jax.config.experiment import GrpoStage
from r1jax.config.training import OptimizerSettings
from r1jax.data.batches import Prompts
from r1jax.parallel.mesh import to_global, to_local
from r1jax.rewards.example import Example
from r1jax.rewards.grading import Grades
from r1jax.rl import dynamic_sampling
from r1jax.rl.dynamic_sampling import has_variance
from r1jax.rl.rollout import Sampling, Transcript, completion_texts
from r1jax.rl.types import Rollout
from r1jax.sampling.sampler import Samples
from r1jax.text.tokenizer import CharacterTokenizer

P, G, T, FIRST = 8, 2, 8, 100
TOKENIZER = CharacterTokenizer("0123456789.")


def example(position):
    return Example(question=f"q{position}", answer=str(position), prompt=f"{position}?")


def dynamic(mesh, monkeypatch, rewards, *, max_batches=4, by=None):
    """What `collect` returns where sample g of prompt p is the text "p.g", and the batches that were sampled.

    The samples of prompt p have the rewards rewards[name][p - FIRST].
    """
    sampled = []

    def fake(sampling, weights, prompts, total, key):
        sampled.append(prompts.id_P.tolist())
        words = [f"{position}.{g}" for position in prompts.id_P for g in range(G)]
        tokens = [[*TOKENIZER.encode(word), 1] for word in words]
        samples = Samples(
            completion_BT=np.array([[*row, *[0] * (T - len(row))] for row in tokens], np.int32),
            length_B=np.array([len(row) for row in tokens], np.int32),
            logp_BT=np.array([[-float(word)] * T for word in words], np.float32),
            truncated_B=np.zeros(P * G, bool),
            support_BTI=np.tile(np.arange(P * G, dtype=np.int32)[:, None, None], (1, T, 3)),
        )
        scores = {
            name: np.concatenate([rewards[name][position - FIRST] for position in prompts.id_P]).astype(np.float32)
            for name in rewards
        }
        seconds = {name: np.full(P * G, float(len(sampled))) for name in rewards}
        applies = {name: np.ones(P * G, bool) for name in rewards}
        grades = Grades(scores, applies, {name: words if name == "a" else [""] * (P * G) for name in rewards}, seconds)
        samples = to_global(mesh, samples, P * G)
        transcript = Transcript(prompts.examples, completion_texts(samples, TOKENIZER), grades)
        every_P, (scores, applies) = to_global(mesh, np.ones(P, bool), P), to_global(mesh, (scores, applies), P * G)
        arrays = to_global(mesh, (prompts.prompt_PS, prompts.prompt_length_P, prompts.id_P), P)
        return Rollout(*arrays, samples, scores, applies, every_P), transcript

    def prompts(split, start, rows):
        id_P = (start + np.asarray(rows)).astype(np.int32)
        prompt_PS = np.stack([id_P, 2 * id_P], axis=1)
        return Prompts([example(int(position)) for position in id_P], prompt_PS, id_P % 2 + 1, id_P)

    monkeypatch.setattr(dynamic_sampling, "roll_out", fake)
    batches = types.SimpleNamespace(prompts=prompts, example=lambda split, position: example(position))
    sampling = Sampling(mesh, TOKENIZER, fake, {})
    stage = GrpoStage(
        name="rl",
        program="grpo",
        steps=1,
        prompts_per_step=P,
        group_size=G,
        rewards=dict.fromkeys(rewards, 1.0),
        dynamic_sampling={"max_batches": max_batches, "reward": by},
        optimizer=OptimizerSettings(learning_rate=1.0),
    )
    collected = dynamic_sampling.collect(sampling, batches, stage, None, FIRST, jax.random.key(0))
    return collected, sampled


def groups(batches):
    """A letter a group, in batches: m has both, 0 and 1 are all wrong and all right, n and N have one or no grade."""
    kinds = {"m": [0, 1], "0": [0, 0], "1": [1, 1], "n": [np.nan, 1], "N": [np.nan, np.nan]}
    return np.array([kinds[letter] for letter in "".join(batches)], np.float32)


@pytest.mark.parametrize(
    ("batches", "max_batches", "varied"),
    [
        (["mmmmmmmm", "mmmmmmmm"], 4, [0, 1, 2, 3, 4, 5, 6, 7]),
        (["0m1m0nNm", "m0mm10m1", "00m10mmm", "mmmmmmmm"], 4, [1, 3, 7, 8, 10, 11, 14, 18]),
        (["0m1m0nNm", "m0m10n00", "mmmmmmmm"], 2, [1, 3, 7, 8, 10]),
        (["01010101", "00000000", "NNnn11nm", "mmmmmmmm"], 3, [23]),
        (["00000000", "11111111"], 2, []),
    ],
)
def test_batches_until_all_groups_have_variance(batches, max_batches, varied, mesh, monkeypatch):
    """In the order in which they came, and no batch more than it takes; groups of the first that are left stay."""
    rewards = {"a": groups(batches)}
    collected, sampled = dynamic(mesh, monkeypatch, rewards, max_batches=max_batches)
    metrics = collected.metrics
    number = 1 + varied[-1] // P if len(varied) == P else max_batches
    assert sampled == [list(range(FIRST + i * P, FIRST + (i + 1) * P)) for i in range(number)]
    assert collected.batches == metrics["dynamic_sampling/batches"] == number
    assert metrics["dynamic_sampling/groups"] == len(varied)
    every = rewards["a"][: number * P]  # metrics are of all that was sampled
    np.testing.assert_allclose(metrics["rewards/a/mean"], np.nanmean(every), rtol=1e-6)
    np.testing.assert_allclose(metrics["rewards/a/std"], np.nanstd(every, ddof=1), rtol=1e-6)
    assert metrics["num_tokens"] == sum(len(f"{FIRST + i}.0") + 1 for i in range(number * P)) * G
    local = to_local(collected.rollout)
    assert local.included_P.tolist() == [i < len(varied) for i in range(P)]
    ids = (local.prompt_id_P - FIRST).tolist()
    assert ids[: len(varied)] == varied and len(set(ids)) == P and set(ids[len(varied) :]) <= set(range(P))


def test_all_arrays_of_a_group_move_together(mesh, monkeypatch):
    rewards = {"a": groups(["0m1m0nNm", "m0mm10m1", "00m10mmm"]), "b": np.arange(48.0).reshape(24, 2) // 2}
    collected, _ = dynamic(mesh, monkeypatch, rewards)
    metrics, transcript = collected.metrics, collected.transcript
    local, ids = to_local(collected.rollout), np.array([1, 3, 7, 8, 10, 11, 14, 18])
    positions = FIRST + ids
    words = [f"{position}.{g}" for position in positions for g in range(G)]
    assert local.prompt_id_P.tolist() == positions.tolist()
    np.testing.assert_array_equal(local.prompt_PS, np.stack([positions, 2 * positions], axis=1))
    np.testing.assert_array_equal(local.prompt_length_P, positions % 2 + 1)
    assert completion_texts(collected.rollout.samples, TOKENIZER) == words
    np.testing.assert_allclose(local.samples.logp_BT, [[-float(word)] * T for word in words], rtol=1e-6)
    in_its_batch = ((ids % P)[:, None] * G + np.arange(G)).ravel()
    assert (local.samples.support_BTI == in_its_batch[:, None, None]).all()
    for name in rewards:
        np.testing.assert_array_equal(local.rewards[name], rewards[name][ids].ravel())
    for i, row in enumerate(transcript.rows()):
        position, g = positions[i // G], i % G
        assert row["prompt"] == f"{position}?" and row["answer"] == str(position)
        assert row["completion"] == words[i] and row["length"] == len(words[i]) + 1
        assert row["rewards"] == {name: float(rewards[name][ids[i // G], g]) for name in rewards}
        assert row["reasons"] == {"a": words[i]}
        assert metrics[f"rewards/a/{words[i]}"] == 1 / rewards["a"].size  # of all that was sampled
    assert metrics["time/rewards/a"] == 2.0  # the mean of 1, 2 and 3 in three batches


def test_variance_of_another_reward(mesh, monkeypatch):
    """The sum differs in every group, the reward "b" in every second one."""
    rewards = {"a": groups(["mmmmmmmm"] * 2), "b": groups(["m0m1m0m1"] * 2)}
    collected, _ = dynamic(mesh, monkeypatch, rewards, by="b")
    assert collected.batches == 2 and (to_local(collected.rollout).prompt_id_P - FIRST).tolist() == [
        0,
        2,
        4,
        6,
        8,
        10,
        12,
        14,
    ]
    opposite = {"a": groups(["mmmmmmmm"]), "b": 1 - groups(["mmmmmmmm"])}
    collected, _ = dynamic(mesh, monkeypatch, {k: np.tile(v, (2, 1)) for k, v in opposite.items()}, max_batches=2)
    assert collected.batches == 2 and collected.metrics["dynamic_sampling/groups"] == 0  # a sum of 1 everywhere
    assert not to_local(collected.rollout).included_P.any()


@pytest.mark.parametrize(
    ("truncated", "varied"),
    [("keep", [True, True, False, True]), ("zero", [True, False, True, True]), ("mask", [True, True, False, True])],
)
@pytest.mark.parametrize("by", [None, "a"])
def test_variance_is_of_what_advantages_are_made_of(truncated, varied, by):
    """The second sample of each group but the last is truncated."""
    scores = {"a": np.array([1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0]), "b": np.full(8, np.nan)}
    truncated_B = np.array([False, True] * 3 + [False, False])
    stage = GrpoStage(
        name="rl",
        program="grpo",
        steps=1,
        prompts_per_step=4,
        group_size=2,
        rewards={"a": 1.0, "b": 0.0},
        truncated=truncated,
        dynamic_sampling={"reward": by},
        optimizer=OptimizerSettings(learning_rate=1.0),
    )
    every = {name: np.ones(8, bool) for name in scores}
    assert has_variance(stage, scores, every, truncated_B).tolist() == varied
    all_truncated = has_variance(stage, scores, every, np.ones(8, bool)).tolist()
    assert all_truncated == {"keep": [True, True, False, True], "zero": [False] * 4, "mask": [False] * 4}[truncated]


def test_variance_of_a_reward_that_is_only_logged():
    """Where it is None, the sample is not graded; the group may still be."""
    stage = GrpoStage.model_validate(
        {"name": "rl", "program": "grpo", "steps": 1, "prompts_per_step": 2, "group_size": 3}
        | {"rewards": {"a": 1.0, "m": 0.0}, "dynamic_sampling": {"reward": "m"}, "optimizer": {"learning_rate": 1.0}}
    )
    scores = {"a": np.zeros(6), "m": np.array([1.0, 0.0, np.nan, 1.0, 1.0, np.nan])}
    every = {name: np.ones(6, bool) for name in scores}
    assert has_variance(stage, scores, every, np.zeros(6, bool)).tolist() == [True, False]


@pytest.mark.parametrize("by", [None, "accuracy"])
def test_groups_that_lack_a_reward_vary_by_the_rewards_that_they_have(by):
    """Accuracy applies to the first two groups, a model to the others; the last one's model has failed."""
    stage = GrpoStage.model_validate(
        {"name": "rl", "program": "grpo", "steps": 1, "prompts_per_step": 5, "group_size": 2}
        | {"rewards": {"accuracy": 1.0, "model": 1.0}, "dynamic_sampling": {"reward": by}}
        | {"optimizer": {"learning_rate": 1.0}}
    )
    rule, nan = np.repeat([True, True, False, False, False], 2), np.nan
    scores = {
        "accuracy": np.array([1.0, 0.0, 1.0, 1.0, nan, nan, nan, nan, nan, nan]),
        "model": np.array([nan, nan, nan, nan, 3.0, 4.0, 4.0, 4.0, nan, 1.0]),
    }
    varied = has_variance(stage, scores, {"accuracy": rule, "model": ~rule}, np.zeros(10, bool))
    assert varied.tolist() == [True, False, True, False, False]
