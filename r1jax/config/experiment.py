"""The tree of settings: frozen pydantic models, which `config_file` reads and writes.

Every setting is declared here, with its default and its check; a key that is not declared is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

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
from r1jax.config.rewards import RewardBase, RewardSettings
from r1jax.config.tasks import TaskSettings

if TYPE_CHECKING:
    type Inherited[T] = T
else:
    Inherited = Optional
NOT_GIVEN: Any = None  # on a stage as the user wrote it, "take the top level's"; `Config.stage` puts that in its place


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


def _entry_kind(value: Any) -> str:
    return "definition" if isinstance(value, dict | RewardBase) else "weight"


Weight = Annotated[float, Field(allow_inf_nan=False)]
RewardEntry = Annotated[
    Annotated[Weight, Tag("weight")] | Annotated[RewardSettings, Tag("definition")], Discriminator(_entry_kind)
]
MERGED = ("prompt", "evaluate")  # a stage's block says only what is different from the top level's


class Shared(Settings):
    """What a stage may have for itself, and the top level has for all stages that do not.

    A stage's `prompt` and `evaluate` are merged key by key into those of the top level; the others replace them.
    `rewards` holds numbers, the weights of rewards that are defined elsewhere (a task brings `accuracy` and `format`),
    and definitions, whose `weight` is 1 where it is left out.
    """

    task: Inherited[TaskSettings] = NOT_GIVEN
    rewards: Inherited[dict[str, RewardEntry]] = NOT_GIVEN
    prompt: Inherited[PromptConfig] = NOT_GIVEN
    max_prompt_length: Inherited[PositiveInt] = NOT_GIVEN
    max_completion_length: Inherited[PositiveInt] = NOT_GIVEN
    evaluate: Inherited[EvaluateConfig] = NOT_GIVEN

    @field_validator("rewards")
    @classmethod
    def _default_weight(cls, rewards: Any) -> Any:
        def weighted(entry: Any) -> Any:
            no_weight = isinstance(entry, RewardBase) and entry.weight is None
            return entry.model_copy(update={"weight": 1.0}) if no_weight else entry

        return rewards and {name: weighted(entry) for name, entry in rewards.items()}

    @property
    def reward_weights(self) -> dict[str, float]:
        """What a GRPO stage optimises: the weights of its rewards, by name; those of weight 0 are only logged."""
        weights = {
            name: entry.weight if isinstance(entry, RewardBase) else entry
            for name, entry in (self.rewards or {}).items()
        }
        return {name: weight for name, weight in weights.items() if weight is not None}

    @property
    def reward_definitions(self) -> dict[str, RewardSettings]:
        """The rewards that are defined here and not by the task, whether or not they have a weight."""
        return {name: entry for name, entry in (self.rewards or {}).items() if isinstance(entry, RewardBase)}


class Stage(Shared):
    """What every training program has; `eval_every` and `save_every` count steps, 0 means only at the end.

    `init_from` says which weights it begins with: those of an earlier stage by its name, `base` for the config's model
    as it was before any training, or the folder of a run or of a Hugging Face model. Without it they are those of the
    stage before. With `pack_length` sequences share rows of that many tokens; null: one a row.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    init_from: str | None = None
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

    `truncated` says what a completion that never
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
        if self.rewards is not NOT_GIVEN:
            self.check_rewards()
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
        if self.dynamic_sampling is not None and self.dynamic_sampling.by is None and self.advantage.per_reward:
            raise ValueError("dynamic_sampling.by is null, the sum, which advantage.per_reward does not use; name one")
        taken = self.kl.coef > 0 and self.kl.place == "reward"
        if self.advantage.per_reward and (self.truncated == "zero" or taken):
            raise ValueError(
                "advantage.per_reward knows no sum of the rewards, which truncated: zero limits and kl.place: reward "
                "takes from; use truncated: mask and kl.place: loss"
            )
        return self

    def check_rewards(self) -> None:
        """There is something to optimise, and dynamic sampling is by one of the rewards that the stage has."""
        if not any(self.reward_weights.values()):
            raise ValueError("rewards has none with a weight; give one at least, for example {accuracy: 1.0}")
        if self.dynamic_sampling is not None and self.dynamic_sampling.by not in (None, *self.reward_weights):
            raise ValueError(
                f"dynamic_sampling.by is {self.dynamic_sampling.by!r}, and rewards has {', '.join(self.reward_weights)}"
            )

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


