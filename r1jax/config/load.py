"""A config as YAML, in and out, with `key=value` overrides and errors that name the key and its line.

config = load_config("configs/quickstart.yaml", ["seed=1", "stages.rl.steps=20"])
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from r1jax.config.base import ConfigError, kind_of
from r1jax.config.experiment import Config
from r1jax.config.explain import explain, named
from r1jax.config.objective import OF_ONE_KIND
from r1jax.config.paths import expand, expand_paths
from r1jax.config.shared import MERGED, Shared

_TEXT = "\ue000"  # stands for the "${" of an override while OmegaConf, which would take it for a reference, reads it


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file, applies `a.b=value` overrides in order, and checks the result.

    Stages are addressed by name or number: `stages.rl.steps=20`, `stages[1].steps=20`. Raises ConfigError, which names
    the key, its line in the file if it is there, and what was probably meant.
    """
    path = Path(expand("config", str(path)))
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file; see configs/ for those that come with r1jax")
    return parse_config(_read(path), overrides, path)


def parse_config(tree: dict[str, Any], overrides: Sequence[str] = (), path: Path | None = None) -> Config:
    """The config of settings as plain dicts and lists, which are those of the file `path` if there is one.

    `${references}` are resolved in files alone, when they are read; here and in overrides they are text.
    """
    tree = copy.deepcopy(tree)
    given = []
    for override in overrides:
        _spell_out(tree)
        given.append(_apply(tree, override))
    _spell_out(tree)
    files = [*([] if path is None else [(path, [])]), *_use_presets(tree, path)]
    tree = expand_paths(tree)
    try:
        return Config.model_validate(tree, context={"config_folder": path.parent} if path else None)
    except ValidationError as error:
        raise ConfigError(explain(error, tree, files, [named(tree, keys) for keys in given])) from None


def _read(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, with `${references}` resolved."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_nodes(root, lambda line: f"{path}:{line}")
        if not isinstance(root, yaml.MappingNode):
            got = "an empty file" if root is None else "a list" if root.tag.endswith(":seq") else f"{root.value!r:.40}"
            raise ConfigError(f"{path}: need a mapping of settings, got {got}")
        tree: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{path}{f':{mark.line + 1}' if mark else ''}: not valid YAML: {_problem(error)}") from None
    except OmegaConfBaseException as error:
        hint = "${KEY} is another key's value, ${oc.env:NAME} an environment variable, and \\${ the text"
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}; {hint}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply to be a config") from None
    return tree


def _check_nodes(node: yaml.Node | None, where: Callable[[int], str]) -> None:
    """Refuses what YAML reads otherwise than it looks: `010`, which is 8, `1:30`, which is 90, keys like `1`, and LaTeX
    in double quotes, where `\\b` and `\\f` are control characters."""
    seen, left = set[int](), [node]
    while left:
        node = left.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if not key.tag.endswith((":str", ":merge")):
                    line = where(key.start_mark.line + 1)
                    raise ConfigError(f"{line}: the key {key.value!r:.40} is not a string; put it in quotes")
                left.append(value)
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
        elif node.tag.endswith((":int", ":float")) and re.fullmatch(r"[-+]?0[0-9_]+|.*:.*", node.value):
            line = where(node.start_mark.line + 1)
            raise ConfigError(f"{line}: {node.value} is not decimal in YAML; leave out leading zeros, or quote it")
        elif control := re.search(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|\t(?=[a-z])", node.value):
            found = repr(control[0] + node.value[control.end() :][:8])
            raise ConfigError(
                f"{where(node.start_mark.line + 1)}: the text has the control character at the start of {found}, which "
                f"a backslash makes in double quotes; put the text in single quotes"
            )


def _problem(error: yaml.YAMLError) -> str:
    return " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", error)).split())


def _use_presets(tree: dict[str, Any], file: Path | None) -> list[tuple[Path, list[Any]]]:
    """Puts the settings of the file that a stage names as its `preset` under those of the stage.

    If the stage's loss is of another kind, the file's `OF_ONE_KIND` are left out. Paths are relative to the working
    directory, or else to the config's folder. Returns each file with the keys of its stage.
    """
    stages, used = tree.get("stages"), []
    for i, stage in enumerate(stages if isinstance(stages, list) else ()):
        preset = stage.pop("preset", None) if isinstance(stage, dict) else None
        if preset is None:
            continue
        path = Path(expand("preset", str(preset)))
        if file is not None and not path.exists():
            path = file.parent / path
        if not path.is_file():
            raise ConfigError(
                f"stages.{stage.get('name', i)}.preset: no such file: {preset}; see configs/objectives/ for those that "
                f"come with r1jax"
            )
        settings = _read(path)
        if "preset" in settings:
            raise ConfigError(f"{path}: it names a preset itself; put that file's settings into this one")
        loss, own = settings.get("loss"), stage.get("loss")
        if isinstance(loss, dict) and isinstance(own, dict) and own.get("kind", loss.get("kind")) != loss.get("kind"):
            settings["loss"] = {key: value for key, value in loss.items() if key not in ("kind", *OF_ONE_KIND)}
        tree["stages"][i] = _merged(settings, stage)
        used.append((path, named(tree, ["stages", i])))
    return used


