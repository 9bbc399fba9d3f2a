"""What a job's rows come to: read and split as the job would, and only counted and talked of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.rows.columns import Table
from core.rows.data_warnings import doubts
from core.rows.splitting.splits import Splits, prepare
from core.rows.table import read_tables
from core.rows.text.tokens import tokens_of
from core.spec.job import JobSpec
from core.spec.task import IMAGES, VECTORS


@dataclass(frozen=True)
class Survey:
    """Of the splits that a job would learn from and be measured on."""

    labels: list[str]
    train: int  # rows
    dev: int
    test: int
    sources: list[int]
    unlabelled: int
    dropped: dict[str, int]  # rows left out, by reason
    doubts: list[str]
    notes: list[str]
    tokens: int  # of a row that is learned from, on average; of a picture 1


def survey(spec: JobSpec, files: Mapping[str, Path], length: int) -> Survey:
    """By the stored tables of the data sets, by id; a row is read up to `length` tokens.

    Raises SpecErrors of all that is wrong. A data set that is not in `files` is taken for one without columns.
    """
    nothing: dict[str, Table] = {dataset_id: {} for dataset_id in spec.dataset_ids().values()}
    return of(prepare(spec, nothing | read_tables(spec, files)), spec, length)


def of(splits: Splits, spec: JobSpec, length: int) -> Survey:
    """See `Survey`."""
    learned = [*splits.train, *(row for part in splits.borrowed for row in part)]
    return Survey(
        labels=splits.labels,
        train=len(splits.train),
        dev=len(splits.dev),
        test=len(splits.test),
        sources=[len(rows) for rows in splits.sources],
        unlabelled=len(splits.unlabelled),
        dropped=dict(splits.dropped),
        doubts=list(doubts(spec.task, splits)),
        notes=splits.notes,
        tokens=1 if spec.task.type == IMAGES else tokens_of(learned, length, spec.task.problem in VECTORS),
    )
