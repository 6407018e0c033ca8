"""A whole experiment: its stages, each with its program's settings, and what they all have.

    config = load_config("configs/quickstart.yaml")
    config.stages[1].max_completion_length  # which it takes from the top level

Every setting is declared in a class of this package, with its default, its check and its meaning; no other key is one.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from r1jax.config.base import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Seed, Share, Size, chosen_by
from r1jax.config.model import ModelSettings
from r1jax.config.objective import (
    AdvantageSettings,
    DynamicSamplingSettings,
    ImportanceSamplingSettings,
    KlSettings,
    LossSettings,
    ValueSettings,
)
from r1jax.config.rewards import ModelReward, Weight
from r1jax.config.sampling import SamplingSettings
from r1jax.config.shared import MERGED, NOT_GIVEN, Shared, filled, given
from r1jax.config.stage import Stage, TrainingStage
from r1jax.config.tasks import EvaluationSet, MixtureTask, evaluation_set, reads_prompts, stages_read
from r1jax.config.training import MeshSettings


class SftStage(TrainingStage):
    """Supervised fine-tuning on the task's demonstrations."""

    program: Literal["sft"]


class GrpoStage(TrainingStage, SamplingSettings):
    """GRPO and its variants: `prompts_per_step` × `group_size` completions per step, used in `minibatches` updates.

    `preset: FILE` puts the settings in that file, such as one of configs/objectives/, under those beside it.
    """

    program: Literal["grpo"]
    group_size: Size
    """Completions per prompt."""
    minibatches: Size = 1
    """Updates a step; each uses its own part of the step's completions."""
    advantage: AdvantageSettings = AdvantageSettings()
    """How rewards become advantages."""
    loss: LossSettings = LossSettings()
    """The policy loss."""
    kl: KlSettings = KlSettings()
    """The penalty for moving away from a reference model."""
    old_log_probs: Literal["sampler", "trainer"] = "sampler"
    """Whose log-probs are the denominator of the ratio: those that the sampler returned, or those of a forward pass of
    the trainer before the step's first update."""
    importance_sampling: ImportanceSamplingSettings | None = None
    """Correct for the mismatch between the sampler's and the trainer's log-probs; needs `old_log_probs: trainer`."""
    off_policy_mask_threshold: PositiveFloat | None = None
    """Mask sequences of negative advantage whose mean log-ratio of sampler to policy exceeds this (DeepSeek-V3.2)."""
    dynamic_sampling: DynamicSamplingSettings | None = None
    """Sample more prompts until every group of the step has rewards that differ (DAPO)."""
    value: ValueSettings | None = None
    """Train a value model for the advantages: PPO."""
    truncated: Literal["keep", "zero", "mask"] = "keep"
    """What becomes of a truncated completion: it keeps its reward, its reward is at most 0, or its reward counts in the
    group's baseline and its tokens do not in the loss (DAPO's overlong filtering)."""

    @property
    def updates(self) -> int:
        return self.steps * self.minibatches

    @property
    def most_prompts(self) -> int:
        return super().most_prompts * (self.dynamic_sampling.max_batches if self.dynamic_sampling else 1)

    @model_validator(mode="after")
    def _check(self) -> GrpoStage:
        rollout = self.prompts_per_step * self.group_size
        if rollout % self.minibatches:
            raise ValueError(
                f"minibatches {self.minibatches} does not divide prompts_per_step × group_size = {rollout} completions"
            )
        if self.group_size == 1 and self.value is None:
            raise ValueError("group_size is 1, and a sample alone has no advantage; need 2 or more, or a value model")
        if self.temperature == 0 or self.top_k == 1:
            key = "temperature 0" if self.temperature == 0 else "top_k 1"
            raise ValueError(f"{key} is greedy, and all completions of a prompt would be the same; give more")
        self._check_rewards()
        self._check_loss()
        if self.value is not None:
            self._check_value()
        self.check_support()
        return self

    def _check_rewards(self) -> None:
        if self.rewards is not NOT_GIVEN and not any(self.reward_weights.values()):
            raise ValueError("rewards has none with a weight; give one at least, for example {accuracy: 1.0}")
        in_reward = self.kl.coef > 0 and self.kl.place == "reward"
        if self.advantage.per_reward and (self.truncated == "zero" or in_reward):
            raise ValueError(
                "advantage.per_reward does not form the sum of the rewards, which truncated: zero limits and kl.place: "
                "reward subtracts from; use truncated: mask and kl.place: loss"
            )
        if in_reward and self.value is None and self.advantage.scale == "group":
            raise ValueError(
                "kl.place is reward, and advantage.scale group would magnify the KL of a group whose other rewards are "
                "equal; use scale batch or none"
            )
        if self.dynamic_sampling is None:
            return
        reward = self.dynamic_sampling.reward
        if reward is None and self.advantage.per_reward:
            raise ValueError(
                "dynamic_sampling.reward is null, the weighted sum, which advantage.per_reward does not use; name one"
            )
        if self.rewards is not NOT_GIVEN and reward not in (None, *self.reward_weights):
            known = ", ".join(self.reward_weights)
            raise ValueError(f"dynamic_sampling.reward is {reward!r}, and rewards has {known}; name one of these")
        if self.group_size == 1:
            raise ValueError("dynamic_sampling compares the samples of a group, and group_size is 1; give 2 or more")

    def _check_loss(self) -> None:
        by_token = self.importance_sampling is not None and self.importance_sampling.level == "token"
        if self.loss.kind == "gspo" and (by_token or self.loss.top_entropy_quantile < 1):
            raise ValueError(
                "loss.kind gspo has one ratio for all tokens of a sequence, so that top_entropy_quantile and "
                "importance_sampling.level token cannot mask or weight a single one; use gspo_token, or level sequence"
            )
        if self.loss.kind == "reinforce" and self.minibatches > 1:
            raise ValueError(f"minibatches {self.minibatches} need a ratio, and loss.kind reinforce has none; set 1")
        if self.importance_sampling is not None and self.old_log_probs == "sampler":
            raise ValueError("importance_sampling needs old log-probs of the trainer; set old_log_probs: trainer")

    def _check_value(self) -> None:
        """With a value model each token has an advantage of its own."""
        if self.off_policy_mask_threshold is not None:
            raise ValueError(
                "off_policy_mask_threshold needs one advantage a sequence; leave it out with a value model"
            )
        if self.advantage.scale == "group":
            raise ValueError("advantage.scale is group, and a value model's advantages have none; use batch or none")
        if self.advantage.baseline != "mean" or self.advantage.per_reward:
            raise ValueError("advantage.baseline and per_reward are about groups; leave them out with a value model")
        if self.loss.kind == "gspo":
            raise ValueError("loss.kind gspo needs one advantage a sequence; use another kind with a value model")