def _spell_out(tree: dict[str, Any]) -> None:
    """Makes a block of `mesh: auto`, beside which an override may set `mesh.distributed`."""
    if tree.get("mesh") == "auto":
        tree["mesh"] = {"auto": True}


def _apply(tree: dict[str, Any], override: str) -> list[Any]:
    """Sets one `a.b=value`, of which the value is YAML; returns the keys, in which a stage goes by its number."""
    typed, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[^.\[\]]+(\.[^.\[\]]+|\[\d+\])*", typed):
        raise ConfigError(f"{override!r}: an override is written key=value, as in seed=1 or stages.rl.steps=20")
    try:
        _check_nodes(yaml.compose(text, Loader=yaml.SafeLoader), lambda _: f"command line: {typed}")
        value: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"v={text.replace('${', _TEXT)}"]))
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError):
        raise ConfigError(f"command line: {typed}: {text!r:.200} is not valid YAML; text goes in quotes") from None
    node: Any = tree
    keys: list[Any] = []
    for part in re.findall(r"[^.\[\]]+", typed):
        if keys:  # go down
            if isinstance(node, dict) and node.get(keys[-1]) is None:
                node[keys[-1]] = {}
            node = node[keys[-1]]
        keys.append(_entry(node, part, typed))
    node[keys[-1]] = _with_texts(value["v"], lambda text: text.replace(_TEXT, "${"), keys=True)
    return keys


def _merged(below: Any, above: Any) -> Any:
    """A block over another, key by key."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merged(below.get(key), value) for key, value in above.items()}


def _with_texts(node: Any, change: Callable[[str], str], *, keys: bool) -> Any:
    """Plain dicts and lists with every text in them changed, and with `keys` the keys too."""
    if isinstance(node, dict):
        return {change(k) if keys else k: _with_texts(value, change, keys=keys) for k, value in node.items()}
    if isinstance(node, list):
        return [_with_texts(entry, change, keys=keys) for entry in node]
    return change(node) if isinstance(node, str) else node


def _entry(node: Any, part: str, typed: str) -> Any:
    """The key of a mapping or the number in a list that a part of an override names."""
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise ConfigError(f"command line: {typed}: there is nothing called {part} in {kind_of(node)}")
    names = [str(entry.get("name")) if isinstance(entry, dict) else "" for entry in node]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(node):
        return int(part)
    raise ConfigError(
        f"command line: {typed}: no entry {part!r}; there are {', '.join(names)} (or 0 to {len(node) - 1})"
    )


def dump_config(config: Config) -> str:
    """The resolved settings as YAML, from which `load_config` reads the same config."""
    tree = settings_tree(config)
    tree = _own_first(tree) | {"stages": [*map(_own_first, tree["stages"])]}
    escaped = _with_texts(tree, lambda text: re.sub(r"(\\*)\$\{", r"\1\1\\${", text), keys=False)
    return OmegaConf.to_yaml(OmegaConf.create(escaped))


def settings_tree(config: Config) -> dict[str, Any]:
    """The settings as plain dicts and lists, from which `parse_config` makes the same config, or one with overrides.

    A stage has only those of the shared settings that differ from the top level's: an override there reaches it.
    """
    tree = config.model_dump()
    for stage in tree["stages"]:
        for name in Shared.model_fields:
            if stage[name] == tree[name]:
                del stage[name]
            elif name in MERGED:
                stage[name] = {key: value for key, value in stage[name].items() if value != tree[name][key]}
    return tree


def _own_first(block: dict[str, Any]) -> dict[str, Any]:
    """A block that begins with what it is called, and ends with what stages and the top level share."""
    called = ("name", "program", "run_dir")
    return {key: block[key] for key in sorted(block, key=lambda key: (key not in called, key in Shared.model_fields))}
