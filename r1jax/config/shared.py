"""The settings that the top level has for all stages, and that a stage may have for itself.

filled({"name": "rl", "prompt": {"chat": True}}, top)  # the stage, with what it takes from the top level
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from r1jax.config.base import Length, Settings
from r1jax.config.rewards import RewardBase, RewardSettings, Weight
from r1jax.config.sampling import EvaluateSettings, PromptSettings
from r1jax.config.tasks import TaskSettings

NOT_GIVEN: Any = None  # at the top level, where each stage has its own; `Config` gives every stage the top level's


def _entry_kind(value: Any) -> str:
    return "<definition>" if isinstance(value, dict | RewardBase) else "<weight>"


RewardEntry = Annotated[
    Annotated[Weight, Tag("<weight>")] | Annotated[RewardSettings, Tag("<definition>")], Discriminator(_entry_kind)
]
MERGED = ("prompt", "evaluate")  # blocks of a stage that hold only what differs from the top level's


class Shared(Settings):
    """What the top level has for all stages, and a stage may have for itself."""

    task: TaskSettings = NOT_GIVEN
    """Where questions, answers and demonstrations come from."""
    rewards: dict[str, RewardEntry] = NOT_GIVEN
    """Rewards by name. A number is the weight of a reward that is defined elsewhere: in the stage, at the top level, or
    by the task, which brings `accuracy` and `format`. A block defines a reward, and its key `weight` is the weight: 1
    by default in a stage; a block at the top level without it only defines the reward, for stages to give a weight. A
    grpo stage optimises the rewards with a weight in its own `rewards`, or if it has none, in the top level's; a reward
    of weight 0 is only logged."""
    prompt: PromptSettings = NOT_GIVEN
    """How a question becomes a prompt. A stage's block needs only the keys that differ from the top level's."""
    max_prompt_length: Length = NOT_GIVEN
    """Prompts of more tokens than this are dropped."""
    max_completion_length: Length = NOT_GIVEN
    """Completions are truncated after this many tokens; demonstrations that are longer are dropped."""
    evaluate: EvaluateSettings = NOT_GIVEN
    """Evaluation on held-out problems. A stage's block needs only the keys that differ from the top level's."""

    @property
    def reward_weights(self) -> dict[str, float]:
        """What a GRPO stage optimises: the weights of its rewards, by name; those of weight 0 are only logged."""
        entries = (self.rewards or {}).items()
        weights = {name: entry.weight if isinstance(entry, RewardBase) else entry for name, entry in entries}
        return {name: weight for name, weight in weights.items() if weight is not None}

    @property
    def reward_definitions(self) -> dict[str, RewardSettings]:
        """The rewards that are defined here and not by the task, whether or not they have a weight."""
        return {name: entry for name, entry in (self.rewards or {}).items() if isinstance(entry, RewardBase)}


def given(block: dict[str, Any]) -> dict[str, Any]:
    """A block without the shared settings that are null: they are those of the top level, as if they were left out."""
    return {key: value for key, value in block.items() if value is not None or key not in Shared.model_fields}


def filled(stage: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """A stage with what it takes from the top level."""
    filled = {name: top[name] for name in Shared.model_fields if name in top} | stage
    for name in (*MERGED, "rewards"):
        own, shared = filled[name], top[name]
        if name in stage and isinstance(own, dict) and isinstance(shared, dict):
            filled[name] = _own_rewards(own, shared) if name == "rewards" else shared | own
    return filled


def _own_rewards(own: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """A stage's rewards, defined as the top level defines them where it only has their weight.

    The top level's other definitions are there too, without a weight.
    """
    defined = {name: entry | {"weight": None} for name, entry in shared.items() if isinstance(entry, dict)}
    rewards = {}
    for name, entry in own.items():
        if isinstance(entry, dict):
            rewards[name] = {"weight": 1.0} | entry
        else:
            rewards[name] = defined[name] | {"weight": entry} if name in defined else entry
    return rewards | {name: entry for name, entry in defined.items() if name not in own}