class DistillStage(TrainingStage, SamplingSettings):
    """On-policy distillation: the stage's model samples, and learns at each token what its teacher would write there.

    It needs no rewards. Those with a weight are logged, or without any those of the task.
    """

    program: Literal["distill"]
    teacher: str
    """The model to learn from: the name of an earlier stage; `base`, the config's `model` before any training; or the
    folder of a run or of a Hugging Face model. It has the run's tokenizer, and computes in the student's `dtype`."""
    teacher_mesh: MeshSettings | None = None
    """How the teacher is split over the devices; null: as the student."""
    teacher_top_k: PositiveInt | None = None
    """Compare this many tokens, those of the teacher's highest probability, and all others together; null: compare the
    whole vocabulary."""
    jsd_beta: Share = 1.0
    """Which divergence the loss is: 1 is the reverse KL, from student to teacher; 0 the forward KL; in between GKD's
    generalised Jensen-Shannon divergence."""
    group_size: Size = 1
    """Completions per prompt."""

    @model_validator(mode="after")
    def _check(self) -> DistillStage:
        if self.temperature == 0:
            raise ValueError("temperature 0 is greedy, and a distribution at temperature 0 has no KL; give more")
        self.check_support()
        return self


class RejectStage(Stage, SamplingSettings):
    """Rejection sampling: sample `group_size` completions per prompt, grade them, and keep the good ones as a data set.

    It trains nothing. Later stages name its data as their task, `task: {stage: NAME}`.
    """

    makes_policy: ClassVar[bool] = False
    program: Literal["reject"]
    group_size: Size
    """Completions per prompt."""
    keep: Annotated[dict[str, Weight], Field(min_length=1)] = {"accuracy": 1.0}
    """The least score that a completion needs, by reward. Truncated and ungraded completions are never kept."""
    keep_per_prompt: PositiveInt | None = None
    """Of those, keep at most this many per prompt, the first that were sampled; null: all."""
    code_blocks: bool = True
    """Whether reasoning with a fenced code block is kept; R1's filter drops it."""
    max_paragraph: PositiveInt | None = None
    """Drop completions whose reasoning has a paragraph of more characters than this; null: no limit."""

    @model_validator(mode="after")
    def _check(self) -> RejectStage:
        if self.group_size > 1 and (self.temperature == 0 or self.top_k == 1):
            raise ValueError("temperature 0 and top_k 1 make all completions of a prompt the same; set group_size: 1")
        return self


