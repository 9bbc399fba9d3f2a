"""What was understood of a file: said when it is uploaded, in its preview, and in the plan of a job."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.rows.files.asked import Asked


@dataclass(frozen=True)
class Skipped:
    """A column that was left out."""

    column: str
    why: str


@dataclass(frozen=True)
class ColumnFacts:
    """A column that was kept."""

    name: str
    type: str  # "text", "whole number", "number", "true or false", "list of texts", "classes", "picture", ...
    empty: int = 0  # cells without a value
    values: dict[str, int] = field(default_factory=dict)  # counts, commonest first, of a column with few of them


@dataclass(frozen=True)
class Understood:
    """Of one data set; `notes` are whole sentences, for people, of all that was guessed, mended or left out."""

    kind: str  # csv, jsonl, json, parquet, arrow, xlsx, conll, imagefolder
    rows: int
    columns: list[ColumnFacts]
    skipped: list[Skipped] = field(default_factory=list)
    compression: str | None = None
    encoding: str | None = None  # of text
    delimiter: str | None = None
    header: bool | None = None  # whether the first line names the columns
    notes: list[str] = field(default_factory=list)
    asked: Asked | None = None  # what its user said of it; None of one that an earlier version has read
