"""A model as a job names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelRef:
    """A pre-trained model on local disk, and what the user called it."""

    path: Path
    name: str
    revision: str | None = None
