"""What every stage has, and every stage that trains; the programs' own settings are in `experiment`.

class SftStage(TrainingStage): ...
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from r1jax.config.base import Length, NonNegativeInt, PositiveFloat, PositiveInt, Size
from r1jax.config.model import ModelSettings
from r1jax.config.shared import Shared
from r1jax.config.training import OptimizerSettings


class Stage(Shared):
    """What a stage of any program has."""

    makes_policy: ClassVar[bool] = True  # whether it ends with weights that write text, which a next stage may train on
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    """What metrics, checkpoints, overrides and other stages call it; any name but `base`."""
    init_from: str | None = None
    """The weights it begins with: the name of an earlier stage; `base`, the config's `model` before any training; or
    the folder of a run or of a Hugging Face model. Default: the last earlier stage that trains a policy, else `base`.
    """
    steps: PositiveInt
    """Steps to run: of a grpo stage rollouts with all their updates, of a distill stage rollouts with one update, of a
    reject stage rollouts, of others updates."""
    prompts_per_step: Size
    """Training examples per step."""

    @property
    def most_prompts(self) -> int:
        """How many training examples the stage may consume; the next stage starts after them."""
        return self.steps * self.prompts_per_step


class TrainingStage(Stage):
    """What a stage that trains has."""

    model: ModelSettings | None = None
    """A model of its own, such as a smaller student, with the run's tokenizer. Default: the model of `init_from`."""
    microbatch: Size | None = None
    """Sequences at once on each device (with `pack_length` in sft: rows; in reward_model: pairs); null: all. Gradients
    are accumulated, and the result does not depend on it."""
    pack_length: Length | None = None
    """Pack several sequences into rows of this many tokens; null: one sequence per row, padded."""
    optimizer: OptimizerSettings
    """AdamW and its learning rate."""
    eval_every: NonNegativeInt = 0
    """Steps between evaluations; 0: only after the last step."""
    save_every: NonNegativeInt = 0
    """Steps between checkpoints; 0: only after the last step, and as `save_minutes` says."""
    save_minutes: PositiveFloat | None = 15.0
    """A step is saved too where the last checkpoint is older than this; null: never."""
    keep: Literal["last", "best"] = "last"
    """The weights that the stage ends with, which later stages and commands take: those of its last checkpoint, or of
    the one with the best held-out accuracy. For `best`, the checkpoints of `save_every` and the last one are evaluated,
    and the best one is kept."""

    @model_validator(mode="after")
    def _check_keep(self) -> Self:
        if self.keep == "best" and not 0 < self.save_every < self.steps:
            raise ValueError(
                f"keep: best chooses among the checkpoints of save_every, and save_every {self.save_every} leaves only "
                f"that of the last step; give it a number below {self.steps}, the steps of the stage, and above 0"
            )
        if self.keep == "best" and self.evaluate.problems == 0:
            raise ValueError("keep: best compares held-out accuracies, and evaluate.problems is 0; give a number")
        return self

    @property
    def updates(self) -> int:
        """How many times the optimizer changes the weights."""
        return self.steps
