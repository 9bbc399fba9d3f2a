"""`/v1/workers`: who is there to run jobs."""

from __future__ import annotations

from fastapi import APIRouter

from api.context import Here
from api.schemas import Device, Worker, WorkerList, instant
from core.ledger import workers

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("")
def list_workers(here: Here) -> WorkerList:
    """Workers that were heard of in the last seconds. Without any, jobs stay queued."""
    with here.database.read() as session:
        rows = workers.alive(session)
    return WorkerList(
        items=[
            Worker(
                name=row.name,
                slots=row.slots,
                busy=busy,
                device=Device.model_validate(row.device),
                started_at=instant(row.started_at),
                seen_at=instant(row.seen_at),
            )
            for row, busy in rows
        ]
    )
