"""A budget in time: fit to what the table says, cut, measure, and fit again with what that has shown.

The limit is a part of the dense model's latency in the same run, so that a machine that is slow at the moment is slow
for both. A limit in milliseconds becomes such a part through the dense model's latency at the job's start.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.domains.fit import Scores
from core.domains.structure import Structure
from core.pruning.latency.prices import Pricing, kept
from core.pruning.latency.quiet import BUSY
from core.pruning.latency.runtimes import Conditions
from core.pruning.latency.stopwatch import Measure, Reading
from core.pruning.system.files import write_json
from core.spec.budget import Budget
from core.spec.errors import SpecError
from core.spec.latency import Latency, Point
from core.spec.report import BudgetMet, Measured

log = logging.getLogger(__name__)

ROUNDS = 4  # structures that are measured: the table's, then at most three corrections
AIM = 0.975  # of the limit: readings of one structure differ by a percent or two
PARTS = (0.9, 0.75, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02)  # of the curve that jobs are planned by
FLOOR = 0.95  # of the limit: what is faster is fitted again


class LatencyBudget:
    """The limit of one job, and how it was met."""

    def __init__(
        self,
        budget: Budget,
        pricing: Pricing,
        under: Conditions,
        measure: Measure,
        state: Path,
        cache: Path | None = None,
        earlier: Path | None = None,
        hear: Callable[[Latency], None] = lambda _latency: None,
        settle: Callable[[], bool] = lambda: False,
    ) -> None:
        """What was measured is kept in the file `state`, and the table in `cache`, too, for other jobs; `hear` is told.

        `earlier`: what another size of the same model has kept, to start from. `settle` waits until no
        other work is beside, and says whether there was any: what was read so is read again, once, before it refuses.

        An attempt on another machine measures for itself, unless a structure was decided on: that, and what is said
        of it, stay those of the machine where it was measured. Raises SpecError if no structure can be as fast as that.
        """
        self.budget, self.under, self.measure, self.state = budget, under, measure, state
        self.settle: Callable[[], bool] | None = settle
        self.find, self.unit = pricing.find, pricing.unit
        key = pricing.key(under)
        self.saved: dict[str, Any] = {}
        if state.exists():
            self.saved = json.loads(state.read_text())
        elif earlier:
            self.saved = json.loads(earlier.read_text()) | {"fits": []}
        self.elsewhere = bool(self.saved.get("fits")) and self.saved["key"] != key
        if self.elsewhere:
            self.under = Conditions(**{name: self.saved["key"][name] for name in asdict(under)})
        elif self.saved.get("key") != key:  # nothing yet, or another machine's
            self.saved = {"key": key, "readings": [], "table": None, "fits": []}
        self.readings = {Structure.from_json(one["of"]): Reading(**one["reading"]) for one in self.saved["readings"]}
        self.first = self._read(pricing.smallest)
        if self.saved["table"] is None:
            self.saved["table"] = kept(cache, key, lambda: pricing.learn(self._read, self.first))
            self._save()
        self.cost = pricing.prices(self.saved["table"])
        self._ask(pricing.fastest)
        if self.share < self.first.ratio and self._again([pricing.fastest]):
            self._ask(pricing.fastest)
        self.least = pricing.least(self.cost)
        self.latency = self._latency(pricing)
        if not self.elsewhere:
            hear(self.latency)
        if self.share < self.first.ratio:
            raise SpecError(f"/budget/{budget.kind}", f"out of reach: {self._reach()}")
        self.limit = self._limit(AIM * self.share)
        self.fits: list[dict[str, Any]] = self.saved["fits"]

    def fit(self, scores: Scores) -> Structure:
        """The slowest of the measured structures that are within the limit; SpecError if none is.

        The same scores decide alike in a later attempt: what was read for them is not read again.
        """
        tried: dict[Structure, Reading] = {}
        aim = AIM * self.share
        for _ in range(ROUNDS):
            structure = self.find(scores, self.cost, self._limit(aim))
            if structure in tried:
                if tried[structure].ratio <= self.share:
                    break
                aim = (self.cost.model(structure) - 1) / (self.cost.dense + self.cost.outside)  # less than that
                continue
            reading = tried[structure] = self._read(structure)
            if FLOOR * self.share <= reading.ratio <= self.share:
                break
            aim *= AIM * self.share / reading.ratio
        met = {structure: reading.ratio for structure, reading in tried.items() if reading.ratio <= self.share}
        best = max(met, key=met.__getitem__, default=None)
        self.fits = [
            {
                **asdict(reading),
                "of_dense": reading.ratio,
                "predicted": self.cost.model(structure) / (self.cost.dense + self.cost.outside),
                "kept": structure is best,
            }
            for structure, reading in tried.items()
        ]
        if best is None:
            if self._again([*tried]):
                return self.fit(scores)
            for structure in tried:  # another attempt reads anew
                del self.readings[structure]
            self._save()
            found = ", ".join(f"{self._ms(reading.ratio):.3g}" for reading in tried.values())
            raise SpecError(
                f"/budget/{self.budget.kind}",
                f"not met: {self._reach()}; what was fitted to that took {found} ms. Ask for a little more time, or "
                "measure on a machine that does less else",
            )
        self.saved["fits"] = self.fits
        self._save()
        return best

    def report(self, structure: Structure, fits: Sequence[Mapping[str, Any]]) -> BudgetMet:
        """What was asked, what was met, and how it was measured: when it was decided, and `again` on that machine.

        `limit`, `met` and `dense` are parts of the dense latency in the ms that it had at the job's start; in
        `measured`, `ms` and `dense_ms` are what was read in the run that decided.
        """
        (deciding,) = (one for one in fits if one["kept"])
        again = None if self.elsewhere else self.measure(structure)
        return BudgetMet(
            cost=self.budget.kind,
            of="model",
            asked=self.budget.value,
            limit=self._ms(self.share),
            met=self._ms(deciding["of_dense"]),
            dense=self.first.dense_ms,
            fraction=deciding["of_dense"],
            sequence_length=self.under.length,
            measured=Measured(
                **asdict(self.under),
                **{name: deciding[name] for name in ("ms", "dense_ms", "passes", "spread", "median_ms")},
                p95_ms=deciding.get("p95_ms"),
                again=again and self._ms(again.ratio),
                fits=list(fits),
            ),
        )

    def _ask(self, fastest: Structure) -> None:
        """What the limit is, as a part of the dense latency."""
        self.first = self._read(fastest)
        asked_ms = self.budget.latency_ms or self.first.dense_ms / (self.budget.speedup or 1)
        self.share = asked_ms / self.first.dense_ms

    def _again(self, structures: Sequence[Structure]) -> bool:
        """Whether these are to be read again: once, if they were read beside other work, whose end is waited for."""
        if self.settle is None or self.elsewhere:
            return False
        settle, self.settle = self.settle, None
        if not settle() and max(self.readings[one].waited for one in structures) < BUSY:
            return False
        for one in structures:
            del self.readings[one]
        return True

    def _latency(self, pricing: Pricing) -> Latency:
        """The range that was found, and what lies between."""
        low = self.first.ratio
        ratios = {part: min(1.0, max(low, pricing.ratio(self.cost, part))) for part in PARTS}
        curve = [Point(left=part, ms=round(self._ms(ratio), 4)) for part, ratio in ratios.items()]
        return Latency(
            **asdict(self.under), lowest_ms=round(self._ms(low), 4), dense_ms=round(self.first.dense_ms, 4), curve=curve
        )

    def _read(self, structure: Structure) -> Reading:
        """Measured once in the life of the job."""
        if structure not in self.readings:
            self.readings[structure] = self.measure(structure)
            self._save()
        return self.readings[structure]

    def _save(self) -> None:
        self.saved["readings"] = [{"of": of.to_json(), "reading": asdict(one)} for of, one in self.readings.items()]
        scratch = self.state.with_suffix(".tmp")
        try:
            write_json(scratch, self.saved)
            scratch.replace(self.state)
        except OSError as error:  # a full disk: the job goes on, and measures again if it is resumed
            log.warning("cannot save what was measured: %s", error)

    def _limit(self, share: float) -> int:
        """Of the encoder layers, in the table's unit, for a part of the dense latency."""
        cost = self.cost
        limit = int(min(share, 1) * (cost.dense + cost.outside)) - cost.outside
        return min(max(limit, self.least), cost.dense)

    def _ms(self, ratio: float) -> float:
        return ratio * self.first.dense_ms

    def _reach(self) -> str:
        low, dense, under = self._ms(self.first.ratio), self.first.dense_ms, self.under
        return (
            f"this model takes {low:.3g} to {dense:.3g} ms (at most {dense / low:.1f} times as fast as dense) for a "
            f"batch of {under.batch_size} with {under.length} {self.unit}, by {under.runtime} on {under.device_name} "
            f"with {under.threads} threads; asked were {self._ms(self.share):.3g} ms"
        )
