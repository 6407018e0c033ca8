"""How a run trains: the optimizer and the device mesh."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from r1jax.config.base import NonNegativeFloat, NonNegativeInt, PositiveFloat, Settings, Share


class OptimizerSettings(Settings):
    """AdamW, after gradients are clipped by their global norm."""

    learning_rate: PositiveFloat
    """The learning rate after the warm-up."""
    warmup_updates: NonNegativeInt = 0
    """Updates in which the learning rate rises linearly. A grpo step has `minibatches` updates, an sft step one."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What the learning rate does after the warm-up, until the stage's last update."""
    min_lr_ratio: Share = 0.1
    """What `cosine` and `linear` end at, as a fraction of `learning_rate`."""
    b2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of the second moment, Adam's β₂."""
    eps: PositiveFloat = 1e-8
    """Adam's ε."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients of a larger global norm are scaled down to it."""


class MeshSettings(Settings):
    """How many devices each mesh axis has. One axis may be -1, which is whatever the others leave. `mesh: auto` chooses
    them: as much `tensor` and `fsdp` as the model needs, the rest `data`."""

    auto: bool = False
    """What `mesh: auto` sets. No axis is given beside it."""
    data: int = -1
    """Data parallelism: each device has all weights and some of the sequences."""
    fsdp: int = 1
    """Weights, gradients and optimizer state are split too."""
    tensor: int = 1
    """Tensor parallelism: heads, MLP and vocabulary are split."""
    expert: int = 1
    """Reserved for mixture-of-experts models, of which there is none yet: it splits sequences, as `data` does."""
    context: int = 1
    """Context parallelism: the positions of a sequence are split, for long sequences."""
    distributed: bool = False
    """Join the other processes of a pod before devices are counted."""

    @field_validator("data", "fsdp", "tensor", "expert", "context")
    @classmethod
    def _check_size(cls, size: int) -> int:
        if size != -1 and size < 1:
            raise ValueError("an axis has at least 1 device, or -1 for what the others leave")
        return size

    @model_validator(mode="after")
    def _check(self) -> MeshSettings:
        free = [axis for axis, size in self.sizes().items() if size == -1]
        if len(free) > 1:
            raise ValueError(f"{free[1]}: only one axis may be -1, got {' and '.join(free)}")
        if self.auto and self.sizes() != MeshSettings().sizes():
            raise ValueError("auto: chooses all axes, and some are given; leave them out, or set auto=false")
        return self

    def sizes(self) -> dict[str, int]:
        """Devices by axis."""
        return {axis: getattr(self, axis) for axis in ("data", "fsdp", "tensor", "expert", "context")}
