"""The rewards that a config can name, each with its settings; `rewards.factory` makes the functions.

rewards:
  accuracy: {name: code}
  short: {name: overlong, cache: 512, weight: 0.5}
  mine: {function: my_rewards.py:score}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from r1jax.config.base import Length, NonNegativeInt, Number, PositiveFloat, Seconds, Settings, Size, chosen_by

Weight = Annotated[Number, Field(ge=-1e6, le=1e6)]


class RewardBase(Settings):
    """What every reward has."""

    weight: Weight | None = None
    """The reward's factor in the weighted sum that a GRPO stage optimises; 0 only logs it. In a stage's own `rewards`
    block the default is 1; at the top level a reward without a weight is only defined."""


class FunctionReward(RewardBase):
    """A reward function of your own, `score(example, completion)` or one written for TRL, called in child processes."""

    function: str
    """`file.py:name` or `package.module:name`. A file is looked up in the working directory, then beside the config."""
    seconds: Seconds = 5.0
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
    seconds: Seconds = 5.0
    """The time limit of one test."""
    sandbox: Literal["auto", "unsafe"] = "auto"
    """`auto` isolates programs by the kernel's namespaces and refuses to run without; `unsafe` runs them without
    isolation, with limits of time and memory alone."""


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
    cache: Length
    """The number of tokens over which the reward falls."""


class CosineReward(RewardBase):
    """The reward `accuracy`, scaled by length: short right answers earn most, short wrong answers cost most."""

    name: Literal["cosine"]


class RepetitionReward(RewardBase):
    """A penalty, from 0 down to -1, for the fraction of trigrams of words that are repetitions."""

    name: Literal["repetition"]


class JudgeReward(RewardBase):
    """What a language model says of the completion. The model answers at an address that has OpenAI's API."""

    name: Literal["judge"]
    url: Annotated[str, Field(pattern=r"^https?://[^/@\s?#]+(/[^@\s?#]*)?$")]
    """The API's address, such as http://localhost:8000/v1; requests go to `/chat/completions` under it."""
    model: str
    """The name by which the address knows the model."""
    kind: Literal["verdict", "score"] = "verdict"
    """`verdict` is 1 where the final answer agrees with the gold answer, and 0 where it does not. `score` is how well
    the completion meets the `criterion`, a number on the `scale`."""
    criterion: str = "It helps the user: it is relevant, correct, complete, concise and clear."
    """What a `score` is given for."""
    scale: Annotated[list[int], Field(min_length=2, max_length=2, strict=True)] = [1, 10]
    """The lowest and the highest `score`."""
    reads: Literal["summary", "everything"] = "summary"
    """Whether the model is shown what follows `</think>` alone, and the reward is 0 where nothing does, or all."""
    parallel: Size = 32
    """How many requests each process has open at once."""
    seconds: Seconds = 120.0
    """The time limit of a request. A completion whose request takes longer cannot be scored."""
    retries: NonNegativeInt = 3
    """How often a request is repeated that did not reach the server, failed there or was one too many for it."""
    api_key_env: str | None = None
    """The environment variable that has the API key; null: none is sent."""
    request: dict[str, Any] = {}
    """Further keys of a request, or others in the place of the defaults, temperature 0 and max_tokens 4096; null leaves
    a default out."""

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: list[int]) -> list[int]:
        if scale[0] >= scale[1]:
            raise ValueError(f"scale is {scale}; need the lowest score, then a higher one, as in [1, 10]")
        return scale


class ModelReward(RewardBase):
    """What an earlier stage of program reward_model thinks of the completion, from 0 to 1."""

    name: Literal["reward_model"]
    stage: str
    """The name of the stage, which also says what of the completion is read."""
    scale: PositiveFloat = 1.0
    """How great a difference of scores is: the reward is sigmoid(score / scale)."""


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
    | Annotated[JudgeReward, Tag("<judge>")]
    | Annotated[ModelReward, Tag("<reward_model>")]
    | Annotated[RepetitionReward, Tag("<repetition>")],
    Discriminator(chosen_by("function")),
]
