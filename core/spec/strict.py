"""What every part of a job specification is: strict, closed and immutable."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """Base of every part: strict types, no unknown fields, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def available(what: str, built: tuple[str, ...], planned: tuple[str, ...]) -> BeforeValidator:
    """Accept `built` values, refuse `planned` ones by name, and let pydantic refuse the rest."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in planned:
            raise PydanticCustomError(
                "not_available", f"{what} '{value}' is not available yet; available: {', '.join(built)}"
            )
        return value

    return BeforeValidator(check)
