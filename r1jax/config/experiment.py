"""The tree of settings: frozen pydantic models, which `config_file` reads and writes.

Every setting is declared here, with its default and its check; a key that is not declared is an error.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from r1jax.config.base import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Settings, Share
from r1jax.config.model import ModelSettings
from r1jax.config.objective import (
    AdvantageSettings,
    CorrectionSettings,
    DynamicSampling,
    KlSettings,
    LossSettings,
    ValueSettings,
)
from r1jax.config.rewards import RewardSettings
from r1jax.config.tasks import TaskSettings


class PromptConfig(Settings):
    """How a question becomes a prompt.

    `template` is one of prompts.TEMPLATES (plain, r1_zero, r1) or a text of your own with {question} in it. With
    `chat` the result is a user's message in the tokenizer's chat template, after `system` where given. Questions that
    are chat messages already take only `chat`.
    """

    template: str = "plain"
    chat: bool = False
    system: str | None = None


class TokenizerSettings(Settings):
    """`characters` builds the vocabulary from the task's alphabet; the other kinds read `path`.

    Where it is left out, a pretrained model brings its own, and any other model gets `characters`.
    """

    kind: Literal["characters", "huggingface", "sentencepiece"] = "characters"
    path: str | None = None

    @model_validator(mode="after")
    def _check(self) -> TokenizerSettings:
        if self.kind != "characters" and self.path is None:
            raise ValueError(f"kind {self.kind} needs a path to its file or folder")
        return self


class MeshConfig(Settings):
    """Devices on each axis; one axis may be -1 and takes what is left. `distributed` joins several processes."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    expert: int = 1
    context: int = 1
    distributed: bool = False

    @field_validator("data", "fsdp", "tensor", "expert", "context")
    @classmethod
    def _check_size(cls, size: int) -> int:
        if size != -1 and size < 1:
            raise ValueError("an axis has at least 1 device, or -1 for what is left")
        return size

    @model_validator(mode="after")
    def _check(self) -> MeshConfig:
        free = [axis for axis, size in self.sizes().items() if size == -1]
        if len(free) > 1:
            raise ValueError(f"only one axis may be -1, got {' and '.join(free)}")
        return self

    def sizes(self) -> dict[str, int]:
        return {axis: getattr(self, axis) for axis in ("data", "fsdp", "tensor", "expert", "context")}


class OptimizerConfig(Settings):
    """AdamW after clipping by the global norm; the rate warms up, then stays or falls to `final_share` of itself.

    `warmup_updates` counts updates, of which a grpo step has `minibatches`.
    """

    learning_rate: Annotated[float, Field(gt=0)]
    warmup_updates: NonNegativeInt = 0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    final_share: Share = 0.1
    b1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    b2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class EvaluateConfig(Settings):
    """Held-out `problems` (no more than there are, null: all), each answered `samples` times at `temperature`, where 0
    is greedy, from the `top_k` likeliest tokens and of these from the first `top_p` of probability."""

    problems: PositiveInt | None = 512
    samples: PositiveInt = 1
    temperature: NonNegativeFloat = 1.0
    top_k: PositiveInt | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> EvaluateConfig:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"temperature 0 makes all {self.samples} samples the same; set temperature, or samples=1")
        if self.temperature == 0 and (self.top_k is not None or self.top_p < 1):
            raise ValueError("temperature 0 takes the likeliest token, whatever top_k and top_p; set temperature")
        return self


class LogConfig(Settings):
    """Beside the console and metrics.jsonl; every `completions_every` steps the first process keeps its completions."""

    tensorboard: bool = True
    wandb_project: str | None = None
    completions_every: NonNegativeInt = 10


