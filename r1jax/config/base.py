"""What every block of settings is built from: a frozen model that knows no key but its own, and checked numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ConfigError(ValueError):
    """The user's settings cannot be used; the message is one line that says what came, what is needed, what to do."""


class Settings(BaseModel):
    """A block of settings. What a check of several of them raises begins with the name of one, whose line is cited."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())