class RewardModelStage(TrainingStage):
    """A reward model: the model of `init_from` with a linear head, trained on preference pairs or on labels.

    Later stages name it as a reward, `{name: reward_model, stage: NAME}`; no stage begins with its weights.
    """

    makes_policy: ClassVar[bool] = False
    program: Literal["reward_model"]
    reads: Literal["summary", "everything"] = "everything"
    """Whether it reads what follows `</think>` alone, as R1's helpful model, or all of a response, as R1's safety
    model; in training and as a reward."""
    balance_lengths: bool = True
    """Whether, in each step's loss, the pairs whose better response is the longer one weigh as much as the others, so
    that length is not taken for quality."""
    center: NonNegativeFloat = 0.01
    """The factor of (score of the better + score of the worse response)² in the loss of pairs, which keeps scores near
    0 (Eisenstein et al. 2312.09244); a preference alone leaves their level open."""

    @model_validator(mode="after")
    def _check(self) -> RewardModelStage:
        if self.pack_length is not None:
            raise ValueError("pack_length: the responses of a pair are not packed; leave it out")
        return self


StageSettings = Annotated[
    Annotated[SftStage, Tag("<sft>")]
    | Annotated[GrpoStage, Tag("<grpo>")]
    | Annotated[DistillStage, Tag("<distill>")]
    | Annotated[RejectStage, Tag("<reject>")]
    | Annotated[RewardModelStage, Tag("<reward_model>")],
    Discriminator(chosen_by(name="program")),
]


