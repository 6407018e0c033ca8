"""What every block of settings is built from: a frozen model without unknown keys, and numbers with limits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def at_most(most: int, why: str) -> AfterValidator:
    """A check of numbers that no run can have or use, before they take time and memory."""

    def check(value: int) -> int:
        if value > most:
            raise ValueError(f"got {value:.6g}; need at most {most:,}, {why}")
        return value

    return AfterValidator(check)


def _in_float32(value: float) -> float:
    """Refuses what float32, in which runs compute, may not tell from 0 or from infinity."""
    if value and not TINIEST <= abs(value) <= LARGEST:
        raise ValueError(f"got {value}; need a finite number, 0 or of a size from {TINIEST:g} to {LARGEST:g}")
    return value


TINIEST, LARGEST, MAX_SEED = 1e-30, 1e12, 2**32 - 1
PositiveInt = Annotated[int, Field(ge=1), at_most(2**31 - 1, "which is how far devices count")]
NonNegativeInt = Annotated[int, Field(ge=0), at_most(2**31 - 1, "which is how far devices count")]
Size = Annotated[int, Field(ge=1), at_most(1_000_000, "which no batch and no model exceeds")]
Length = Annotated[int, Field(ge=1), at_most(10_000_000, "which no context exceeds")]
Number = Annotated[float, AfterValidator(_in_float32)]
PositiveFloat = Annotated[Number, Field(gt=0)]
NonNegativeFloat = Annotated[Number, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0), at_most(MAX_SEED, "since larger ones repeat the randomness of smaller ones")]
Seconds = Annotated[float, Field(gt=0, le=86400)]


class ConfigError(ValueError):
    """The user's settings cannot be used; the message is one line: what we got, what we need, what to do."""


class RunStopped(Exception):
    """A run cannot go on, which its settings alone did not show; the message is one line."""


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Makes a ConfigError of what a task, a tokenizer or a model refuses: it is the user's to correct."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from None


class Settings(BaseModel):
    """A block of settings: frozen, strict about types, and with no keys but those that it declares.

    The message of a check that concerns several keys begins with the one to look at, so that the error names its line.
    """

    model_config = ConfigDict(frozen=True, strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        """In the place of pydantic's extra="forbid", whose errors do not say which class has no such key."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise ValueError(
                f"got {value!r:.200} ({kind_of(value)}); need a mapping with some of {', '.join(cls.model_fields)}"
            )
        for key, below in value.items():
            if key not in cls.model_fields:
                raise PydanticCustomError("unknown_key", "unknown key", {"block": cls, "key": key, "value": below})
        return value


def kind_of(value: Any) -> str:
    """What a value is, for a message about it."""
    return "nothing" if value is None else f"a {type(value).__name__}"


def chosen_by(*keys: str, name: str = "name") -> Callable[[Any], str]:
    """What tells pydantic which class of settings a block is: the first of `keys` that it has, else its `name`.

    It is a tag in angle brackets, by which an error tells tags from keys in pydantic's locations.
    """

    def choose(value: Any) -> str:
        get = value.get if isinstance(value, dict) else lambda key: getattr(value, key, None)
        return f"<{next((key for key in keys if get(key) is not None), get(name) or '')}>"

    return choose
