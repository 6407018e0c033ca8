"""The rewards that a config can name, each with its settings; `rewards.catalogue` makes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from r1jax.config.base import PositiveFloat, PositiveInt, Settings


class RewardBase(Settings):
    weight: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """What the reward counts in a stage's sum of rewards; 1 where the stage's own `rewards` block leaves it out."""


class FunctionReward(RewardBase):
    """A user's own: `function` is "file.py:name" or "package.module:name"; see `rewards.own`."""

    function: str
    seconds: PositiveFloat = 5.0
    memory_mb: PositiveInt = 4096


class MathReward(RewardBase):
    """1 where the final answer is the gold: `rewards.accuracy.math_answer`."""

    name: Literal["math"]


class CodeReward(RewardBase):
    """Programs run on the tests in column `tests`; `fraction` gives the share of them that passed: `rewards.code`.

    Each test has `seconds`, all of a program's have `total_seconds`.
    """

    name: Literal["code"]
    tests: str = "tests"
    fraction: bool = False
    seconds: PositiveFloat = 5.0
    total_seconds: PositiveFloat = 60.0
    memory_mb: Annotated[int, Field(ge=64)] = 1024
    sandbox: Literal["auto", "unsafe"] = "auto"


class ChoiceReward(RewardBase):
    """1 where the chosen letter is the gold: `rewards.choice`."""

    name: Literal["choice"]


class ExactReward(RewardBase):
    """1 where the final answer is the gold's text: `rewards.text.exact`."""

    name: Literal["exact"]
    ignore_case: bool = False


class RegexReward(RewardBase):
    """1 where the final answer, or the whole completion, matches: `rewards.text.pattern`."""

    name: Literal["regex"]
    pattern: str
    where: Literal["answer", "completion"] = "answer"


class FormatReward(RewardBase):
    """1 for R1's form, or for the distills' `<think>…</think>` and text: `rewards.format`."""

    name: Literal["format"]
    form: Literal["think_answer", "think_text"] = "think_answer"
    allow_empty: bool = False


class LanguageReward(RewardBase):
    """The share of the reasoning's words that are in `language`: `rewards.language`."""

    name: Literal["language"]
    language: str = "en"


class OverlongReward(RewardBase):
    """0 down to -1 over the last `cache` tokens before max_completion_length (DAPO): `rewards.shaping.overlong`."""

    name: Literal["overlong"]
    cache: PositiveInt


class CosineReward(RewardBase):
    """Right answers are worth more where short, wrong ones less: `rewards.shaping.cosine` of the reward accuracy."""

    name: Literal["cosine"]


class RepetitionReward(RewardBase):
    """Down to `max_penalty` for repeated n-grams: `rewards.shaping.repetition`."""

    name: Literal["repetition"]
    n: PositiveInt = 3
    max_penalty: Annotated[float, Field(lt=0)] = -1.0


def _reward_kind(value: Any) -> str | None:
    """Which reward a block of settings is: by its key `function`, else by its `name`."""
    get = value.get if isinstance(value, dict) else lambda key: getattr(value, key, None)
    return "function" if get("function") is not None else get("name")


RewardSettings = Annotated[
    Annotated[FunctionReward, Tag("function")]
    | Annotated[MathReward, Tag("math")]
    | Annotated[CodeReward, Tag("code")]
    | Annotated[ChoiceReward, Tag("choice")]
    | Annotated[ExactReward, Tag("exact")]
    | Annotated[RegexReward, Tag("regex")]
    | Annotated[FormatReward, Tag("format")]
    | Annotated[LanguageReward, Tag("language")]
    | Annotated[OverlongReward, Tag("overlong")]
    | Annotated[CosineReward, Tag("cosine")]
    | Annotated[RepetitionReward, Tag("repetition")],
    Discriminator(_reward_kind),
]
