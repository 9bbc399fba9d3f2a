"""What templates show of rows of the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from sqlalchemy.orm import Session

from api.context import Context
from api.page import charts
from api.routes.jobs import why_waiting
from core.ledger.jobs import listing, states
from core.ledger.tables import Job, now_ms
from core.spec import title
from core.spec.job import Stage
from core.spec.report import FamilyReport, Interval, Report, Result, Size, stored


@dataclass(frozen=True)
class Quality:
    """A metric of two models on the test rows, the second with its interval."""

    metric: str
    dense: float
    pruned: Interval


@dataclass(frozen=True)
class JobRow:
    """A job in a table."""

    id: str
    title: str
    status: str
    because: str | None  # why it waits, or failed
    stage: str | None
    overall: float | None
    eta_s: float | None
    model: str
    data: list[tuple[str, str]]  # id and name
    asked: str
    reached: str
    quality: Quality | None
    ms: float | None
    started_at: int | None
    took_s: float | None
    labels: Mapping[str, str]
    spark: charts.Spark | None = field(compare=False, default=None)

    @property
    def active(self) -> bool:
        """Whether it may change by itself."""
        return self.status not in states.TERMINAL


def rows_of(here: Context, session: Session, found: Sequence[Job]) -> list[JobRow]:
    """Jobs of a table."""
    ids = sorted({i for job in found for i in data_of(job.spec)})
    names = listing.names(session, here.tenant_id, ids)
    running = listing.progress(session, [job.id for job in found if job.status in states.RUNNING])
    why = why_waiting(here, session, found)
    return [row_of(job, names, why.get(job.id), running.get(job.id, [])) for job in found]


def row_of(
    job: Job, names: Mapping[str, str], because: str | None, progress: Sequence[Mapping[str, Any]] = ()
) -> JobRow:
    """One of them. `names` of data sets, by id."""
    report = stored(job.metrics)
    known = {**(report.data.names if report else {}), **names}
    result = taken(report)
    return JobRow(
        id=job.id,
        title=title.title(job.spec),
        status=job.status,
        because=because or (job.error or {}).get("message"),
        stage=job.stage if job.status in states.RUNNING else None,
        overall=job.progress.get("overall") if job.status in states.RUNNING else None,
        eta_s=job.progress.get("eta_s") if job.status == "running" else None,
        model=str(job.spec.get("model", "")),
        data=[(i, known.get(i, "deleted")) for i in data_of(job.spec)],
        asked=title.budgets(job.spec),
        reached=reached(report),
        quality=quality(report),
        ms=result.latency_ms.get("1") if result else None,
        started_at=job.started_at,
        took_s=took(job),
        labels=job.spec.get("labels") or {},
        spark=charts.spark(looks(report, progress, str((job.spec.get("task") or {}).get("metric")))),
    )


def took(job: Job) -> float | None:
    """Seconds from its first start to its end, or until now."""
    if job.started_at is None:
        return None
    end = job.finished_at or (now_ms() if job.status in states.RUNNING else None)
    return None if end is None else max(0.0, (end - job.started_at) / 1000)


def data_of(spec: Mapping[str, Any]) -> list[str]:
    """Ids of the data sets that a job reads, each once, the target's first."""
    task = spec.get("task") or {}
    data = task.get("data") or {}
    own = [data, *(data.get(name) or {} for name in ("train", "dev", "test"))]
    others = [task.get("unlabelled") or {}, *(spec.get("sources") or [])]
    ids = [ref.get("dataset") for ref in (*own, *(one.get("data") or {} for one in others))]
    return list(dict.fromkeys(i for i in ids if i))


def taken(report: Report | FamilyReport | None) -> Result | None:
    """What a job made: of several sizes the recommended one, or the smallest."""
    if isinstance(report, Report):
        return report.results.pruned
    size = taken_size(report)
    return size.result if size else None


def taken_size(report: Report | FamilyReport | None) -> Size | None:
    """Of several sizes the recommended one, or the smallest; None of one."""
    if not isinstance(report, FamilyReport):
        return None
    made = [size for size in report.sizes if size.result]
    return next((size for size in made if size.name == report.recommended), made[-1] if made else None)


def dense_of(report: Report | FamilyReport) -> Result:
    """What it was made of."""
    return report.results.dense if isinstance(report, Report) else report.dense


def quality(report: Report | FamilyReport | None) -> Quality | None:
    """By the task's metric; None where a report has none that this version can read."""
    result = taken(report)
    if report is None or result is None:
        return None
    metric = report.task.metric
    dense, pruned = dense_of(report).test.get(metric), result.test.get(metric)
    return Quality(metric, dense.value, pruned) if dense and pruned else None


def reached(report: Report | FamilyReport | None) -> str:
    """How much is left of what the budget counts; of several sizes, how many were made."""
    if isinstance(report, Report):
        return f"{report.budget.fraction:.1%}"
    made = [size for size in report.sizes if size.result] if report else []
    return f"{len(made)} of {len(report.sizes)} made" if report else ""


def looks(report: Report | FamilyReport | None, progress: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """The metric on dev as it went, or of several sizes on the test rows, the largest first."""
    if isinstance(report, Report):
        curves = (report.curves[stage] for stage in get_args(Stage) if stage in report.curves)  # JSONB has no order
        return [point[metric] for curve in curves for point in curve.points if metric in point]
    if report is not None:
        return [size.result.test[metric].value for size in report.sizes if size.result and metric in size.result.test]
    return [*_said(progress, metric)]


def _said(progress: Sequence[Mapping[str, Any]], metric: str) -> Iterator[float]:
    for said in progress:
        value = (said.get("dev") or {}).get(metric)
        if isinstance(value, int | float) and not said.get("control"):
            yield float(value)