class Config(Shared):
    """One experiment: the settings that its stages share, and the stages, which run in order.

    `stages` are as the user wrote them; `stage` gives one with everything that it shares.
    """

    run_dir: str
    seed: NonNegativeInt = 0
    tokenizer: TokenizerSettings | None = None
    model: ModelSettings
    mesh: MeshConfig = MeshConfig()
    log: LogConfig = LogConfig()
    keep_checkpoints: PositiveInt = 2
    stages: Annotated[list[Annotated[SftStage | GrpoStage, Field(discriminator="program")]], Field(strict=True)] = []

    def stage(self, index: int) -> SftStage | GrpoStage:
        """Stage number `index` with all that it shares with the others filled in from the top level.

        Its `rewards` are those of its own block, or else of the top level's; definitions of the top level that its
        block does not name are there too, and their weight is None.
        """
        stage = self.stages[index]
        given = {name: getattr(self, name) for name in Shared.model_fields if getattr(stage, name) is NOT_GIVEN}
        own = self.rewards if stage.rewards is NOT_GIVEN else stage.rewards
        rewards = {name: _defined(entry, self.rewards.get(name)) for name, entry in own.items()}
        others = {name: entry for name, entry in self.reward_definitions.items() if name not in own}
        rewards |= {name: entry.model_copy(update={"weight": None}) for name, entry in others.items()}
        return stage.model_copy(update={**given, "rewards": rewards})

    @model_validator(mode="before")
    @classmethod
    def _merge(cls, value: Any) -> Any:
        """Completes the blocks of stages that are merged with the top level's, before anything is checked."""
        if not isinstance(value, dict):
            return value
        tops = {name: {} if value.get(name) is None else value[name] for name in (*MERGED, "rewards")}
        stages = value.get("stages")
        if isinstance(stages, list):
            stages = [_merged(stage, tops) if isinstance(stage, dict) else stage for stage in stages]
        return value | tops | ({} if stages is None else {"stages": stages})

    @model_validator(mode="after")
    def _check(self) -> Config:
        names = [stage.name for stage in self.stages]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two stages are named {twice[0]}; each needs a name of its own")
        for index, stage in enumerate(self.stages):
            where, filled = f"stages.{stage.name}", self.stage(index)
            if stage.name == "base":
                raise ValueError("stages.base: base is the model before any training; give the stage another name")
            missing = [name for name in Shared.model_fields if getattr(filled, name) is NOT_GIVEN]
            if missing:
                raise ValueError(
                    f"{where}.{missing[0]}: this key is required and was not given; give it to the stage, or at the "
                    f"top level to all stages"
                )
            if stage.init_from in names[index:]:
                raise ValueError(
                    f"{where}.init_from: stage {stage.init_from} does not come before this one; name an earlier stage, "
                    f"base, or a folder"
                )
            if filled.program == "grpo":
                try:
                    filled.check_rewards()
                except ValueError as error:
                    raise ValueError(f"{where}.{error}") from None
        return self


def _merged(stage: dict[str, Any], tops: dict[str, Any]) -> dict[str, Any]:
    """A stage whose blocks hold what the top level's have and they do not."""
    blocks = {}
    for name in MERGED:
        top, own = (_mapping(block) for block in (tops[name], stage.get(name)))
        if isinstance(top, dict) and isinstance(own, dict):
            blocks[name] = top | own
    return stage | blocks


def _mapping(block: Any) -> Any:
    return block.model_dump() if isinstance(block, Settings) else block


def _defined(entry: float | RewardSettings, top: float | RewardSettings | None) -> float | RewardSettings:
    """An entry of a stage's rewards; where it is a number for what the top level defines, that definition with it."""
    if isinstance(entry, RewardBase) or not isinstance(top, RewardBase):
        return entry
    return top.model_copy(update={"weight": entry})
