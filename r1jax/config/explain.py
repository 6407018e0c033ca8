"""The first problem that pydantic found in a config, as one line: where it is, what was given, what is needed or meant.

ConfigError(explain(error, tree, files, overrides))
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from r1jax.config.base import Settings, kind_of
from r1jax.config.equivalents import EQUIVALENTS
from r1jax.config.experiment import Config, DistillStage, GrpoStage, RejectStage, RewardModelStage, SftStage
from r1jax.config.rewards import ModelReward

CLOSE, NEAR = 0.8, 0.6  # similarities: surely a slip of the keyboard, and perhaps one
MOST_PLACES = 3  # that are named
REWARDS = "{accuracy: 1.0, own: {function: FILE.py:NAME}}"
STAGES = (SftStage, GrpoStage, DistillStage, RejectStage, RewardModelStage)


def explain(
    error: ValidationError,
    tree: dict[str, Any],
    files: Sequence[tuple[Path, Sequence[Any]]],
    overrides: Sequence[Sequence[Any]],
) -> str:
    """The first problem as one line: file:line: key: what is wrong and what would be right.

    `files` are the config and its presets, each with the keys below which its settings are. `overrides` are the keys
    that the command line gave.
    """
    problem = error.errors(include_url=False)[0]
    location = [key for key in problem["loc"] if not str(key).startswith("<")]  # without tags, see `chosen_by`
    keys, message = _message(problem, location)
    stage, keys = _stage(tree, keys), named(tree, keys)
    if stage.get("program") == "grpo":  # it may have all that a message says of stages.NAME
        message = message.replace("stages.NAME", f"stages.{keys[1]}")
    text = f"{'.'.join(map(str, keys))}: {message}" if keys else message
    # What is wrong between several keys begins with the one to look at.
    at = [*keys, *message.split()[0].rstrip(":").split(".")] if problem["type"] == "value_error" else keys
    if any(all(a == b for a, b in zip(given, at, strict=False)) for given in overrides):
        return f"command line: {text}"
    lines = [(file, *_line(file, at[len(below) :])) for file, below in files if at[: len(below)] == below]
    if not lines:
        return text
    file, line, _ = max(lines, key=lambda found: found[2])  # the first file that has all the keys, else the config
    return f"{file}:{line}: {text}" if line else f"{file}: {text}"


def named(tree: dict[str, Any], keys: Sequence[Any]) -> list[Any]:
    """Keys in which a stage goes by its name, if it has one."""
    name = _stage(tree, keys).get("name")
    return [keys[0], name, *keys[2:]] if name and isinstance(name, str) else [*keys]


def _stage(tree: dict[str, Any], keys: Sequence[Any]) -> dict[str, Any]:
    """The stage that the keys are in, as it was written; of other keys nothing."""
    stage = tree["stages"][keys[1]] if len(keys) > 1 and keys[0] == "stages" else {}
    return stage if isinstance(stage, dict) else {}


def _line(file: Path, keys: Sequence[Any]) -> tuple[int, bool]:
    """The line (from 1) of the deepest of `keys` that a YAML file has, 0 for none of them; and whether it has all."""
    node, line = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), 0
    for key in keys:
        found = []
        if isinstance(node, yaml.MappingNode):
            found = [pair for pair in node.value if pair[0].value == key]
        elif isinstance(node, yaml.SequenceNode):
            found = [(entry, entry) for i, entry in enumerate(node.value) if key in (i, _name(entry))]
        if not found:
            return line, False
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line, True


def _name(entry: Any) -> str | None:
    pairs = entry.value if isinstance(entry, yaml.MappingNode) else []
    return next((value.value for key, value in pairs if key.value == "name"), None)


def _message(problem: Any, keys: list[Any]) -> tuple[list[Any], str]:
    """The keys that a problem is about, and the text of the message."""
    value, context = problem["input"], problem.get("ctx", {})
    match problem["type"]:
        case "unknown_key":
            return [*keys, context["key"]], f"unknown key; {what_is_meant(**context)}"
        case "missing":
            return keys, "this key is required and was not given"
        case "union_tag_invalid":
            tag, tags = context["tag"][1:-1], re.findall(r"<(\w+)>", context["expected_tags"])
            if not isinstance(value, dict):
                got = f"got {value!r:.200} ({kind_of(value)})"
                return keys, f"{got}; need a mapping that names one of {', '.join(tags)}"
            near = difflib.get_close_matches(tag, tags, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            if keys[:-1] == ["stages"] or tag:
                keys = [*keys, "program" if keys[:-1] == ["stages"] else "name"]
                return keys, f"{f'got {tag!r}' if tag else 'this key is required'}; need one of {', '.join(tags)}{hint}"
            example = "{jsonl: FILE}" if keys[-1] == "task" else "{function: FILE.py:NAME}"
            return keys, f"nothing is named; need one of {', '.join(tags)}, as in {{name: {tags[1]}}} or {example}"
        case "value_error":
            return keys, str(context["error"])
    if "rewards" in keys[-2:] and problem["type"] in ("dict_type", "float_parsing", "float_type"):
        of = "a weight, or a block" if keys[-1] != "rewards" else "names with weights or blocks"
        return keys, f"got {value!r:.200} ({kind_of(value)}); need {of}, as in {REWARDS}"
    return keys, f"got {value!r:.200} ({kind_of(value)}); {problem['msg'][0].lower()}{problem['msg'][1:]}"


def what_is_meant(block: type[Settings], key: str, value: Any) -> str:
    """What may be meant by a key that a class of settings lacks: another library's, a misspelt or a misplaced one."""
    names: list[str] = sorted([*block.model_fields, *(["preset"] if block in STAGES else [])])
    key = str(key)  # YAML has others
    if key in EQUIVALENTS:
        return _elsewhere(key)
    if near := difflib.get_close_matches(key, names, n=1, cutoff=CLOSE):
        return f"did you mean {near[0]!r}?"
    if block is ModelReward:
        return "the model is an earlier stage of program reward_model, as in {name: reward_model, stage: NAME}"
    if block in STAGES and places().get(key) == [f"stages.NAME.{key}"]:
        programs = [get_args(kind.model_fields["program"].annotation)[0] for kind in STAGES if key in kind.model_fields]
        several = " and ".join([*([", ".join(programs[:-1])] if programs[1:] else []), programs[-1]])
        return f"only stages of program {several} have {key}"
    for path in _paths(key, value):
        for part in (".".join(path[i:]) for i in range(len(path))):
            if part in EQUIVALENTS or part in places():
                return _elsewhere(part)
    near = difflib.get_close_matches(key, names, n=1, cutoff=NEAR)
    return f"did you mean {near[0]!r}?" if near else f"valid keys here: {', '.join(names)}"


