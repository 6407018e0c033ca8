"""The first problem that pydantic found in a config, as one line: where it is, what was given and what is needed.

ConfigError(explain(error, tree, sources, overrides))
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from r1jax.config.annotations import alternatives, bare, walk
from r1jax.config.unknown import what_is_meant


@dataclass(frozen=True)
class Override:
    """One key=value of the command line: its key as it was typed, in parts, and what each part names in the config."""

    typed: Sequence[str]
    keys: Sequence[Any]

    def spelled(self, length: int) -> str:
        """The first parts of the key as they were typed."""
        return "".join(self.typed[:length]).lstrip(".")


@dataclass(frozen=True)
class Source:
    """A YAML file and its root node. Its content is under the keys `below` of the config."""

    path: Path | None
    root: Any = None
    below: Sequence[Any] = ()


def first_problem(error: ValidationError) -> Any:
    """The problem to tell the user first: not a missing key, if another key was misspelt."""
    problems = error.errors(include_url=False)
    return next((problem for problem in problems if problem["type"] != "missing"), problems[0])


def explain(error: ValidationError, tree: dict[str, Any], source: Source, overrides: Sequence[Override] = ()) -> str:
    """The first problem as one line: file:line: key: what is wrong and what would be right."""
    problem, others = first_problem(error), error.error_count() - 1
    keys, parent, annotation = walk(problem["loc"])
    keys, message = _message(problem, tree, keys, parent, annotation)
    is_check = problem["type"] == "value_error"
    # What is wrong between several keys begins with the one to look at.
    at = [*keys, *_numbered(tree, message.split()[0].rstrip(":").split("."))] if is_check else keys
    line, in_file = _line(source.root, at[len(source.below) :])

    def blames(override: Override) -> bool:
        given = list(override.keys)
        if at[: len(given)] == given or (given[: len(at)] == at and (at != keys or not in_file)):
            return True
        own = given[: len(keys)] == keys and any(str(key) in message for key in given[len(keys) :])
        return is_check and not in_file and own

    text = f"{_named(tree, keys)}: {message}" if keys else message
    more = f" (and {others} more)" if others else ""
    for override in filter(blames, overrides):
        shared = next((n for n, (a, b) in enumerate(zip(override.keys, at, strict=False)) if a != b), len(at))
        shared = min(shared, len(override.keys), len(keys or at))  # a check's message may begin with another key
        if text.startswith(named := _named(tree, at[:shared])):
            text = override.spelled(shared) + text.removeprefix(named)
        return f"command line: {text}{more}"
    where = "" if source.path is None else f"{source.path}:{line}: " if line else f"{source.path}: "
    return f"{where}{text}{more}"


def _message(
    problem: Any, tree: dict[str, Any], keys: list[Any], parent: Any, annotation: Any
) -> tuple[list[Any], str]:
    """The keys that a problem is about, and the text of the message."""
    value, context = problem.get("input"), problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            names = sorted(parent.model_fields) if parent else []
            if keys[0] == "stages" and len(keys) == 3:
                names = sorted([*names, "preset"])
            below, meant = what_is_meant(tree, keys, value, names)
            return [*keys, *below], f"unknown key; {meant}"
        case "missing":
            return keys, "this key is required and was not given"
        case "union_tag_not_found":
            tags = ", ".join(alternatives(annotation))
            if context["discriminator"] == "'program'":
                return [*keys, "program"], f"this key is required; give one of {tags}"
            what, example = ("task", "{jsonl: FILE}") if "task" in context["discriminator"] else ("reward", "0.5")
            return keys, f"no {what} is named; give one of {tags}, such as {{name: {tags.split(',')[0]}}} or {example}"
        case "union_tag_invalid":
            expected = context["expected_tags"].replace("'", "").split(", ")
            near = difflib.get_close_matches(context["tag"], expected, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            name = context["discriminator"].strip("'")
            keys = [*keys, "name" if name.endswith("()") else name]
            return keys, f"got {context['tag']!r}, need one of {context['expected_tags']}{hint}"
        case "value_error":
            return keys, str(context["error"])
        case "model_type" if keys:
            fields = ", ".join(getattr(bare(annotation), "model_fields", ()))
            return keys, f"got {value!r} ({kind_of(value)}); need a mapping with some of {fields}"
    return keys, f"got {value!r} ({kind_of(value)}); {problem['msg'][0].lower()}{problem['msg'][1:]}"


def kind_of(value: Any) -> str:
    """What a value is, for a message about it."""
    return "nothing" if value is None else f"a {type(value).__name__}"


def _named(tree: dict[str, Any], keys: Sequence[Any]) -> str:
    """Keys joined by dots, where a stage goes by its name."""
    if len(keys) > 1 and keys[0] == "stages":
        keys = ["stages", _stage_names(tree)[keys[1]], *keys[2:]]
    return ".".join(map(str, keys))


def _numbered(tree: dict[str, Any], keys: list[Any]) -> list[Any]:
    """Keys of a message, where a stage goes by its number again."""
    if len(keys) > 1 and keys[0] == "stages" and keys[1] in (names := _stage_names(tree)):
        return ["stages", names.index(keys[1]), *keys[2:]]
    return keys


def _stage_names(tree: dict[str, Any]) -> list[Any]:
    """The stages' names; one without a name keeps its number."""
    return [stage.get("name", i) if isinstance(stage, dict) else i for i, stage in enumerate(tree["stages"])]


def _line(node: Any, keys: Sequence[Any]) -> tuple[int | None, bool]:
    """The file's line (from 1) of the deepest of `keys` that the YAML has, None of none; whether it has them all."""
    line = None
    for key in keys:
        entries = getattr(node, "value", None)
        if not isinstance(entries, list):
            return line, False
        if isinstance(key, int):
            found = [(entry, entry) for entry in entries[key : key + 1]]
        else:
            found = [pair for pair in entries if isinstance(pair, tuple) and pair[0].value == key]
        if not found:
            return line, False
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line, True
