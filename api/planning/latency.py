"""Budgets in time, as far as workers have measured models of these sizes before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from api.context import Context
from core.domains.channels.reach import Reach
from core.domains.transformer.costs import Costs
from core.ledger import latencies, workers
from core.spec.budget import of_size
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.latency import Latency

SPARE = 0.9  # of the fastest that was measured: readings differ by some percent


def measured(here: Context, costs: Sequence[Costs | Reach]) -> tuple[list[Latency], bool]:
    """What the model takes on the workers that are there, and whether that is known of each of them."""
    if not costs:
        return [], False
    first = costs[0]
    model = first.fingerprint if isinstance(first, Reach) else first.architecture.fingerprint
    with here.database.read() as session:
        devices = [worker.device for worker, _ in workers.alive(session)]
        found = latencies.known(session, model, devices)
    names = {one.device_name for one in found}
    return found, all(names & set(_names(device)) for device in devices)


def _names(device: Mapping[str, Any]) -> Iterator[str | None]:
    yield device.get("cpu")
    yield from (gpu["name"] for gpu in device.get("gpus") or ())


def unmeasured(spec: JobSpec, costs: Sequence[Costs | Reach], latency: Sequence[Latency]) -> Iterator[str]:
    """A sentence, where a budget in time is under conditions that nobody has measured."""
    timed = [pair for pair in zip(spec.sizes, costs, strict=False) if pair[0].budget.timed]
    if any(not _alike(size, cost, latency) for size, cost in timed) and not spec.probe:
        yield (
            "what this model takes under the budget's conditions on the workers that are there is not known yet: the "
            'same job with "probe": true measures it in about a minute, and trains nothing'
        )


def too_fast(spec: JobSpec, costs: Sequence[Costs | Reach], latency: Sequence[Latency]) -> list[SpecError]:
    """Budgets that no worker could meet."""
    found = []
    for i, (size, cost) in enumerate(zip(spec.sizes, costs, strict=False)):
        kind, asked = size.budget.kind, size.budget.value
        known = _alike(size, cost, latency) if size.budget.timed else []
        limits = [(asked if kind == "latency_ms" else one.dense_ms / asked, one) for one in known]
        if known and all(limit < SPARE * one.lowest_ms for limit, one in limits):
            field = f"/budget/{kind}"
            told = "; ".join(f"{one.says}; asked were {limit:.3g} ms" for limit, one in limits)
            found.append(SpecError(of_size(field, i) if spec.budgets else field, f"out of reach: {told}"))
    return found


def _alike(size: JobSpec, cost: Costs | Reach, latency: Sequence[Latency]) -> list[Latency]:
    """Those that were measured as the budget would be."""
    budget, length = size.budget, cost.side if isinstance(cost, Reach) else cost.length
    wanted = (budget.runtime or "torch", budget.batch_size or 1, length)
    here = [one for one in latency if (one.runtime, one.batch_size, one.length) == wanted]
    return [one for one in here if budget.device in (None, one.device)]