class Stage(Settings):
    """What every training program has; `eval_every` and `save_every` count steps, 0 means only at the end.

    With `pack_length` sequences share rows of that many tokens; null: one a row.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    steps: PositiveInt
    prompts_per_step: PositiveInt
    microbatch: PositiveInt | None = None
    pack_length: PositiveInt | None = None
    optimizer: OptimizerConfig
    eval_every: NonNegativeInt = 0
    save_every: NonNegativeInt = 0

    @property
    def updates(self) -> int:
        """How many times the optimizer moves the weights."""
        return self.steps

    @property
    def most_prompts(self) -> int:
        """How many training examples the stage may draw; the next one begins after them."""
        return self.steps * self.prompts_per_step


class SftStage(Stage):
    """Supervised fine-tuning on the task's worked examples, `prompts_per_step` of them at once.

    With `pack_length`, `microbatch` counts packed rows.
    """

    program: Literal["sft"]


class GrpoStage(Stage):
    """GRPO: `prompts_per_step` × `group_size` completions a rollout, `minibatches` updates a rollout.

    `rewards` are weights by name; those of weight 0 are logged alone. `truncated` says what a completion that never
    stopped has: its reward ("keep"), at most zero ("zero"), or its reward in the group's baseline and no part in the
    loss ("mask": DAPO's overlong filtering). In several `rollout_parts` the devices sample one while the one before is
    graded: worth it where grading is slow, as with programs.

    Tokens are drawn at `temperature` from the `top_k` likeliest, and of these from the first `top_p` of probability.
    `old_log_probs` of the ratio are the sampler's, or those of a forward of the trainer before its first update, which
    a `correction` then compares. `off_policy_mask` leaves out bad sequences that the policy has moved away from by that
    much. With `value` this is PPO.

    In a config file `preset: FILE` stands for the settings in that file, to which those beside it are exceptions.
    """

    program: Literal["grpo"]
    group_size: PositiveInt
    minibatches: PositiveInt = 1
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_k: Annotated[int, Field(ge=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    rewards: dict[str, Annotated[float, Field(allow_inf_nan=False)]]
    advantage: AdvantageSettings = AdvantageSettings()
    loss: LossSettings = LossSettings()
    kl: KlSettings = KlSettings()
    old_log_probs: Literal["sampler", "trainer"] = "sampler"
    correction: CorrectionSettings | None = None
    off_policy_mask: PositiveFloat | None = None
    dynamic_sampling: DynamicSampling | None = None
    value: ValueSettings | None = None
    truncated: Literal["keep", "zero", "mask"] = "keep"
    rollout_parts: PositiveInt = 1

    @property
    def updates(self) -> int:
        return self.steps * self.minibatches

    @property
    def most_prompts(self) -> int:
        batches = self.dynamic_sampling.max_batches if self.dynamic_sampling else 1
        return super().most_prompts * batches

    @model_validator(mode="after")
    def _check(self) -> GrpoStage:
        if not any(self.rewards.values()):
            raise ValueError("rewards has none with a weight; give one at least, for example {accuracy: 1.0}")
        rollout = self.prompts_per_step * self.group_size
        if rollout % self.minibatches:
            raise ValueError(
                f"minibatches {self.minibatches} does not divide prompts_per_step × group_size = {rollout} completions"
            )
        if self.group_size == 1 and self.value is None:
            raise ValueError("group_size is 1, and a sample alone has no advantage; need 2 or more, or a value model")
        self._check_value()
        by_token = self.correction is not None and self.correction.level == "token"
        if self.loss.kind == "gspo" and (by_token or self.loss.top_entropy_share < 1):
            raise ValueError(
                "loss.kind gspo has one ratio for all tokens of a sequence, so that none of them can be left out or "
                "weighted alone, as top_entropy_share and correction.level token would; use gspo_token, or level "
                "sequence"
            )
        if self.loss.kind == "reinforce" and self.minibatches > 1:
            raise ValueError(f"minibatches {self.minibatches} need a ratio, and loss.kind reinforce has none; set 1")
        if self.kl.coef > 0 and self.kl.place == "reward" and self.value is None and self.advantage.scale == "group":
            raise ValueError(
                "kl.place is reward, and advantage.scale group would blow the KL up where all else is equal; use scale "
                "batch or none"
            )
        if self.top_p < 1 and self.top_k is None:
            raise ValueError(
                f"top_p {self.top_p} needs top_k, for example 100: what a token was drawn from is kept for the "
                f"trainer, and all of the vocabulary is too much"
            )
        if self.correction is not None and self.old_log_probs == "sampler":
            raise ValueError(
                "correction compares the trainer's old log-probs with the sampler's; set old_log_probs: trainer"
            )
        if self.dynamic_sampling is not None and self.dynamic_sampling.by not in (None, *self.rewards):
            raise ValueError(
                f"dynamic_sampling.by is {self.dynamic_sampling.by!r}, and rewards has {', '.join(self.rewards)}"
            )
        if self.dynamic_sampling is not None and self.dynamic_sampling.by is None and self.advantage.per_reward:
            raise ValueError("dynamic_sampling.by is null, the sum, which advantage.per_reward does not use; name one")
        taken = self.kl.coef > 0 and self.kl.place == "reward"
        if self.advantage.per_reward and (self.truncated == "zero" or taken):
            raise ValueError(
                "advantage.per_reward knows no sum of the rewards, which truncated: zero limits and kl.place: reward "
                "takes from; use truncated: mask and kl.place: loss"
            )
        return self

    def _check_value(self) -> None:
        if self.value is None:
            return
        if self.off_policy_mask is not None:
            raise ValueError(
                "off_policy_mask leaves out sequences of negative advantage, and a value model's advantages are a "
                "token's; leave it out"
            )
        if self.advantage.scale == "group":
            raise ValueError(
                "advantage.scale is group, and a value model's advantages are a token's; use batch or none"
            )
        if self.advantage.baseline != "mean" or self.advantage.per_reward:
            raise ValueError("advantage.baseline and per_reward are a group's; with a value model leave them out")
        if self.loss.kind == "gspo":
            raise ValueError(
                "loss.kind gspo has a ratio a sequence, and a value model an advantage a token; use another"
            )
        if self.dynamic_sampling is not None and self.group_size == 1:
            raise ValueError("dynamic_sampling needs mixed groups, and group_size is 1; give 2 or more")


class Config(Settings):
    """One experiment: shared settings and the stages that run in order.

    `rewards` are more than the task has, or others in their place, by the names that stages give weights to.
    """

    run_dir: str
    seed: NonNegativeInt = 0
    task: TaskSettings
    rewards: dict[str, RewardSettings] = {}
    prompt: PromptConfig = PromptConfig()
    tokenizer: TokenizerSettings | None = None
    model: ModelSettings
    mesh: MeshConfig = MeshConfig()
    max_prompt_length: PositiveInt
    max_completion_length: PositiveInt
    evaluate: EvaluateConfig = EvaluateConfig()
    log: LogConfig = LogConfig()
    keep_checkpoints: PositiveInt = 2
    stages: Annotated[list[Annotated[SftStage | GrpoStage, Field(discriminator="program")]], Field(strict=True)] = []

    @model_validator(mode="after")
    def _check(self) -> Config:
        names = [stage.name for stage in self.stages]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two stages are named {twice[0]}; each needs a name of its own")
        return self
