"""Writes docs/config.md from the classes of settings: every key, its type, its default, its meaning, its place.

uv run scripts/config_reference.py
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Tag

import r1jax.config
from r1jax.config.base import Settings
from r1jax.config.equivalents import EQUIVALENTS
from r1jax.config.experiment import (
    Config,
    DistillStage,
    GrpoStage,
    RejectStage,
    RewardModelStage,
    SftStage,
)
from r1jax.config.rewards import RewardBase, RewardSettings
from r1jax.config.sampling import SamplingSettings
from r1jax.config.shared import MERGED, Shared
from r1jax.config.stage import Stage, TrainingStage
from r1jax.config.tasks import TaskSettings

FILE = Path(__file__).parent.parent / "docs" / "config.md"
INTRODUCTION = """\
# Config reference

Generated from the settings in `r1jax/config/` by `uv run scripts/config_reference.py`; a test fails when it is out of
date.

## How a config is read

A config is a YAML file that describes one experiment: settings that all its stages share, and a list of stages that
run in order. [configs/quickstart.yaml](../configs/quickstart.yaml) is a short one. A key that does not exist is an
error, which names the nearest key or the place where it belongs. `1e-3` is a number, and `${run_dir}` stands for the
value of another key; `\\${` is the text `${`. In paths, here and in overrides, `~` and `$NAME` are the home folder and
an environment variable. Paths are those of the file system: an address such as `gs://…` is refused, and a bucket that
is mounted as a folder is not.

**Overrides.** `KEY=VALUE` on the command line changes a setting. The value is YAML, in which `${KEY}` is text, and of
several the last wins.

| override | changes |
|---|---|
| `seed=1` | a key of the top level |
| `evaluate.problems=null` | a key of a block; null is YAML for none |
| `stages.rl.steps=20` | a key of the stage that is named rl |
| `stages[1].steps=20`, `stages.1.steps=20` | the same by its number, counted from 0 |
| `stages.rl.kl={coef: 0.001}` | a whole block |
| `stages.rl.rewards.format=0.2` | the weight of one reward |

**What stages share.** A key that a stage does not have is taken from the top level. `prompt` and `evaluate` are merged
key by key, so that a stage gives only what differs; `task`, `rewards` and lengths replace those of the top level.

**Presets.** `preset: FILE` in a stage puts the settings of that file under the stage's own, which win key by key.
[configs/objectives/](../configs/objectives) has one for each published recipe, such as `dapo.yaml`. Where the stage
has a `loss.kind` of its own, the clips of the file are left out. Paths are relative to the working directory, or else
to the config's folder.

**Where a run keeps it.** `RUN_DIR/config.yaml` holds the settings with overrides and presets put in; it can be trained
from like any other config.
"""


def main() -> None:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(reference())
    print(f"written: {FILE}")


def reference() -> str:
    """The page."""
    meanings = dict(_meanings())
    tasks, rewards = alternatives(TaskSettings), alternatives(RewardSettings)
    sections = [
        _section("Top level", Config, meanings, "At the top level."),
        _section("Top level or stage", Shared, meanings, "At the top level for all stages, or in a stage for itself."),
        _section("Every stage", Stage, meanings, "In each entry of `stages`."),
        _section("Stages that train", TrainingStage, meanings, "In a stage of any program but reject."),
        _section("Stages of program sft", SftStage, meanings, "In a stage with `program: sft`."),
        _section("Stages of program grpo", GrpoStage, meanings, "In a stage with `program: grpo`."),
        _section("Stages of program distill", DistillStage, meanings, "In a stage with `program: distill`."),
        _section("Stages of program reject", RejectStage, meanings, "In a stage with `program: reject`."),
        _section("Stages of program reward_model", RewardModelStage, meanings, "With `program: reward_model`."),
        _section(
            "Sampling",
            SamplingSettings,
            meanings,
            "In a stage with `program: grpo`, `distill` or `reject`, and in `evaluate`.",
        ),
    ]
    places = {
        Shared: "At the top level, and in a stage.",
        Config: "At the top level.",
        TrainingStage: "In a stage that trains.",
        GrpoStage: "In a stage of program grpo.",
    }
    seen: set[Any] = set()  # a stage's `model` is the block of the top level
    for owner, place in places.items():
        for name, block in _blocks(owner):
            if block not in seen:
                seen.add(block)
                sections.append(_section(name, block, meanings, f"{place} {_docstring(block)}"))
    sections.append(
        "## Tasks\n\nThe block `task`: a task is known by its `name`, or by the key that says where it is.\n"
    )
    sections += _alternatives(tasks, meanings)
    sections.append(
        "## Rewards\n\nEntries of `rewards` that are blocks: a reward is known by its `name`, or by the key "
        f"`function`. All of them may have these.\n\n{_table(RewardBase, meanings)}"
    )
    sections += _alternatives(rewards, meanings)
    return "\n".join([INTRODUCTION, *sections, _other_names()])


def bare(annotation: Any) -> Any:
    """An annotation without its metadata, and without None as an alternative."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = annotation.__origin__
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        members = [member for member in typing.get_args(annotation) if member is not types.NoneType]
        return bare(members[0]) if len(members) == 1 else annotation
    return annotation


def is_model(annotation: Any) -> bool:
    """Whether it is a class of settings, not a list or dict of some."""
    return isinstance(annotation, type) and typing.get_origin(annotation) is None and issubclass(annotation, BaseModel)


def alternatives(annotation: Any) -> dict[str, Any]:
    """The members of a discriminated union by their tags; of anything else, none."""
    members = typing.get_args(bare(annotation))
    return {extra.tag[1:-1]: m for m in members for extra in getattr(m, "__metadata__", ()) if isinstance(extra, Tag)}


