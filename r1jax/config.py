"""The tree of settings: frozen pydantic models, read from one YAML file with `key=value` overrides.

    config = load_config("configs/quickstart.yaml", ["seed=1", "stages.rl.steps=20"])

Every setting is declared here, with its default and its check; a key that is not declared is an error.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ConfigError(ValueError):
    """The user's settings cannot be used; the message is one line that says what came, what is needed, what to do."""


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class ArithmeticTask(Settings):
    """Addition and subtraction of whole numbers; `direct_share` of the worked examples answer without steps."""

    name: Literal["arithmetic"]
    min_digits: PositiveInt = 1
    max_digits: PositiveInt = 3
    operators: Literal["+", "-", "+-"] = "+"
    direct_share: Share = 0.5

    @model_validator(mode="after")
    def _check(self) -> ArithmeticTask:
        if self.min_digits > self.max_digits:
            raise ValueError(f"min_digits {self.min_digits} is above max_digits {self.max_digits}")
        return self


class CountdownTask(Settings):
    """Reach a target from given numbers with + - * /, each number used once."""

    name: Literal["countdown"]
    numbers: Annotated[int, Field(ge=2, le=6)] = 3
    max_number: Annotated[int, Field(ge=2)] = 25
    direct_share: Share = 0.5


class TokenizerSettings(Settings):
    """`characters` builds the vocabulary from the task's alphabet; the other kinds read `path`."""

    kind: Literal["characters", "huggingface", "sentencepiece"] = "characters"
    path: str | None = None

    @model_validator(mode="after")
    def _check(self) -> TokenizerSettings:
        if self.kind != "characters" and self.path is None:
            raise ValueError(f"kind {self.kind} needs a path to its file or folder")
        return self


class ModelConfig(Settings):
    """A decoder of the Llama (no biases), Qwen2 (qkv_bias) or Qwen3 (qk_norm) family; names as in Hugging Face."""

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    rms_norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    qkv_bias: bool = False
    qk_norm: bool = False
    tie_word_embeddings: bool = True
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Literal["none", "dots", "full"] = "none"

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary embeddings need pairs")
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
    """AdamW after clipping by the global norm; the rate warms up, then stays or falls to `final_share` of itself."""

    learning_rate: Annotated[float, Field(gt=0)]
    warmup_updates: NonNegativeInt = 0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    final_share: Share = 0.1
    b1: Share = 0.9
    b2: Share = 0.95
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class EvaluateConfig(Settings):
    """Held-out `problems`, each answered `samples` times at `temperature` (0 is greedy)."""

    problems: PositiveInt = 512
    samples: PositiveInt = 1
    temperature: NonNegativeFloat = 1.0


class LogConfig(Settings):
    """Beside the console and metrics.jsonl; every `completions_every` steps the first process keeps its completions."""

    tensorboard: bool = True
    wandb_project: str | None = None
    completions_every: NonNegativeInt = 10


class Stage(Settings):
    """What every training program has; `eval_every` and `save_every` count steps, 0 means only at the end."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    steps: PositiveInt
    prompts_per_step: PositiveInt
    microbatch: PositiveInt | None = None
    optimizer: OptimizerConfig
    eval_every: NonNegativeInt = 0
    save_every: NonNegativeInt = 0


class SftStage(Stage):
    """Supervised fine-tuning on the task's worked examples."""

    program: Literal["sft"]


class GrpoStage(Stage):
    """GRPO: `prompts_per_step` × `group_size` completions a rollout, `minibatches` updates a rollout."""

    program: Literal["grpo"]
    group_size: Annotated[int, Field(ge=2)]
    minibatches: PositiveInt = 1
    temperature: Annotated[float, Field(gt=0)] = 1.0
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip_high: Annotated[float, Field(gt=0)] = 0.2
    kl_coef: NonNegativeFloat = 0.0
    rewards: dict[str, float]

    @model_validator(mode="after")
    def _check(self) -> GrpoStage:
        if not self.rewards:
            raise ValueError("rewards is empty; name at least one, for example {accuracy: 1.0}")
        rollout = self.prompts_per_step * self.group_size
        if rollout % self.minibatches:
            raise ValueError(
                f"prompts_per_step × group_size = {rollout} completions cannot be split into "
                f"{self.minibatches} minibatches of equal size"
            )
        return self


class Config(Settings):
    """One experiment: shared settings and the stages that run in order."""

    run_dir: str
    seed: NonNegativeInt = 0
    task: Annotated[ArithmeticTask | CountdownTask, Field(discriminator="name")]
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelConfig
    mesh: MeshConfig = MeshConfig()
    max_prompt_length: PositiveInt
    max_completion_length: PositiveInt
    evaluate: EvaluateConfig = EvaluateConfig()
    log: LogConfig = LogConfig()
    keep_checkpoints: PositiveInt = 2
    stages: Annotated[
        list[Annotated[SftStage | GrpoStage, Field(discriminator="program")]], Field(min_length=1, strict=True)
    ]

    @model_validator(mode="after")
    def _check(self) -> Config:
        names = [stage.name for stage in self.stages]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two stages are named {twice[0]}; each needs a name of its own")
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file, applies `a.b=value` overrides in order, and checks the whole.

    Stages are addressed by name or index: `stages.rl.steps=20`. Raises ConfigError naming the key, its line in the
    file where it has one, and the nearest valid name.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file; see configs/ for those that come with r1jax")
    text = path.read_text()
    try:
        tree: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"{path}: need a mapping of settings at the top level, got {_kind(tree)}")
    for override in overrides:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, tree, path, root)) from None


