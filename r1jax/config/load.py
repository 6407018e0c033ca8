"""A config as YAML, in and out, with `key=value` overrides and errors that name the key and its line.

config = load_config("configs/quickstart.yaml", ["seed=1", "stages.rl.steps=20"])
"""

from __future__ import annotations

import difflib
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo

from r1jax.config.base import ConfigError
from r1jax.config.experiment import Config
from r1jax.config.objective import OF_ONE_KIND

DATA_SETS: dict[str, dict[str, Any]] = {
    "gsm8k": {"tfds": "gsm8k", "question": "question", "answer": "short_answer"},
}


def load_config(
    path: str | Path, overrides: Sequence[str] = (), replaced: Mapping[str, Any] = types.MappingProxyType({})
) -> Config:
    """Reads a YAML file, replaces whole blocks, applies `a.b=value` overrides in order, and checks the result.

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
    return parse_config({**tree, **replaced}, overrides, path, root)


def parse_config(
    tree: dict[str, Any], overrides: Sequence[str] = (), path: Path | None = None, root: Any = None
) -> Config:
    """Settings as plain dicts and lists → Config; `path` and its YAML nodes, `root`, are for errors."""
    import yaml

    given = [_apply(tree, override) for override in overrides]
    presets = _use_presets(tree, path)
    try:
        return Config.model_validate(tree, context={"config_folder": path.parent} if path else None)
    except ValidationError as error:
        keys, above = error.errors()[0]["loc"], 0
        if len(keys) > 3 and keys[0] == "stages" and keys[3] in presets.get(int(keys[1]), (None, ()))[1]:
            path, above = presets[int(keys[1])][0], 2  # the file begins below stages and the stage
            root = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
        raise ConfigError(_explain(error, tree, path, root, given, above)) from None


def _use_presets(tree: dict[str, Any], file: Path | None) -> dict[int, tuple[Path, set[str]]]:
    """Puts the settings of the file that a stage names as its `preset` under its own.

    Where its own loss is of another kind, the file's `OF_ONE_KIND` are left out. Paths are the working directory's, or
    else the config's folder's. Returns, by the stage's number, the file and which keys only it gave.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    stages: Any = tree.get("stages")
    used: dict[int, tuple[Path, set[str]]] = {}
    for i, stage in enumerate(stages if isinstance(stages, list) else []):
        preset = stage.pop("preset", None) if isinstance(stage, dict) else None
        if preset is None:
            continue
        path, where = Path(str(preset)), f"stages.{stage.get('name', i)}.preset"
        if not path.exists() and file is not None:
            path = file.parent / path
        if path.is_dir():
            raise ConfigError(f"{where}: {preset} is a folder; name one of the files in it")
        if not path.is_file():
            raise ConfigError(
                f"{where}: no such file: {preset}; see configs/objectives/ for those that come with r1jax"
            )
        try:
            settings: Any = OmegaConf.create(path.read_text())
            if isinstance(settings, DictConfig) and "preset" in settings:
                raise TypeError("it names a preset itself")
            if not settings or any(not isinstance(key, str) or value is None for key, value in settings.items()):
                raise TypeError("it is empty, or has no values")
            loss, own = settings.get("loss"), stage.get("loss")
            if loss and isinstance(own, dict) and own.get("kind", loss.get("kind")) != loss.get("kind"):
                settings["loss"] = {k: v for k, v in loss.items() if k not in ("kind", *OF_ONE_KIND)}
            stages[i] = OmegaConf.to_container(OmegaConf.merge(settings, stage), resolve=True)
        except (YAMLError, OmegaConfBaseException, TypeError, ValueError, AttributeError, AssertionError) as error:
            what = " ".join(str(error).split())[:200] or "it is a single value"
            raise ConfigError(f"{where}: {path} is no mapping of a stage's settings: {what}") from None
        used[i] = path, {key for key in stages[i] if key not in stage}
    return used


def parse_task(text: str) -> dict[str, Any]:
    """A task block from the command line: the name of a well-known data set, a mapping in YAML, or a file of one."""
    import yaml

    if text in DATA_SETS:
        return DATA_SETS[text]
    source = Path(text).read_text() if os.path.isfile(text) else text
    try:
        tree = yaml.safe_load(source)
    except yaml.YAMLError:
        tree = None
    if not isinstance(tree, dict):
        raise ConfigError(
            f"--task: got {text!r}, need {', '.join(DATA_SETS)}, a block such as '{{jsonl: FILE}}', or a file of one"
        )
    return tree


