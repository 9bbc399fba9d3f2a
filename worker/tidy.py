"""Removing what ended jobs and killed processes left on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.ledger.database import Database
from core.ledger.tables import Dataset, File, Job, Part

BLOBS = (File.sha256, Dataset.sha256, Part.sha256)  # every column that names a stored file


def tidy_work_folders(database: Database, work_dir: Path) -> None:
    """Remove folders of attempts that are over, each outside of any transaction: work/<job_id>/<attempt>/."""
    for folder in work_dir.glob("job_*"):
        with database.read() as session:
            job = session.get(Job, folder.name)
        running = str(job.attempt) if job is not None and job.status in ("running", "cancelling") else None
        for attempt in folder.glob("*"):  # of none, if another relay has just removed it
            if attempt.name != running and not (job is not None and _newer(attempt.name, job.attempt)):
                shutil.rmtree(attempt, ignore_errors=True)
        remove_if_empty(folder)


def _newer(name: str, attempt: int) -> bool:
    """Whether the folder was made after `attempt` was read: it belongs to a claim of this moment."""
    return name.isdecimal() and int(name) > attempt


def remove_if_empty(folder: Path) -> None:
    """Remove a folder unless somebody has something in it."""
    try:
        folder.rmdir()
    except OSError:
        return


def used_blobs(session: Session, names: list[str]) -> set[str]:
    """Which of these files a job, a data set or an upload refers to."""
    return {name for column in BLOBS for name in session.scalars(select(column).where(column.in_(names)))}
