"""A reward model on 8 devices: chunks, several numbers of texts, and what it cannot read."""

import contextlib

import jax
import numpy as np
import pytest

from r1jax.config.sampling import PromptSettings
from r1jax.models import init_params, init_value_params, make_model
from r1jax.parallel.compile_guard import CompileGuard
from r1jax.rewards.example import Completion, Example
from r1jax.rewards.grading import grade
from r1jax.rewards.reading import Reading
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.sampling.reward_model import ROWS, RewardModel, Scorer
from r1jax.text.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer("characters", ("<think>", "</think>", *"abcdefghij ?"))


def scorer_of(mesh, config, **settings):
    model = make_model(config, TOKENIZER.size)
    params = init_value_params(init_params(model, jax.random.key(0)))
    params["head_D"] = jax.random.normal(jax.random.key(1), params["head_D"].shape)
    reading = {"reads": "everything", "max_prompt_length": 4, "max_completion_length": 8} | settings
    return Scorer(LoadedModel(model, TOKENIZER, mesh, params), Reading(TOKENIZER, PromptSettings(), **reading))


def test_scores_do_not_depend_on_the_batch(mesh, model_config):
    scorer, rng = scorer_of(mesh, model_config), np.random.default_rng(0)
    sequences = [rng.integers(3, 12, rng.integers(1, 12)).tolist() for _ in range(ROWS * 8 + 3)]
    with scorer.loaded.devices():
        together = scorer(sequences)
        assert together.shape == (len(sequences),) and np.std(together) > 0.1
        for row in (0, 5, len(sequences) - 1):
            np.testing.assert_allclose(scorer([sequences[row]]), together[row : row + 1], rtol=1e-4, atol=1e-5)
        assert scorer([]).shape == (0,)


def test_with_nothing_to_read_it_compiles_too(mesh, model_config):
    """So that no later step of a run does."""
    scorer, guard = scorer_of(mesh, model_config, max_completion_length=9), CompileGuard()
    with scorer.loaded.devices(), contextlib.closing(guard):
        assert scorer([]).shape == (0,)
        before = guard.count
        assert scorer([[3, 4]]).shape == (1,) and guard.count == before


def test_a_truncated_completion_has_no_stop_token_and_may_be_as_long_as_the_limit(mesh, model_config):
    scorer = scorer_of(mesh, model_config)
    example = Example("ab?", "")
    with scorer.loaded.devices():
        reward = RewardModel(lambda: scorer, scale=2.0)
        texts = [Completion("a" * 8, length=8, truncated=cut) for cut in (True, False)]
        read, unread = reward.batch([example] * 2, texts)
        (score,) = scorer([[*TOKENIZER.encode("ab?"), *TOKENIZER.encode("a" * 8)]])
    assert unread == (None, "too_long_to_read")
    np.testing.assert_allclose(read, 1 / (1 + np.exp(-score / 2)), rtol=1e-5)


@pytest.mark.slow
def test_the_model_is_loaded_once_and_not_before_it_is_needed(mesh, model_config):
    calls = []

    def load():
        calls.append(1)
        return scorer_of(mesh, model_config, reads="summary")

    reward = RewardModel(load, scale=1.0)
    assert not calls
    opened = Example("ab?", "", prompt_opens_think=True)
    with scorer_of(mesh, model_config).loaded.devices():
        assert reward(opened, "abc") == (0.0, "no_summary")  # reasoning that was not closed
        assert 0 < reward(opened, "abc</think>de") < 1
    assert len(calls) == 1


def test_a_completion_that_the_tokenizer_does_not_cover_costs_no_other(mesh, model_config):
    scorer = scorer_of(mesh, model_config)
    with scorer.loaded.devices():
        good, bad = RewardModel(lambda: scorer, scale=1.0).batch([Example("ab?", "")] * 2, ["cd", "XYZ"])
    assert 0 < good < 1 and bad == (None, "unreadable")


def test_a_model_that_fails_ends_the_run(mesh, model_config):
    """It would fail for all completions of all steps, which would be scored None."""

    def load():
        raise FileNotFoundError("no checkpoint")

    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        grade([Example("ab?", "")], ["cd"], {"helpful": RewardModel(load, scale=1.0)})
