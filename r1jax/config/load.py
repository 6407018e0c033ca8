"""A config as YAML, in and out, with `key=value` overrides and errors that name the key and its line.

config = load_config("configs/quickstart.yaml", ["seed=1", "stages.rl.steps=20"])
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from r1jax.config.base import ConfigError
from r1jax.config.experiment import MERGED, Config, Shared
from r1jax.config.explain import Override, Source, explain, first_problem, kind_of
from r1jax.config.objective import OF_ONE_KIND

DATA_SETS: dict[str, dict[str, Any]] = {
    "gsm8k": {"tfds": "gsm8k", "question": "question", "answer": "short_answer"},
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file, applies `a.b=value` overrides in order, and checks the result.

    Stages are addressed by name or number: `stages.rl.steps=20`, `stages[1].steps=20`. Raises ConfigError, which names
    the key, its line in the file if it is there, and what was probably meant.
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
        raise ConfigError(f"{path}: need a mapping of settings at the top level, got {kind_of(tree)}")
    return parse_config(tree, overrides, path, root)


def parse_config(
    tree: dict[str, Any], overrides: Sequence[str] = (), path: Path | None = None, root: Any = None
) -> Config:
    """The config of settings as plain dicts and lists; its `path` and the YAML nodes, `root`, serve error messages."""
    import yaml

    given = [_apply(tree, override) for override in overrides]
    presets = _use_presets(tree, path)
    try:
        return Config.model_validate(tree, context={"config_folder": path.parent} if path else None)
    except ValidationError as error:
        source, keys = Source(path, root), first_problem(error)["loc"]
        if len(keys) > 3 and keys[0] == "stages" and keys[3] in presets.get(int(keys[1]), (None, ()))[1]:
            preset = presets[int(keys[1])][0]
            source = Source(preset, yaml.compose(preset.read_text(), Loader=yaml.SafeLoader), below=keys[:2])
        raise ConfigError(explain(error, tree, source, given)) from None


def _use_presets(tree: dict[str, Any], file: Path | None) -> dict[int, tuple[Path, set[str]]]:
    """Puts the settings of the file that a stage names as its `preset` under those of the stage.

    If the stage's loss is of another kind, the file's `OF_ONE_KIND` are left out. Paths are relative to the working
    directory, or else to the config's folder. Returns, by the stage's number, the file and the keys that it alone gave.
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
            raise ConfigError(f"{where}: {path} is not a mapping of a stage's settings: {what}") from None
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
    """The resolved settings as YAML, from which `load_config` reads the same config."""
    import yaml

    tree = settings_tree(config)
    return yaml.safe_dump(_own_first(tree) | {"stages": [*map(_own_first, tree["stages"])]}, sort_keys=False)


def settings_tree(config: Config) -> dict[str, Any]:
    """The settings as plain dicts and lists, from which `parse_config` makes the same config, or one with overrides.

    A stage has only those of the shared settings that it was given, and of a block that is merged with the top level's
    only what differs from it.
    """
    tree = config.model_dump()
    for stage in tree["stages"]:
        for name in Shared.model_fields:
            if stage[name] is None:
                del stage[name]
            elif name in MERGED:
                stage[name] = {key: value for key, value in stage[name].items() if value != tree[name][key]}
    return tree


def _own_first(block: dict[str, Any]) -> dict[str, Any]:
    """A block that begins with what it is called, and ends with what stages and the top level share."""
    called = ("name", "program", "run_dir")
    return {key: block[key] for key in sorted(block, key=lambda key: (key not in called, key in Shared.model_fields))}


def _apply(tree: dict[str, Any], override: str) -> Override:
    """Sets one `a.b=value` in the raw tree; the value is read as YAML."""
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
    typed = re.findall(r"\.?[^.\[\]]+|\[\d+\]", key)
    if "".join(typed) != key or key.startswith("."):
        raise ConfigError(f"command line: {key}: a key is written a.b, stages.NAME.b or stages[0].b")
    node: Any = tree
    keys: list[Any] = []
    for depth, part in enumerate(typed, start=1):
        if depth > 1:
            if isinstance(node, dict) and node.get(keys[-1]) is None:
                node[keys[-1]] = {}
            node = node[keys[-1]]
        keys.append(_entry(node, part.strip(".[]"), "".join(typed[:depth]), "".join(typed[: depth - 1])))
    node[keys[-1]] = parsed["v"]
    return Override(typed, keys)


def _entry(node: Any, part: str, key: str, above: str) -> Any:
    """The dict key or list index that `part` of an override names in `node`."""
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise ConfigError(f"{key}: there is nothing below {above}, which is {kind_of(node)}")
    names = [str(item.get("name")) if isinstance(item, dict) else "" for item in node]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(node):
        return int(part)
    raise ConfigError(f"{key}: no entry {part!r}; there are {', '.join(names)} (or 0 to {len(node) - 1})")
