"""Latencies that workers have measured: what a budget in milliseconds is planned by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.ledger.tables import MeasuredLatency, clock_ms
from core.spec.latency import Latency

CONDITIONS = ("runtime", "device", "device_name", "threads", "batch_size", "length")
SHOWN = 20  # conditions of one model


def keep(session: Session, model: str, latency: Mapping[str, Any]) -> None:
    """Replace what was measured of a model of these sizes under the same conditions."""
    key = json.dumps([model, *(latency.get(name) for name in CONDITIONS)])
    name = hashlib.sha256(key.encode()).hexdigest()
    row = {"model": model[:64], "latency": dict(latency), "at": clock_ms(session)}
    with suppress(IntegrityError), session.begin_nested():  # of two workers at once, the first tells as much
        session.merge(MeasuredLatency(id=name, **row))


def known(session: Session, model: str, devices: Sequence[Mapping[str, Any]]) -> list[Latency]:
    """What models of these sizes take on such devices, the last that was measured first."""
    names = {device.get("cpu") for device in devices} | {gpu["name"] for d in devices for gpu in d.get("gpus") or ()}
    query = select(MeasuredLatency.latency).where(MeasuredLatency.model == model).order_by(MeasuredLatency.at.desc())
    found = []
    for row in session.scalars(query):
        try:
            latency = Latency.model_validate(row)
        except ValidationError:  # of another version
            continue
        if latency.device_name in names:
            found.append(latency)
    return found[:SHOWN]
