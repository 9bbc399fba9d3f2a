"""The calls of the API but for those of jobs: each yields requests (`steps.py`), and returns what was answered."""

from __future__ import annotations

from pathlib import Path

import httpx

from topwork.errors import ApiError, TopworkError
from topwork.files import file_sha256
from topwork.inventory import (
    Dataset,
    DatasetPage,
    FileOptions,
    MethodList,
    Model,
    ModelList,
    Preview,
    PruningMethod,
    Worker,
    WorkerList,
)
from topwork.names import choose
from topwork.requests import ask, part, send
from topwork.steps import Send, Steps, Work

PAGE = 100
UPLOAD_S = 480.0  # for an answer that waits until the file is read: longer than the server gives that


def ready() -> Steps[bool]:
    """Whether the server has every part that it needs."""
    try:
        answer: httpx.Response = yield Send("GET", "/readyz")
    except httpx.TransportError:
        return False
    return answer.status_code == 200


def upload(
    file: str | Path, *, delimiter: str | None = None, encoding: str | None = None, header: bool | None = None
) -> Steps[Dataset]:
    """The data set of a file: among the newest the same file of the same name, read as is asked here; else an upload.

    It is sent again only if the server was never reached: an upload has no idempotency key.
    """
    path = Path(file)
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        name = path.name.encode(errors="backslashreplace").decode()
        raise TopworkError(f"{name}: the file's name is no UTF-8; give it another") from error
    sha256 = yield Work(lambda: file_sha256(path))
    asked = FileOptions(delimiter=delimiter, encoding=encoding, header=header)
    for dataset in (yield from _newest()):
        if (dataset.name, dataset.upload_sha256, _asked(dataset)) == (path.name, sha256, asked):
            return dataset
    told = asked.model_dump(exclude_none=True)
    form = {name: str(value).lower() if name == "header" else value for name, value in told.items()}
    with path.open("rb") as content:
        sent = {"files": {"file": (path.name, content)}, "data": form, "timeout": httpx.Timeout(UPLOAD_S, connect=5)}
        return (yield from ask(Dataset, "POST", "/v1/datasets", again=False, **sent))


def _asked(dataset: Dataset) -> FileOptions:
    return (dataset.understood and dataset.understood.asked) or FileOptions()


def _newest() -> Steps[list[Dataset]]:
    try:
        return (yield from ask(DatasetPage, "GET", "/v1/datasets", params={"limit": PAGE})).items
    except ApiError as error:
        if error.status != httpx.codes.FORBIDDEN:  # of a key that may write, and not read
            raise
        return []


def datasets(cursor: str | None) -> Steps[tuple[list[Dataset], str | None]]:
    """All data sets, newest first."""
    page = yield from ask(DatasetPage, "GET", "/v1/datasets", params=_page(cursor))
    return page.items, page.next


def dataset(name: str) -> Steps[Dataset]:
    """A data set by its id, or the name of its file where no other has it."""
    if name.startswith("ds_") and len(name) == 35:
        return (yield from ask(Dataset, "GET", f"/v1/datasets/{part(name)}"))
    found: list[Dataset] = []
    cursor: str | None = None
    while True:
        items, cursor = yield from datasets(cursor)
        found += items
        if cursor is None:
            return choose("data set", name, found, lambda one: (one.id,), lambda one: one.name)


def preview(name: str, rows: int = 10) -> Steps[Preview]:
    """The first rows of a data set."""
    found = yield from dataset(name)
    return (yield from ask(Preview, "GET", f"/v1/datasets/{found.id}/preview", params={"rows": rows}))


def delete_dataset(name: str) -> Steps[None]:
    """Forget a data set. Jobs that have ended keep what they made of it."""
    found = yield from dataset(name)
    yield from send("DELETE", f"/v1/datasets/{found.id}")


def model_list() -> Steps[ModelList]:
    """Models that are there, and what else lies in the models folder."""
    return (yield from ask(ModelList, "GET", "/v1/models"))


def models() -> Steps[list[Model]]:
    """Models that can be pruned."""
    return (yield from model_list()).items


def model(name: str) -> Steps[Model]:
    """A model by its name; TopworkError says why one that lies there cannot be used."""
    listed = yield from model_list()
    for one in listed.unusable:
        if one.name == name:
            raise TopworkError(f"{name}: {one.reason}")
    return choose("model", name, listed.items, lambda one: (one.name,), lambda one: one.name)


def methods() -> Steps[list[PruningMethod]]:
    """The pruning methods: what each needs and costs, and when to use it."""
    return (yield from ask(MethodList, "GET", "/v1/methods")).items


def workers() -> Steps[list[Worker]]:
    """Who runs jobs."""
    return (yield from ask(WorkerList, "GET", "/v1/workers")).items


def _page(cursor: str | None) -> dict[str, str | int]:
    return {"limit": PAGE, **({"cursor": cursor} if cursor else {})}
