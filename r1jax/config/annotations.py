"""What the types of settings say: the models and alternatives behind a key, and the places where a key may stand."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Tag

from r1jax.config.experiment import Config


def walk(loc: Sequence[Any]) -> tuple[list[Any], type[BaseModel] | None, Any]:
    """Follows a pydantic location: its keys without union tags, the model that the last is a key of, what it holds."""
    keys: list[Any] = []
    parent, annotation = None, Config
    for part in loc:
        tagged = alternatives(annotation)
        if part in tagged:  # pydantic writes the tag of a discriminated union into the location
            annotation = tagged[part]
            continue
        keys.append(part)
        parent = bare(annotation)
        if is_model(parent):
            field = parent.model_fields.get(part)
            annotation = field.annotation if field else None
        else:
            arguments = typing.get_args(parent)  # of a list, or of a dict with names for keys
            parent, annotation = None, arguments[-1] if arguments else None
    return keys, parent, annotation


def bare(annotation: Any) -> Any:
    """An annotation without its metadata, and without None as an alternative."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = annotation.__origin__
        elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
            members = [member for member in typing.get_args(annotation) if member is not types.NoneType]
            if len(members) > 1:
                return annotation
            annotation = members[0]
        else:
            return annotation


def is_model(annotation: Any) -> bool:
    """Whether it is a class of settings, not a list or dict of some."""
    return isinstance(annotation, type) and typing.get_origin(annotation) is None and issubclass(annotation, BaseModel)


def alternatives(annotation: Any) -> dict[str, Any]:
    """The members of a discriminated union by what picks them; of anything else, none."""
    tagged = {}
    for member in typing.get_args(bare(annotation)):
        program = getattr(member, "model_fields", {}).get("program")
        tags = [extra.tag for extra in getattr(member, "__metadata__", ()) if isinstance(extra, Tag)]
        tags = tags or (typing.get_args(program.annotation) if program else ())
        tagged |= dict.fromkeys(tags, member)
    return tagged


def models_of(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The classes of settings that a block, or each entry of a dict, may be of; with what stands before their keys."""
    annotation = bare(annotation)
    if is_model(annotation):
        yield "", annotation
    elif typing.get_origin(annotation) is dict:
        yield from ((".NAME" + more, model) for more, model in models_of(typing.get_args(annotation)[-1]))
    else:
        for member in alternatives(annotation).values():
            yield from models_of(member)


def places(model: type[BaseModel], name: str, leave_out: Iterable[str] = ()) -> list[str]:
    """Where below a block of this class a key of that name may stand, those nearest to it first."""
    fields = {key: field for key, field in model.model_fields.items() if key not in leave_out}
    found = [name] if name in fields else []
    for key, field in fields.items():
        for between, below in models_of(field.annotation):
            found += [f"{key}{between}.{place}" for place in places(below, name)]
    return sorted(dict.fromkeys(found), key=lambda place: place.count("."))