def _blocks(owner: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name in _own(owner):
        block = bare(owner.model_fields[name].annotation)
        if is_model(block):
            yield name, block


def _own(model: type[BaseModel]) -> list[str]:
    """The keys that a class declares itself."""
    inherited = {name for base in model.__mro__[1:] for name in getattr(base, "model_fields", ())}
    return [name for name in model.model_fields if name not in inherited]


def _section(title: str, model: type[BaseModel], meanings: dict[str, dict[str, str]], text: str) -> str:
    return f"## {title}\n\n{text}\n\n{_table(model, meanings)}"


def _alternatives(members: dict[str, Any], meanings: dict[str, dict[str, str]]) -> list[str]:
    """A section for each class, after one for what several of them have in common."""
    sections, bases = [], set()
    for tag, member in members.items():
        model = bare(member)
        for base in model.__bases__:
            if base not in (Settings, RewardBase) and base not in bases and _own(base):
                bases.add(base)
                tags = [f"`{other}`" for other, kind in members.items() if issubclass(bare(kind), base)]
                sections.append(f"### {' '.join(tags)}\n\n{_docstring(base)}\n\n{_table(base, meanings)}")
        sections.append(f"### `{tag}`\n\n{_docstring(model)}\n\n{_table(model, meanings)}".rstrip() + "\n")
    return sections


def _docstring(model: type[BaseModel]) -> str:
    paragraphs = (model.__doc__ or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _table(model: type[BaseModel], meanings: dict[str, dict[str, str]]) -> str:
    names = _own(model)
    if not names:
        return ""
    known = meanings.get(model.__name__, {})
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name in names:
        field = model.model_fields[name]
        kind = _type(field).removesuffix(" or null" if model is Shared else "-")
        cells = (
            f"`{name}`",
            kind.replace("block", f"[block](#{_heading(name)})"),
            _default(model, name),
            known.get(name, _which(field)),
        )
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    for name in names:
        kind = bare(model.model_fields[name].annotation)
        if typing.get_origin(kind) is list and is_model(entry := bare(typing.get_args(kind)[0])):
            rows += ["", f"Each entry of `{name}` has these.", "", _table(entry, meanings).rstrip()]
    return "\n".join(rows) + "\n"


def _which(field: Any) -> str:
    """The meaning of a key that has only one value."""
    literal = typing.get_origin(field.annotation) is typing.Literal and len(typing.get_args(field.annotation)) == 1
    return "Always this." if literal else ""


def _default(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    if model is Shared:
        return "`{}`" if name in (*MERGED, "rewards") else "required"
    if field.is_required():
        return "required"
    if isinstance(field.default, Settings):
        return "`{}`"
    return f"`{json.dumps(field.default)}`"


def _heading(name: str) -> str:
    """The section that has a block's keys: a teacher's mesh has those of any."""
    return name.removeprefix("teacher_")


def _type(field: Any) -> str:
    limits = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    text = _named(field.annotation)
    bounds = [
        (sign, getattr(item, name)) for item in _metadata(field) for name, sign in limits.items() if hasattr(item, name)
    ]
    bounds = [f"{sign} {bound:g}" for sign, bound in bounds]
    head, _, rest = text.partition(" or ")
    return " or ".join(filter(None, [" ".join([head, ", ".join(bounds)]).strip(), rest]))


def _metadata(field: Any) -> list[Any]:
    """The limits of a number, which stand beside the field or, where it may be null, within its annotation."""
    found = [*field.metadata]
    stack = [*typing.get_args(field.annotation)] if bare(field.annotation) in (int, float) else []
    for member in stack:
        for extra in getattr(member, "__metadata__", ()):
            found += getattr(extra, "metadata", [extra])
    return found


def _named(annotation: Any) -> str:
    """A type in words; what may be null says so."""
    plain = bare(annotation)
    null = " or null" if type(None) in typing.get_args(annotation) else ""
    origin, arguments = typing.get_origin(plain), typing.get_args(plain)
    if origin is typing.Literal:
        text = ", ".join(f"`{value}`" for value in arguments)
    elif is_model(plain):
        text = "block"
    elif origin is dict:
        text = "[mapping](#rewards)" if alternatives(arguments[-1]) else "mapping"
    elif origin is list:
        text = "[list](#every-stage)" if alternatives(arguments[-1]) else "list"
    elif alternatives(plain):
        text = "[task](#tasks)"
    else:
        text = {str: "text", bool: "true or false", int: "integer", float: "number"}.get(plain, "anything")
    return text + null


def _meanings() -> Iterator[tuple[str, dict[str, str]]]:
    """The text below each setting in the source, by class."""
    for module in pkgutil.iter_modules(r1jax.config.__path__):
        file = importlib.import_module(f"r1jax.config.{module.name}").__file__
        for node in ast.parse(Path(str(file)).read_text()).body:
            if not isinstance(node, ast.ClassDef):
                continue
            texts = {}
            for statement, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(statement, ast.AnnAssign) and isinstance(after, ast.Expr):
                    value = after.value
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        texts[ast.unparse(statement.target)] = " ".join(value.value.split())
            yield node.name, texts


def _other_names() -> str:
    """The table of keys of other libraries."""
    known: dict[tuple[str, str], list[str]] = {}
    for key, place in EQUIVALENTS.items():
        known.setdefault(place, []).append(f"`{key}`")
    rows = [
        f"| {', '.join(keys)} | {' and '.join(f'`{part}`' for part in place.split(' and '))} | {note} |"
        for (place, note), keys in known.items()
    ]
    return "\n".join(
        [
            "## Names in TRL, verl and Hugging Face",
            "",
            "Such a key is an error that names r1jax's.",
            "",
            "| key | in r1jax | |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
