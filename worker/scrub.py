"""Whether stored files are still what their names say: read again, one after the other, so slowly that nobody notices.

A disk may lose or turn bytes years after they were written. What is found to be damaged is set aside, so that it is
handed to nobody; what is to be done then says docs/operating.md.
"""

from __future__ import annotations

import errno
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from core.ledger import tallies
from core.ledger.database import Database
from core.ledger.files.storage import DamagedError, Storage
from worker.tidy import BLOBS, used_blobs

log = logging.getLogger("topwork.relay")

BYTES_PER_S = 8e6
FILE_S = 0.05  # of rest after each file
BATCH = 200
ROUND_S = 7 * 24 * 3600.0  # at least, between two readings of a file
AWAY_S = 600.0  # the storage or the database is: until the next round
PAST_ALL = "g"  # sorts behind every name


class Scrub:
    """Goes round all files that rows name, from a place of its own choice: relays may be started often, or be many."""

    def __init__(self, database: Database, storage: Storage, stop: threading.Event) -> None:
        self.database, self.storage, self.stop = database, storage, stop

    def run(self) -> None:
        """Round after round, until told to stop."""
        while not self.stop.is_set():
            pause, began = ROUND_S, time.monotonic()
            try:
                self.round()
            except (OSError, SQLAlchemyError) as error:
                log.warning("cannot check stored files: %s", type(error).__name__)
                pause = AWAY_S
            self.stop.wait(max(AWAY_S, began + pause - time.monotonic()))

    def round(self) -> Counter[str]:
        """Check every file once; returns how many were whole, damaged, missing."""
        all_found = Counter[str]()
        for names in self._batches():
            found = {name: self._check(name) for name in names if not self.stop.is_set()}
            with self.database.begin() as session:
                wrong = used_blobs(session, [name for name, how in found.items() if how != "whole"])
                for name in wrong:  # others have been deleted meanwhile
                    log.error("stored file %s is %s: put it back from a backup", name, found[name])
                counts = Counter(how for name, how in found.items() if how == "whole" or name in wrong)
                for how, count in counts.items():
                    tallies.add(session, "scrub", how, count=count)
            all_found += counts
            if self.stop.is_set():
                break
        return all_found

    def _check(self, sha256: str) -> str:
        try:
            try:
                self.storage.check(sha256, lambda size: self.stop.wait(size / BYTES_PER_S))
            except DamagedError:
                self.storage.check(sha256, lambda _: None)  # or it was just being replaced
            return "whole"
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            if not isinstance(error, DamagedError) and error.errno != errno.EIO:
                raise
            self.storage.set_aside(sha256)
            return "damaged"
        finally:
            self.stop.wait(FILE_S)

    def _batches(self) -> Iterator[Sequence[str]]:
        first = secrets.token_hex(32)
        for low, high in ((first, PAST_ALL), ("", first)):
            while names := self._names(low, high):
                yield names
                low = names[-1]

    def _names(self, low: str, high: str) -> Sequence[str]:
        with self.database.read() as session:
            found = {
                name
                for column in BLOBS
                for name in session.scalars(
                    select(column).where(column > low, column <= high).distinct().order_by(column).limit(BATCH)
                )
            }
        return sorted(found)[:BATCH]