class Config(Shared):
    """One experiment: what its stages share, and the stages, each with all that it takes from the top level."""

    run_dir: str
    """The run's folder: config, metrics, completions and checkpoints. The same command resumes from it."""
    seed: Seed = 0
    """The root of all randomness: weights, data order, samples."""
    tokenizer: str | None = None
    """`characters` (one id per character of the task's alphabet), or where a tokenizer is: a folder, a tokenizer.json,
    a SentencePiece model, or a hub id. Default: the pretrained model's own, else `characters`."""
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(strict=True)] = []
    """Tokens or texts that end a completion, beside the tokenizer's stop tokens and its chat template's turn end."""
    model: ModelSettings
    """The model that training starts from."""
    mesh: MeshSettings = MeshSettings()
    """How the work is split over devices."""
    dollars_per_chip_hour: dict[str, NonNegativeFloat] = {"v5e": 1.2, "v5p": 4.2, "v6e": 2.7}
    """What `r1jax plan` takes a chip to cost, by the kind of TPU; by default list prices on demand of 2025."""
    wandb_project: str | None = None
    """The Weights & Biases project to log to, beside metrics.jsonl and TensorBoard; needs the extra `wandb`."""
    recompilation: Literal["warn", "error"] = "warn"
    """What happens when a program is recompiled after its first step: a warning, or the run stops."""
    completions_every: NonNegativeInt = 10
    """Completions with their rewards are saved every this many steps, by the first process its own; 0: never."""
    keep_checkpoints: PositiveInt = 2
    """Checkpoints that each stage keeps, the last ones; with `keep: best` also the best one."""
    keep_every: NonNegativeInt = 0
    """Beside these, keep those whose step is a multiple of this, where `save_every` saves them; 0: none."""
    decontaminate: Annotated[list[EvaluationSet], Field(strict=True)] = []
    """Evaluation sets: training questions of data sets that share ten words in a row with one of their questions are
    removed: a file, a block as a task's (its test set, else all rows), or `test`, the stages' own test splits."""
    table: dict[str, str] = {}
    """Stages to compare side by side after the last one, by the names that they have in the table, with `base` for the
    model before any training: all are evaluated on the top level's task, as the top level's `evaluate` says."""
    stages: Annotated[list[StageSettings], Field(strict=True)] = []
    """The stages, which run in order."""

    @field_validator("decontaminate", mode="before")
    @classmethod
    def _read_paths(cls, value: Any) -> Any:
        return [*map(evaluation_set, value)] if isinstance(value, list) else value

    @model_validator(mode="before")
    @classmethod
    def _fill_stages(cls, value: Any) -> Any:
        """Gives the stages what they take from the top level, before anything is checked."""
        if not isinstance(value, dict):
            return value
        top = {name: {} for name in (*MERGED, "rewards")} | given(value)
        if isinstance(stages := value.get("stages"), list):
            top["stages"] = [filled(given(stage), top) if isinstance(stage, dict) else stage for stage in stages]
        return top

    @model_validator(mode="after")
    def _check(self) -> Config:
        names = [stage.name for stage in self.stages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two stages are named {twice[0]}; each needs a name of its own")
        for index, stage in enumerate(self.stages):
            where = f"stages.{stage.name}"
            if stage.name == "base":
                raise ValueError(f"{where}: base is the model before any training; give the stage another name")
            if missing := [name for name in Shared.model_fields if getattr(stage, name) is NOT_GIVEN]:
                raise ValueError(
                    f"{where}.{missing[0]}: this key is required and was not given; give it to the stage, or at the "
                    f"top level to all stages"
                )
            earlier = {other.name: other for other in self.stages[:index]}
            for key in ("init_from", "teacher"):
                source = getattr(stage, key, None)
                if source in names[index:]:
                    raise ValueError(
                        f"{where}.{key}: stage {source} does not come before this one; name an earlier stage, base, or "
                        f"a folder"
                    )
                if source in earlier and not earlier[source].makes_policy:
                    raise ValueError(
                        f"{where}.{key}: stage {source} is of program {earlier[source].program} and ends with no model "
                        f"that writes text; name one that does"
                    )
            for reward, model in models_read(stage).items():
                if not isinstance(scorer := earlier.get(model), RewardModelStage):
                    have = ", ".join(n for n, other in earlier.items() if isinstance(other, RewardModelStage)) or "none"
                    raise ValueError(
                        f"{where}.rewards.{reward}: {model!r} is no earlier stage of program reward_model; there are: "
                        f"{have}; define the reward in the stages that come after its model"
                    )
                for key in ("max_prompt_length", "max_completion_length"):
                    if getattr(scorer, key) < getattr(stage, key):
                        raise ValueError(
                            f"{where}.rewards.{reward}: the model of stage {model} reads {getattr(scorer, key)} "
                            f"tokens, and {key} is {getattr(stage, key)} here; raise it in {model}"
                        )
            if isinstance(stage, SftStage) and reads_prompts(stage.task):
                raise ValueError(
                    f"{where}.task: pass_rate chooses prompts without demonstrations, and sft needs some; leave it "
                    f"out, or set program: grpo"
                )
            for name in stages_read(stage.task):
                if not isinstance(earlier.get(name), RejectStage):
                    have = ", ".join(n for n, other in earlier.items() if isinstance(other, RejectStage)) or "none"
                    raise ValueError(
                        f"{where}.task: {name!r} is no earlier stage that makes data; there are: {have}; name one of "
                        f"program reject, or the file of another run as jsonl: RUN_DIR/data/STAGE.jsonl"
                    )
                theirs = earlier[name].reward_definitions
                for reward, mine in stage.reward_definitions.items():
                    weight = {"weight": theirs[reward].weight if reward in theirs else None}
                    if mine.model_copy(update=weight) != theirs.get(reward):
                        raise ValueError(
                            f"{where}.rewards: {reward} is defined here, and the data of stage {name} is graded by the "
                            f"rewards of that stage; define it there, or at the top level for both"
                        )
        needed = ("task", "max_prompt_length", "max_completion_length") if self.table else ()
        if missing := [name for name in needed if getattr(self, name) is NOT_GIVEN]:
            raise ValueError(f"table: stages are compared by the top level's {missing[0]}; give it")
        if self.table and stages_read(self.task):
            raise ValueError("table: the top level's task, which stages are compared on, reads a stage's data")
        for name in self.table.values():
            known = ["base", *(stage.name for stage in self.stages if stage.makes_policy)]
            if name not in known:
                raise ValueError(f"table: {name!r} is no stage that trains a policy; there are {', '.join(known)}")
        return self

    def stage(self, name: str) -> StageSettings:
        """The stage of this name."""
        return next(stage for stage in self.stages if stage.name == name)

    def source(self, name: str) -> str:
        """Where a stage's weights come from: "base", the name of an earlier stage, or a path.

        By default it is the last earlier stage that trains a policy.
        """
        stages = [*itertools.takewhile(lambda stage: stage.name != name, self.stages)]
        before = [stage.name for stage in stages if stage.makes_policy]
        return self.stage(name).init_from or (before[-1] if before else "base")

    def model_owner(self, name: str) -> str | None:
        """The stage whose own `model` a stage has, itself or one that it comes from; None where it is the config's."""
        while name in [stage.name for stage in self.stages]:
            if getattr(self.stage(name), "model", None) is not None:
                return name
            name = self.source(name)
        return None

    def model_of(self, name: str | None) -> ModelSettings:
        """The model of a stage by its name; None is the config's own."""
        owner = None if name is None else self.model_owner(name)
        return self.model if owner is None else getattr(self.stage(owner), "model")  # noqa: B009


def models_read(stage: Stage) -> dict[str, str]:
    """The stages whose reward models a stage has among its rewards, by the rewards' names."""
    parts = stage.task.mixture if isinstance(stage.task, MixtureTask) else []
    definitions = [*stage.reward_definitions.items(), *(item for part in parts for item in part.rewards.items())]
    return {name: reward.stage for name, reward in definitions if isinstance(reward, ModelReward)}
