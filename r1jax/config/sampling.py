"""From a question to sampled answers: the prompt, how tokens are sampled, and evaluation on held-out problems."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from r1jax.config.base import NonNegativeInt, Number, PositiveInt, Settings, Size


class PromptSettings(Settings):
    """How a question becomes a prompt."""

    template: str = "plain"
    """`plain`, `r1_zero`, `r1` (`text.prompt.TEMPLATES`), or a text of your own with {question} in it."""
    chat: bool = False
    """Put the result into the tokenizer's chat template, as the user's message; chat messages as questions need it."""
    system: str | None = None
    """The system message of the chat template."""
    chat_template_kwargs: dict[str, Any] = {}
    """Further variables of the chat template, such as `enable_thinking: false`."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _check_names(cls, names: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted({"messages", "add_generation_prompt"} & names.keys()):
            raise ValueError(f"{taken[0]} is what r1jax gives to the template itself; leave it out")
        return names


class SamplingSettings(Settings):
    """How tokens are sampled."""

    temperature: Annotated[Number, Field(ge=0, le=1000)] = 1.0
    """Logits are divided by this before sampling; 0 is greedy decoding, and is for evaluation only."""
    top_k: PositiveInt | None = None
    """Sample from this many tokens of the highest probability; null: from all."""
    top_p: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Of those, sample from the fewest that hold this much of the probability."""
    min_p: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Of those, sample from the ones with at least this fraction of the most probable token's probability."""
    decode_batch: Size | None = None
    """Completions that each device decodes at once; when one ends, the next takes its place, and samples are the same
    but for rounding. Devices along `mesh.tensor` and `mesh.context` count as one. null: all of a rollout; of an
    evaluation as many as the largest stage of the run has, or 64 in `r1jax eval`."""

    @model_validator(mode="after")
    def _check_greedy(self) -> SamplingSettings:
        if 0 < self.temperature < 1e-3:
            raise ValueError(f"temperature {self.temperature:g} is greedy but for rounding errors; give 0, or more")
        limits = {"top_k": self.top_k is not None, "top_p": self.top_p < 1, "min_p": self.min_p > 0}
        if self.temperature == 0 and (given := [name for name, limits_it in limits.items() if limits_it]):
            raise ValueError(f"temperature 0 always takes the most probable token, so leave out {' and '.join(given)}")
        return self

    def check_support(self) -> None:
        """Raises ValueError where the trainer could not store the tokens that each token was sampled from."""
        for key, limits in {"top_p": self.top_p < 1, "min_p": self.min_p > 0}.items():
            if limits and self.top_k is None:
                raise ValueError(
                    f"{key} {getattr(self, key)} needs top_k, for example 100: the trainer stores the tokens that each "
                    f"token was sampled from, and the whole vocabulary would be too much"
                )


class EvaluateSettings(SamplingSettings):
    """Evaluation on held-out problems."""

    problems: NonNegativeInt | None = 512
    """How many problems of the test split, at most; null: all, 0: never evaluate."""
    before: bool = True
    """Whether the weights that a stage begins with are evaluated, unless an earlier stage has done it."""
    samples: Size = 1
    """Samples per problem; several give pass@k and cons@k."""

    @model_validator(mode="after")
    def _check(self) -> EvaluateSettings:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"temperature 0 makes all {self.samples} samples the same; set temperature, or samples=1")
        return self
