"""What every block of settings is built from: a frozen model without unknown keys, and numbers with limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ConfigError(ValueError):
    """The user's settings cannot be used; the message is one line: what we got, what we need, what to do."""


class Settings(BaseModel):
    """A block of settings: frozen, strict about types, and with no keys but those that it declares.

    The message of a check that concerns several keys begins with the one to look at, so that the error names its line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())
