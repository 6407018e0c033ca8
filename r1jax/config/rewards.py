"""The rewards that a config can name, each with its settings; `rewards.factory` makes the functions.

rewards:
  accuracy: {name: code}
  short: {name: overlong, cache: 512, weight: 0.5}
  mine: {function: my_rewards.py:score}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from r1jax.config.base import PositiveFloat, PositiveInt, Settings, chosen_by

Weight = Annotated[float, Field(allow_inf_nan=False)]


class RewardBase(Settings):
    """What every reward has."""

    weight: Weight | None = None
    """The reward's factor in the weighted sum that a GRPO stage optimises; 0 only logs it. In a stage's own `rewards`
    block the default is 1; at the top level a reward without a weight is only defined."""


class FunctionReward(RewardBase):
    """A reward function of your own, `score(example, completion)` or one written for TRL, called in child processes."""

    function: str
    """`file.py:name` or `package.module:name`. A file is looked up in the working directory, then beside the config."""
    seconds: PositiveFloat = 5.0
    """The time limit of a call. A completion whose call takes longer cannot be scored."""

    @field_validator("function")
    @classmethod
    def _find_beside_config(cls, function: str, info: ValidationInfo) -> str:
        """The path as it is where it exists, else beside the config, whose folder is `config_folder` in the context."""
        file, _, name = function.rpartition(":")
        beside = Path((info.context or {}).get("config_folder", "."), file)
        return f"{beside}:{name}" if file.endswith(".py") and not Path(file).exists() and beside.exists() else function


class MathReward(RewardBase):
    """1 where the final answer equals the gold answer, as numbers, sets, expressions and the like are equal."""

    name: Literal["math"]


class CodeReward(RewardBase):
    """1 where the Python program in the completion passes all tests of its example, run in a sandbox.

    The tests are in the column `tests`, which `task.columns` has to list.
    """

    name: Literal["code"]
    fraction: bool = False
    """Whether the reward is the fraction of tests that pass, instead of 1 for all and 0 otherwise."""
    seconds: PositiveFloat = 5.0
    """The time limit of one test."""
    sandbox: Literal["auto", "unsafe"] = "auto"
    """`auto` isolates programs by bubblewrap or the kernel's namespaces and refuses to run without; `unsafe` runs them
    without isolation, with limits of time and memory alone."""


class ChoiceReward(RewardBase):
    """1 where the letter that the completion chooses is the gold answer of a multiple-choice question."""

    name: Literal["choice"]


class ExactReward(RewardBase):
    """1 where the final answer is the same text as the gold answer."""

    name: Literal["exact"]


class RegexReward(RewardBase):
    """1 where a regular expression matches the whole final answer."""

    name: Literal["regex"]
    pattern: str
    """A pattern of Python's `re` module. It has to match from the first to the last character of the answer."""


class FormatReward(RewardBase):
    """1 where the completion has the format of DeepSeek-R1-Zero or of DeepSeek-R1, exactly."""

    name: Literal["format"]
    style: Literal["think_answer", "think_text"] = "think_answer"
    """`think_answer` is R1-Zero's `<think>…</think><answer>…</answer>`; `think_text` is R1's `<think>…</think>` and
    then text."""


class LanguageReward(RewardBase):
    """R1's language consistency reward: the fraction of the reasoning's words that are in the target language."""

    name: Literal["language"]
    language: str = "en"
    """The target language, as an ISO 639-1 code."""


class OverlongReward(RewardBase):
    """DAPO's soft overlong punishment: 0, falling linearly to -1 over the last tokens before max_completion_length."""

    name: Literal["overlong"]
    cache: PositiveInt
    """The number of tokens over which the reward falls."""


class CosineReward(RewardBase):
    """The reward `accuracy`, scaled by length: short right answers earn most, short wrong answers cost most."""

    name: Literal["cosine"]


class RepetitionReward(RewardBase):
    """A penalty, from 0 down to -1, for the fraction of trigrams of words that are repetitions."""

    name: Literal["repetition"]


RewardSettings = Annotated[
    Annotated[FunctionReward, Tag("<function>")]
    | Annotated[MathReward, Tag("<math>")]
    | Annotated[CodeReward, Tag("<code>")]
    | Annotated[ChoiceReward, Tag("<choice>")]
    | Annotated[ExactReward, Tag("<exact>")]
    | Annotated[RegexReward, Tag("<regex>")]
    | Annotated[FormatReward, Tag("<format>")]
    | Annotated[LanguageReward, Tag("<language>")]
    | Annotated[OverlongReward, Tag("<overlong>")]
    | Annotated[CosineReward, Tag("<cosine>")]
    | Annotated[RepetitionReward, Tag("<repetition>")],
    Discriminator(chosen_by("function")),
]
