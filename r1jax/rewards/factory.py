"""The rewards that a config can name: `make_reward(settings, accuracy=None, columns=[], max_completion_length=512)`."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from r1jax.config.rewards import (
    ChoiceReward,
    CodeReward,
    CosineReward,
    ExactReward,
    FormatReward,
    FunctionReward,
    LanguageReward,
    MathReward,
    OverlongReward,
    RegexReward,
    RepetitionReward,
    RewardSettings,
)
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.choice import letter
from r1jax.rewards.code import passes_tests
from r1jax.rewards.example import Reward
from r1jax.rewards.format import think_answer, think_text
from r1jax.rewards.function import SubprocessFunction
from r1jax.rewards.language import check_language, consistency
from r1jax.rewards.shaping import cosine, overlong, repetition
from r1jax.rewards.text_match import check_pattern, exact, pattern
from r1jax.sandbox.programs import check_isolation

COMPARED = MathReward | ChoiceReward | ExactReward  # accuracies that a gold itself must satisfy
FORMS = {"think_answer": think_answer, "think_text": think_text}


def make_reward(
    settings: RewardSettings, *, accuracy: Reward | None, columns: Sequence[str], max_completion_length: int
) -> Reward:
    """The reward of one entry of a config's `rewards:` block.

    `accuracy` is the reward of that name, `columns` what else of a data set examples hold. Raises ValueError for
    settings with which it could never be given.
    """
    given = settings.model_dump(exclude={"name", "weight"})
    match settings:
        case FunctionReward():
            return SubprocessFunction(columns=columns, **given)
        case MathReward():
            return math_answer
        case CodeReward():
            if settings.tests not in columns:
                raise ValueError(f"it needs column {settings.tests!r}; add it to task.columns")
            check_isolation(settings.sandbox)
            return functools.partial(passes_tests, **given)
        case ChoiceReward():
            return letter
        case ExactReward():
            return functools.partial(exact, **given)
        case RegexReward():
            check_pattern(settings.pattern)
            return functools.partial(pattern, **given)
        case FormatReward():
            return functools.partial(FORMS[settings.form], allow_empty=settings.allow_empty)
        case LanguageReward():
            check_language(settings.language)
            return functools.partial(consistency, **given)
        case OverlongReward():
            if settings.cache > max_completion_length:
                raise ValueError(f"its cache {settings.cache} is above max_completion_length {max_completion_length}")
            return functools.partial(overlong, max_length=max_completion_length, cache=settings.cache)
        case CosineReward():
            if accuracy is None:
                raise ValueError("it needs a reward named accuracy; give rewards.accuracy")
            return functools.partial(cosine, accuracy=accuracy, max_length=max_completion_length)
        case RepetitionReward():
            return functools.partial(repetition, **given)