def dump_config(config: Config) -> str:
    """The resolved settings as YAML, readable by `load_config`."""
    import yaml

    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def _apply(tree: dict[str, Any], override: str) -> list[Any]:
    """Sets one `a.b=value` in the raw tree and returns its keys; the value is read as YAML."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r}: an override is written key=value, for example seed=1")
    try:
        parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"v={value}"]))
    except (yaml.YAMLError, OmegaConfBaseException):
        raise ConfigError(f"command line: {key}: {value!r} is not valid YAML; text goes in quotes") from None
    *parents, last = key.split(".")
    node: Any = tree
    keys: list[Any] = []
    for depth, part in enumerate(parents):
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        keys.append(_entry(node, part, ".".join(parents[: depth + 1])))
        node = node[keys[-1]]
    keys.append(_entry(node, last, key))
    node[keys[-1]] = parsed["v"]
    return keys


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


def _explain(
    error: ValidationError,
    tree: dict[str, Any],
    path: Path | None,
    root: Any,
    given: Sequence[Sequence[Any]],
    above: int,
) -> str:
    """The first problem of a pydantic error as one line: file:line: key: what is wrong and what would be right.

    `root` is the YAML of `path`, which begins below the first `above` of the keys.
    """
    problems = error.errors(include_url=False)
    # A key that is missing is often one that was misspelt.
    problem: Any = next((problem for problem in problems if problem["type"] != "missing"), problems[0])
    keys, models = _walk(problem["loc"], tree)
    kind, value = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        names = sorted(models[-1].model_fields) if models else []
        if keys[0] == "stages" and len(keys) == 3:
            names = sorted([*names, "preset"])
        near = difflib.get_close_matches(str(keys[-1]), names, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys here: {', '.join(names)}"
        message = f"unknown key; {hint}"
    elif kind == "missing":
        message = "this key is required and was not given"
    elif kind == "union_tag_not_found":
        name = problem["ctx"]["discriminator"]
        tags = ", ".join(map(str, _options(models[-1].model_fields[next(k for k in keys if isinstance(k, str))])))
        if name.endswith("()"):  # chosen by a function, here always among tasks
            message = f"no task is named; give one of {tags}, such as {{name: arithmetic}} or {{jsonl: FILE}}"
        else:
            keys, message = [*keys, name.strip("'")], f"this key is required; give one of {tags}"
    elif kind == "union_tag_invalid":
        context = problem["ctx"]
        near = difflib.get_close_matches(context["tag"], context["expected_tags"].replace("'", "").split(", "), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        name = context["discriminator"].strip("'")
        keys = [*keys, "name" if name.endswith("()") else name]
        message = f"got {context['tag']!r}, need one of {context['expected_tags']}{hint}"
    elif kind == "value_error":
        message = str(problem["ctx"]["error"])
    elif kind == "model_type" and len(models) > 1:
        message = f"got {value!r} ({_kind(value)}); need a mapping with some of {', '.join(models[-1].model_fields)}"
    else:
        message = f"got {value!r} ({_kind(value)}); {problem['msg'][0].lower()}{problem['msg'][1:]}"
    # What is wrong between several keys begins with the one to look at.
    at = [*keys, *message.split()[0].split(".")] if kind == "value_error" else keys
    line, in_file = _line(root, at[above:])

    def blames(override: Sequence[Any]) -> bool:
        if at[: len(override)] == override or (override[: len(at)] == at and (at != keys or not in_file)):
            return True
        own = override[: len(keys)] == keys and any(str(key) in message for key in override[len(keys) :])
        return kind == "value_error" and not in_file and own

    if any(map(blames, given)):
        where = "command line: "
    else:
        where = "" if path is None else f"{path}:{line}: " if line else f"{path}: "
    keys = [_stage_name(tree, key) if i == 1 and keys[0] == "stages" else key for i, key in enumerate(keys)]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}{'.'.join(map(str, keys)) + ': ' if keys else ''}{message}{more}"


def _stage_name(tree: dict[str, Any], number: int) -> Any:
    """Stages are named by their users; one without a name keeps its number."""
    stage = tree["stages"][number]
    return stage.get("name", number) if isinstance(stage, dict) else number


def _walk(loc: Sequence[Any], tree: Any) -> tuple[list[Any], list[type[BaseModel]]]:
    """Follows a pydantic location; returns its keys without union tags, and the models passed on the way."""
    keys: list[Any] = []
    models: list[type[BaseModel]] = [Config]
    options: dict[str | None, type[BaseModel]] = {}
    for part in loc:
        if part in options:  # pydantic writes the tag of a discriminated union into the location
            models.append(options[part])
            options = {}
            continue
        keys.append(part)
        if isinstance(part, int):
            continue
        field = models[-1].model_fields.get(part)
        options = _options(field) if field else {}
        if len(options) == 1:
            models.append(next(iter(options.values())))
    return keys, models


def _options(annotation: Any, tag: str | None = None) -> dict[str | None, type[BaseModel]]:
    """The settings classes that a field or annotation allows, by the tag that picks each one of a union."""
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return {tag or _literal(annotation): annotation} if issubclass(annotation, BaseModel) else {}
    named = [extra.tag for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, Tag)]
    arguments = typing.get_args(annotation)
    return {k: m for argument in arguments for k, m in _options(argument, *named).items()}


def _literal(model: type[BaseModel]) -> str | None:
    """The program by which the union of stages picks `model`."""
    field = model.model_fields.get("program")
    return typing.get_args(field.annotation)[0] if field else None


def _line(node: Any, keys: Sequence[Any]) -> tuple[int | None, bool]:
    """The file's line (from 1) of the deepest of `keys` that the YAML has, None of none; whether it has them all."""
    line = None
    for key in keys:
        entries = getattr(node, "value", None)
        if isinstance(key, int) and isinstance(entries, list) and key < len(entries):
            node = entries[key]
            line = node.start_mark.line + 1
            continue
        if not isinstance(entries, list):
            return line, False
        found = [pair for pair in entries if isinstance(pair, tuple) and pair[0].value == key]
        if not found:
            return line, False
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line, True


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
