"""A plan in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from api.amounts import duration, size
from api.schemas import Plan, Reach, Rows
from core.spec import title
from core.spec.latency import Latency

MANY = 12  # labels that are named
COUNTS = {"params": "parameters", "macs": "multiply-accumulates", "bytes": "bytes"}


def sentences(plan: Plan) -> Iterator[str]:
    """What the job would do, in the order in which it does it."""
    yield from _rows(plan.rows)
    if plan.labels:
        more = f" and {len(plan.labels) - MANY} more" if len(plan.labels) > MANY else ""
        named = f"{', '.join(plan.labels[:MANY])}{more}"
        what = f"tells {named} apart" if plan.labels[1:] else f"predicts {named}"
        yield f"It {what}" + (f", on {plan.head}." if plan.head else ".")
    yield from _budget(plan)
    yield from _comes_to(plan)
    yield from (f"As measured, {one.says}." for one in plan.latency)
    if plan.estimate is not None:
        yield from _estimate(plan)


def _rows(rows: Rows) -> Iterator[str]:
    yield f"It learns from {rows.train:,} rows, chooses by {rows.dev:,}, and is measured on {rows.test:,} others, once."
    if rows.unlabelled:
        yield f"It borrows from {rows.unlabelled:,} rows of your own without labels."
    if rows.sources:
        yield f"It may borrow from sources of {' and '.join(f'{count:,}' for count in rows.sources)} rows."
    if dropped := ", ".join(f"{count:,} {why.replace('_', ' ')}" for why, count in rows.dropped.items() if count):
        yield f"Rows that are left out: {dropped}."


def _budget(plan: Plan) -> Iterator[str]:
    asked = title.budgets(plan.spec)
    if plan.sizes:
        limits = ", ".join(f"{one.name} (at most {one.limit:,})" if one.limit else one.name for one in plan.sizes)
        yield f"It makes {len(plan.sizes)} sizes, taught once: {limits}."
    elif plan.limit is not None and (reach := _reach(plan)) is not None:
        yield (
            f"The budget, {asked}, is at most {_amount(reach, plan.limit)} of {_amount(reach, reach.dense)}; "
            f"the least that can be reached is {_amount(reach, reach.lowest)}."
        )
    else:
        yield f"The budget is {asked}; what of it can be reached, the worker finds out before anything is trained."
    others = [f"{_range(one)} of the {one.of}" for one in plan.reach]
    if others:
        yield f"Within reach: {'; '.join(others)}."


def _comes_to(plan: Plan) -> Iterator[str]:
    """About how large the file is, and how long a pass takes, of a part of the encoder."""
    dense = {f"{one.cost} of {one.of}": one.dense for one in plan.reach}
    whole, budget = dense.get("params of encoder"), plan.spec.get("budget") or {}
    if plan.limit is None or whole is None or budget.get("params") is None or budget.get("of") == "model":
        return
    found = []
    if (file := dense.get("bytes of model")) and (plan.spec.get("export") or {}).get("precision") in (None, "float32"):
        trimmed = "trim" in (plan.spec.get("vocabulary"), plan.spec.get("hidden_size"))  # how far, the worker finds out
        found.append(f"a file of {'at most' if trimmed else 'about'} {size(file - 4 * (whole - plan.limit))}")
    for one in plan.latency[:1]:
        under = f"{one.runtime}, batch of {one.batch_size}, length {one.length}"
        found.append(f"about {_at(one, plan.limit / whole):.3g} ms a pass ({under})")
    if found:
        yield f"That comes to {' and '.join(found)}."


def _at(latency: Latency, left: float) -> float:
    """Milliseconds with such a part left, between the points that are known."""
    points = sorted([(one.left, one.ms) for one in latency.curve] + [(0.0, latency.lowest_ms), (1.0, latency.dense_ms)])
    for (low, before), (high, after) in pairwise(points):
        if left <= high:
            return before + (after - before) * (left - low) / (high - low)
    return latency.dense_ms


def _reach(plan: Plan) -> Reach | None:
    budget = plan.spec.get("budget") or {}
    kind = next((name for name in COUNTS if budget.get(name) is not None), "")
    of = budget.get("of") or ("encoder" if kind == "params" else "model")
    exact = [one for one in plan.reach if one.cost == kind and one.of == of]
    return next(iter([*exact, *(one for one in plan.reach if one.cost == kind)]), None)


def _range(reach: Reach) -> str:
    low = size(reach.lowest) if reach.cost == "bytes" else f"{reach.lowest:,}"
    return f"{low} to {_amount(reach, reach.dense)}"


def _amount(reach: Reach, count: int) -> str:
    return size(count) if reach.cost == "bytes" else f"{count:,} {COUNTS[reach.cost]}"


def _estimate(plan: Plan) -> Iterator[str]:
    assert plan.estimate is not None
    device = "a GPU" if plan.estimate.device == "cuda" else "a CPU"
    memory = size(plan.estimate.memory_bytes)
    if plan.estimate.seconds is None:
        yield f"On {device} it needs {memory} of memory at most; how long it takes, nothing tells yet."
        return
    low, high = (duration(value) for value in (plan.estimate.seconds.low, plan.estimate.seconds.high))
    yield f"On {device} it takes {low} to {high} ({plan.estimate.basis}), and {memory} of memory at most."
