"""Makes rewards from settings: `make_reward(settings, accuracy=None, columns=[], max_completion_length=512)`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from r1jax.config import rewards as config
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.choice import letter
from r1jax.rewards.code import passes_tests
from r1jax.rewards.example import BatchReward, Reward
from r1jax.rewards.format import think_answer, think_text
from r1jax.rewards.function import in_process_function, subprocess_function
from r1jax.rewards.judge import Judge
from r1jax.rewards.language import check_language, consistency
from r1jax.rewards.shaping import BatchCosine, cosine, overlong, repetition
from r1jax.rewards.text_match import check_pattern, exact, pattern
from r1jax.sandbox.programs import check_isolation

# The gold answer itself has to earn full reward.
COMPARES_WITH_GOLD = config.MathReward | config.ChoiceReward | config.ExactReward
REPETITION_WORDS = 3  # of an n-gram
STYLES = {"think_answer": think_answer, "think_text": think_text}


def needs_gold(settings: config.RewardSettings | Callable[..., Any] | None) -> bool:
    """Whether a reward compares completions with gold answers."""
    judged = isinstance(settings, config.JudgeReward) and settings.kind == "verdict"
    return judged or isinstance(settings, COMPARES_WITH_GOLD)


def make_reward(
    settings: config.RewardSettings | Callable[..., Any],
    *,
    accuracy: Reward | None,
    columns: Sequence[str],
    max_completion_length: int,
) -> Reward:
    """The reward of one entry of a config's `rewards:` block, or of a Python callable in r1jax's or TRL's form.

    `accuracy` is the reward of that name, from which others may be computed; `columns` are the names in the examples'
    `data`. Raises ValueError for settings with which no completion could ever be scored.
    """
    match settings:
        case config.FunctionReward(function=path, seconds=seconds):
            return subprocess_function(path, columns=columns, seconds=seconds)
        case config.MathReward():
            return math_answer
        case config.CodeReward():
            if "tests" not in columns:
                raise ValueError("it needs column 'tests'; add it to task.columns")
            check_isolation(settings.sandbox)
            return functools.partial(passes_tests, **settings.model_dump(exclude={"name", "weight"}))
        case config.ChoiceReward():
            return letter
        case config.ExactReward():
            return exact
        case config.RegexReward():
            check_pattern(settings.pattern)
            return functools.partial(pattern, pattern=settings.pattern)
        case config.FormatReward():
            return STYLES[settings.style]
        case config.LanguageReward():
            check_language(settings.language)
            return functools.partial(consistency, language=settings.language)
        case config.OverlongReward():
            if settings.cache > max_completion_length:
                raise ValueError(f"its cache {settings.cache} is above max_completion_length {max_completion_length}")
            return functools.partial(overlong, max_length=max_completion_length, cache=settings.cache)
        case config.CosineReward():
            if accuracy is None:
                raise ValueError("it needs a reward named accuracy; define rewards.accuracy")
            if isinstance(accuracy, BatchReward):
                return BatchCosine(accuracy, max_completion_length)
            return functools.partial(cosine, accuracy=accuracy, max_length=max_completion_length)
        case config.RepetitionReward():
            return functools.partial(repetition, n=REPETITION_WORDS)
        case config.ModelReward():
            raise ValueError(f"only the run that has the stage {settings.stage} can use its model")
        case config.JudgeReward():
            return Judge(settings)
        case BatchReward():
            return settings
    return in_process_function(settings, columns=columns)
