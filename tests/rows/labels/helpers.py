"""Rows as a user would give them, and what was made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from core.rows.columns import Column, Table
from core.rows.data_warnings import doubts
from core.rows.splitting.splits import Splits, prepare
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from tests.tables import columns

A, B, C = ("ds_" + digit * 32 for digit in "abc")
MULTI: dict[str, Any] = {"problem_type": "multi_label_classification"}
NUMBER: dict[str, Any] = {"problem_type": "regression"}
WORDS: dict[str, Any] = {"type": "token-classification"}
ALL = ["insult", "threat", "toxic"]
SETS: list[set[str]] = [{"toxic", "insult"}, {"toxic"}, set(), {"threat", "insult"}, {"insult"}, {"threat"}] * 6


def spec_of(data: Any = None, sources: Sequence[Mapping[str, Any]] = (), **task: Any) -> JobSpec:
    """A job on data set A, or on `data`."""
    whole = {"data": data or {"dataset": A}, **task}
    return JobSpec.model_validate({"model": "m", "task": whole, "budget": {"params": 0.5}, "sources": list(sources)})


def labelled(cells: Sequence[Any] | Column, start: int = 0) -> dict[str, Column]:
    """Rows of different texts with these labels."""
    count = len(cells.values if isinstance(cells, Column) else cells)
    return dict(columns(text=[f"text {start + i}" for i in range(count)], label=cells))


def taken(cells: Sequence[Any] | Column, **task: Any) -> Splits:
    """The splits of such rows."""
    return prepare(spec_of(**task), {A: labelled(cells)})


def found(splits: Splits) -> Counter[Any]:
    """How many rows have each label."""
    return Counter(row.label for part in (splits.train, splits.dev, splits.test) for row in part)


def refusal(table: Table, spec: JobSpec | None = None, **task: Any) -> list[tuple[str, str]]:
    """Field and message of every fault."""
    with pytest.raises(SpecError) as caught:
        prepare(spec or spec_of(**task), {A: table})
    return [(fault.field, fault.message) for fault in caught.value.faults]


def said(splits: Splits, spec: JobSpec | None = None, **task: Any) -> str:
    """All notes and doubts."""
    return "\n".join([*splits.notes, *doubts((spec or spec_of(**task)).task, splits)])