def _paths(key: str, value: Any) -> list[list[str]]:
    """The keys to each value of a block: verl's are nested in blocks that r1jax does not have."""
    if not isinstance(value, dict) or not value:
        return [[key]]
    return [[key, *path] for below in value for path in _paths(str(below), value[below])]


def _elsewhere(key: str) -> str:
    """What r1jax has for another library's key, or where a key of its own belongs."""
    if key not in EQUIVALENTS:
        found = ["the top level" if place == key else place for place in places()[key][:MOST_PLACES]]
        return f"it belongs at {' or '.join(found)}"
    place, note = EQUIVALENTS[key]
    if place == "-":
        return f"r1jax has none, because {note}"
    return f"in r1jax it is {place}" + (f" ({note})" if note else "")


@functools.cache
def places() -> dict[str, list[str]]:
    """By the name of a setting, where it may stand, those nearest to the top level first."""
    schema = Config.model_json_schema()
    found: dict[str, dict[str, None]] = {}

    def visit(block: Any, path: str) -> None:
        if "$ref" in block:
            block = schema["$defs"][block["$ref"].rpartition("/")[2]]
        for key, below in block.get("properties", {}).items():
            found.setdefault(key, {})[path + key] = None
            visit(below, f"{path}{key}.")
        for alternative in (*block.get("anyOf", ()), *block.get("oneOf", ())):
            visit(alternative, path)
        for entry in (block.get("items"), block.get("additionalProperties")):
            if isinstance(entry, dict):
                visit(entry, f"{path}NAME.")

    visit(schema, "")
    return {key: sorted(at, key=lambda place: place.count(".")) for key, at in found.items()}
