"""Errors and notes about a file, in words that are safe to show."""

from __future__ import annotations

from core.spec.errors import SpecError

SHOWN_CHARS = 80


def fault(message: str) -> SpecError:
    """The error that refuses a file."""
    return SpecError("/file", message)


def shown(text: object, chars: int = SHOWN_CHARS) -> str:
    """What is in a file, or was said of it, short enough and printable; longer is cut."""
    said = "".join(c if c.isprintable() else " " for c in str(text)[: chars + 1])
    return said if len(said) <= chars else f"{said[: chars - 1]}…"


def place(row: int, line: int | None = None) -> str:
    """Where a cell is, as a person counts: data rows from 1, lines of the file from 1."""
    return f"row {row:,}" + (f" (line {line:,})" if line else "")


def listed(names: list[str], most: int = 5) -> str:
    """Names in quotes, the first few of them."""
    said = ", ".join(f"'{shown(name, 40)}'" for name in names[:most])
    return said + (f" and {len(names) - most:,} more" if len(names) > most else "")