def dump_config(config: Config) -> str:
    """The resolved settings as YAML, readable by `load_config`."""
    import yaml

    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def _apply(tree: dict[str, Any], override: str) -> None:
    """Sets one `a.b=value` in the raw tree; the value is read as YAML."""
    from omegaconf import OmegaConf

    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r}: an override is written key=value, for example seed=1")
    *parents, last = key.split(".")
    node: Any = tree
    for depth, part in enumerate(parents):
        if isinstance(node, dict) and part not in node:
            node[part] = {}
        node = node[_entry(node, part, ".".join(parents[: depth + 1]))]
    node[_entry(node, last, key)] = OmegaConf.to_container(OmegaConf.from_dotlist([f"v={value}"]))["v"]  # type: ignore


def _entry(node: Any, part: str, key: str) -> Any:
    """The dict key or list index that `part` of an override names in `node`."""
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise ConfigError(f"{key}: there is nothing below {key.rpartition('.')[0]}, which is {_kind(node)}")
    names = [str(item.get("name")) if isinstance(item, dict) else "" for item in node]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(node):
        return int(part)
    raise ConfigError(f"{key}: no entry {part!r}; there are {', '.join(names)} (or 0 to {len(node) - 1})")


def _explain(error: ValidationError, tree: dict[str, Any], path: Path, root: Any) -> str:
    """The first problem of a pydantic error as one line: file:line: key: what is wrong and what would be right."""
    problems = error.errors(include_url=False)
    problem: Any = problems[0]
    keys, models = _walk(problem["loc"], tree)
    kind, value = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        names = sorted(models[-1].model_fields) if models else []
        near = difflib.get_close_matches(str(keys[-1]), names, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys here: {', '.join(names)}"
        message = f"unknown key; {hint}"
    elif kind == "missing":
        message = "this key is required and was not given"
    elif kind == "union_tag_not_found":
        tag = problem["ctx"]["discriminator"].strip("'")
        keys, message = [*keys, tag], f"this key is required; give one of {_tags(models, keys)}"
    elif kind == "union_tag_invalid":
        context = problem["ctx"]
        near = difflib.get_close_matches(context["tag"], context["expected_tags"].replace("'", "").split(", "), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        keys = [*keys, context["discriminator"].strip("'")]
        message = f"got {context['tag']!r}, need one of {context['expected_tags']}{hint}"
    elif kind == "value_error":
        message = str(problem["ctx"]["error"])
    else:
        message = f"got {value!r} ({_kind(value)}); {problem['msg'][0].lower()}{problem['msg'][1:]}"
    line = _line(root, keys)
    where = f"{path}:{line}" if line else str(path)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {'.'.join(map(str, keys)) + ': ' if keys else ''}{message}{more}"


def _walk(loc: Sequence[Any], tree: Any) -> tuple[list[Any], list[type[BaseModel]]]:
    """Follows a pydantic location; returns its keys without union tags, and the models passed on the way."""
    keys: list[Any] = []
    models: list[type[BaseModel]] = [Config]
    options: list[Any] = []
    for part in loc:
        tagged = [m for m in options if _tag(m) == part]
        if tagged:  # pydantic writes the tag of a discriminated union into the location
            models.append(tagged[0])
            options = []
            continue
        keys.append(part)
        if isinstance(part, int):
            continue
        field = models[-1].model_fields.get(part)
        options = _models(field.annotation) if field else []
        if len(options) == 1:
            models.append(options[0])
    return keys, models


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes that an annotation mentions."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]


def _tag(model: type[BaseModel]) -> str | None:
    """The literal by which a discriminated union picks `model`: its program or its name."""
    for name in ("program", "name"):
        field = model.model_fields.get(name)
        if field is not None and typing.get_origin(field.annotation) is Literal:
            return typing.get_args(field.annotation)[0]
    return None


def _tags(models: list[type[BaseModel]], keys: list[Any]) -> str:
    field = models[-1].model_fields[next(key for key in keys if isinstance(key, str))]
    return ", ".join(str(_tag(model)) for model in _models(field.annotation))


def _line(node: Any, keys: Sequence[Any]) -> int | None:
    """The file's line (from 1) of the deepest of `keys` that the YAML has; None where an override made it."""
    line = None
    for key in keys:
        entries = getattr(node, "value", None)
        if isinstance(key, int) and isinstance(entries, list) and key < len(entries):
            node = entries[key]
            line = node.start_mark.line + 1
            continue
        if not isinstance(entries, list):
            break
        found = [pair for pair in entries if isinstance(pair, tuple) and pair[0].value == key]
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
