"""The calls of jobs."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from topwork import files
from topwork.errors import ApiError, JobFailed, ServerAway, TopworkError
from topwork.models import Accepted, Curves, Event, EventPage, FileList, Job, JobPage, OutputFile, Plan
from topwork.names import choose
from topwork.progress import Show, failure, progress_of
from topwork.requests import ask, parsed, part, send
from topwork.spec import Data, Spec, build, filled
from topwork.steps import Pause, Steps

PAGE = 100
SUBMIT_S = 180.0  # for an answer that may wait for data of a hub: longer than the server gives that
POLL_S = 1.0
LONG_POLL_S = 20.0
PATIENCE_S = 300.0  # with a server that is away while a job is waited for
SEARCHED = 1000  # newest jobs among which a name is looked for

ID = re.compile("job_[0-9a-f]{32}")
Named = str | Job


def submit(
    spec: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    task: str | Mapping[str, Any] | None = None,
    data: Data | None = None,
    unlabelled: Data | None = None,
    sources: Iterable[Data | Mapping[str, Any]] = (),
    budget: str | Mapping[str, Any] | None = None,
    title: str | None = None,
    key: str | None = None,
    **fields: Any,
) -> Steps[Accepted]:
    """Ask for a job: by a whole specification, by words, or by words that change one.

    `data` is a file (which is uploaded), a name or id of a data set, a mapping of splits to them, or as the API takes
    it; `fields` are the others of a specification. A lost answer is asked for again with the same idempotency key.
    """
    made = build(
        spec,
        model=model,
        task=task,
        data=data,
        unlabelled=unlabelled,
        sources=sources,
        budget=budget,
        title=title,
        fields=fields,
    )
    body = yield from filled(made, {}, Path())
    return (yield from post(body, key))


def post(body: Any, key: str | None = None) -> Steps[Accepted]:
    """Ask for a job by a specification that names no files; sent again, the same key gives the same job."""
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    return (yield from ask(Accepted, "POST", "/v1/jobs", json=body, headers=headers, timeout=_patient()))


def plan(
    spec: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    task: str | Mapping[str, Any] | None = None,
    data: Data | None = None,
    unlabelled: Data | None = None,
    sources: Iterable[Data | Mapping[str, Any]] = (),
    budget: str | Mapping[str, Any] | None = None,
    **fields: Any,
) -> Steps[Plan]:
    """What a job would do, without asking for it; takes what `submit` takes."""
    words: Spec = {"task": task, "data": data, "unlabelled": unlabelled, "sources": sources, "budget": budget}
    made = build(spec, model=model, title=None, fields=fields, **words)
    body = yield from filled(made, {}, Path())
    return (yield from post_plan(body))


def post_plan(body: Any) -> Steps[Plan]:
    """What a job of a specification that names no files would do."""
    return (yield from ask(Plan, "POST", "/v1/jobs:validate", json=body, timeout=_patient()))


def _patient() -> httpx.Timeout:
    return httpx.Timeout(SUBMIT_S, connect=5)


def jobs(
    cursor: str | None, *, status: str | None = None, labels: Mapping[str, str] | None = None
) -> Steps[tuple[list[Job], str | None]]:
    """All jobs, newest first; of a status, and with these labels."""
    asked: dict[str, Any] = {"limit": PAGE, "status": status, "cursor": cursor}
    asked["label"] = [f"{name}:{value}" for name, value in (labels or {}).items()]
    page = yield from ask(JobPage, "GET", "/v1/jobs", params={k: v for k, v in asked.items() if v})
    return page.items, page.next


def get(job: Named) -> Steps[Job]:
    """A job as it is now: by its id, the beginning or end of it, or its title."""
    if isinstance(job, Job):
        job = job.id
    if ID.fullmatch(job):
        return (yield from ask(Job, "GET", f"/v1/jobs/{job}"))
    found: list[Job] = []
    cursor: str | None = None
    while len(found) < SEARCHED:
        items, cursor = yield from jobs(cursor)
        found += items
        if cursor is None:
            break
    return choose("job", job, found, lambda one: (one.id,), lambda one: one.title)


def id_of(job: Named) -> Steps[str]:
    """The id of a job, asked for only where a name is given."""
    if isinstance(job, Job):
        return job.id
    return job if ID.fullmatch(job) else (yield from get(job)).id


def cancel(job: Named) -> Steps[Job]:
    """Stop a job; to ask again is harmless."""
    found = yield from id_of(job)
    return (yield from ask(Job, "POST", f"/v1/jobs/{found}/cancel"))


def retry(job: Named) -> Steps[Job]:
    """Queue a job again that failed or was cancelled; it goes on where it had saved its state."""
    found = yield from id_of(job)
    return (yield from ask(Job, "POST", f"/v1/jobs/{found}/retry", again=False))


def delete(job: Named) -> Steps[None]:
    """Forget a job that has ended, with its files."""
    found = yield from id_of(job)
    yield from send("DELETE", f"/v1/jobs/{found}")


def events(cursor: str | None, job: Named) -> Steps[tuple[list[Event], str | None]]:
    """What happened to a job so far, oldest first."""
    found = yield from id_of(job)
    page = yield from ask(EventPage, "GET", f"/v1/jobs/{found}/events", params={"after": cursor or "0"})
    return page.items, str(page.after) if page.items else None


def curves(job: Named) -> Steps[Curves]:
    """Curves of a job over the steps of its stages."""
    found = yield from id_of(job)
    return (yield from ask(Curves, "GET", f"/v1/jobs/{found}/metrics"))


def outputs(job: Named) -> Steps[list[OutputFile]]:
    """Files of a job that has succeeded."""
    found = yield from id_of(job)
    return (yield from ask(FileList, "GET", f"/v1/jobs/{found}/files")).items


def download(job: Named, folder: str | Path, *, size: str | None = None) -> Steps[dict[str, str]]:
    """Every file of a job into a folder that has no others, checked; path -> sha256.

    One that was cut off goes on where it stopped. Of a job of several sizes, `size` takes one alone.
    """
    found = yield from id_of(job)
    there = yield from outputs(found)
    if not there:
        now = yield from get(found)
        raise TopworkError(f"job {found} has no files: it is {now.status}")
    return (yield from files.save(there, Path(folder), size))


def report(job: Named, *, size: str | None = None, html: bool = False) -> Steps[Any]:
    """The report: as JSON, or with `html` the page as text."""
    found = yield from id_of(job)
    headers, params = {"Accept": "text/html" if html else "application/json"}, {"size": size} if size else {}
    path = f"/v1/jobs/{found}/report"
    answer = yield from send("GET", path, headers=headers, params=params, follow_redirects=True)
    return answer.text if html else answer.json()


def wait(
    job: Named, *, progress: bool | Show = False, timeout: float | None = None, patience: float = PATIENCE_S
) -> Steps[Job]:
    """Wait for the end of a job; raises JobFailed unless it succeeds.

    `progress` shows it as it goes: in a terminal, in a notebook, or by lines. A server that is away for less than
    `patience` seconds (while it is started again, say) changes nothing.
    """
    found = yield from id_of(job)
    ended = (yield from follow({found: found}, progress, timeout=timeout, patience=patience))[found]
    if reason := failure(ended):
        raise JobFailed(reason, ended)
    return ended


@dataclass
class _Seen:
    """How a job was last answered."""

    job: Job | None = None
    etag: str = ""
    after: int = 0
    news: list[Event] = field(default_factory=list)


def follow(
    named: Mapping[str, str],
    progress: bool | Show = False,
    *,
    timeout: float | None = None,
    patience: float = PATIENCE_S,
) -> Steps[dict[str, Job]]:
    """Wait for the end of several jobs (name -> id), however they end; name -> job."""
    until = None if timeout is None else time.monotonic() + timeout
    seen, gone = {name: _Seen() for name in named}, _Gone(patience)
    with progress_of(progress) as show:
        while True:
            # Alone, a job that waits in the queue need not be asked for every second.
            left = [name for name, one in seen.items() if one.job is None or not one.job.ended]
            wait_s = LONG_POLL_S if len(left) == 1 else 0.0
            if until is not None:
                wait_s = max(0.0, min(wait_s, until - time.monotonic()))
            try:
                for name in left:
                    yield from _look(named[name], seen[name], wait_s, gone.until(), news=bool(progress))
                gone.back()
            except ServerAway as error:
                yield Pause(gone.pause(error))
            known = {name: one.job for name, one in seen.items() if one.job is not None}
            show({name: known[name] for name in known}, [e for one in seen.values() for e in one.news], gone.says)
            for one in seen.values():
                one.news = []
            if len(known) == len(named) and all(job.ended for job in known.values()):
                return known
            if until is not None and time.monotonic() > until:
                raise TopworkError(f"not at an end within {timeout:g} s: {', '.join(named.values())}; it goes on")
            yield Pause(POLL_S)


def _look(job_id: str, seen: _Seen, wait_s: float, until: float, news: bool) -> Steps[None]:
    headers = {"If-None-Match": seen.etag} if seen.etag else {}
    params = {"wait": f"{wait_s:g}"} if wait_s and seen.etag else {}
    answer = yield from send("GET", f"/v1/jobs/{part(job_id)}", headers=headers, params=params, until=until)
    if answer.status_code == httpx.codes.NOT_MODIFIED:
        return
    job = parsed(Job, answer)
    if news:
        more, path = True, f"/v1/jobs/{part(job_id)}/events"
        while more:
            page = yield from ask(EventPage, "GET", path, params={"after": seen.after}, until=until)
            seen.news, seen.after, more = [*seen.news, *page.items], page.after, len(page.items) >= PAGE
    seen.job, seen.etag = job, answer.headers.get("etag", "")


class _Gone:
    """Since when the server is away, and for how long that is borne."""

    def __init__(self, patience: float) -> None:
        self._patience, self._since = patience, 0.0
        self.says: str | None = None

    def until(self) -> float:
        """When patience ends with a server that is asked now; it is away since it was asked in vain."""
        self._since = self._since if self.says else time.monotonic()
        return self._since + self._patience

    def back(self) -> None:
        """It answers."""
        self.says = None

    def pause(self, error: ServerAway) -> float:
        """Seconds until it is asked again; raises the error once patience is at an end."""
        away_s = time.monotonic() - self._since
        if away_s >= self._patience:
            raise error
        self.says = f"the server is away for {away_s:.0f} s ({_short(error)}); asking again"
        return POLL_S


def _short(error: ApiError) -> str:
    return str(error).splitlines()[0][:60]
