"""What a job brought: curves, report, archive."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.ledger.database import Database
from core.ledger.files.stores import open_storage
from core.ledger.jobs import attempts, claims
from core.ledger.settings import Settings
from tests.api.conftest import OUTPUTS, one_database
from tests.conftest import every_storage


def test_curves_follow_the_steps_and_a_resumed_job_overwrites_them(
    client: TestClient, payload: dict[str, Any], database: Database
) -> None:
    job_id = client.post("/v1/jobs", json=payload).json()["id"]
    assert client.get(f"/v1/jobs/{job_id}/metrics").json() == {"series": []}

    def run(attempt: int, steps: range) -> None:
        for step in steps:
            progress = {"step": step, "steps": 40, "overall": step / 40, "sparsity": None, "dev": {"accuracy": attempt}}
            attempts.report(session, job_id, attempt, {"event": "progress", "stage": "teach", **progress})

    with database.begin() as session:
        claims.claim(session, job_id, "w", 30)
        run(1, range(0, 25, 5))
        attempts.give_back(session, job_id, 1, "crashed")
        claims.claim(session, job_id, "w", 30)
        run(2, range(10, 40, 10))
        control = {"event": "progress", "stage": "teach", "control": True, "step": 5, "steps": 9}
        control["dev"] = {"accuracy": 9, "loss": None}
        attempts.report(session, job_id, 2, control)
        attempts.report(
            session, job_id, 2, control | {"stage": "recover", "control": False, "size": "params-0.1", "overall": 0.9}
        )
    [curve, beside, small] = client.get(f"/v1/jobs/{job_id}/metrics").json()["series"]
    assert (curve["stage"], curve["name"]) == ("teach", "dev.accuracy")
    assert (beside["stage"], beside["points"]) == ("control teach", [[5, 9]])
    assert curve["points"] == [[0, 1], [5, 1], [10, 2], [20, 2], [30, 2]]
    assert (small["stage"], small["points"]) == ("recover params-0.1", [[5, 9]])


@every_storage
def test_the_report_as_json_and_as_a_page(client: TestClient, files: str) -> None:
    here = files.removesuffix("/files")
    assert client.get(here).json()["links"]["report"] == f"{here}/report"
    as_json = client.get(f"{here}/report")
    assert (as_json.content, as_json.headers["content-type"]) == (b"{}", "application/json")
    page = client.get(f"{here}/report", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.content, page.headers["content-type"]) == (OUTPUTS["report.html"], "text/html; charset=utf-8")
    assert page.headers["content-disposition"].startswith("inline;")
    assert page.headers["content-security-policy"].startswith("default-src 'none'") and page.headers["vary"] == "Accept"
    again = client.get(f"{here}/report", headers={"If-None-Match": as_json.headers["etag"]})
    assert (again.status_code, again.headers["vary"]) == (304, "Accept")


@one_database
def test_each_size_has_a_report_where_the_page_links_it(client: TestClient, files: str) -> None:
    here = files.removesuffix("/files")
    assert client.get(f"{here}/report?size=params-0.1").content == OUTPUTS["params-0.1/report.json"]
    page = client.get(f"{here}/params-0.1/report.html")
    assert page.content == OUTPUTS["params-0.1/report.html"] and page.headers["content-disposition"].startswith(
        "inline;"
    )
    for missing in ("report?size=params-0.2", "params-0.2/report.html", "report?size=..%2F.."):
        assert client.get(f"{here}/{missing}").status_code == 404


@every_storage
def test_the_archive_holds_every_file_and_says_its_length(client: TestClient, files: str) -> None:
    here = files.removesuffix("/files") + "/archive"
    answer = client.get(here)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == OUTPUTS
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    same = client.get(here, headers={"If-None-Match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


@every_storage
@one_database
@pytest.mark.field(
    "1. Data at the door", "`/archive`: Range, HEAD, the same bytes each time", "resumable, with a strong ETag"
)
def test_an_archive_is_the_same_bytes_each_time_and_can_be_gone_on_with(client: TestClient, files: str) -> None:
    here = files.removesuffix("/files") + "/archive"
    whole = client.get(here)
    head = client.head(here)
    assert (head.status_code, head.content) == (200, b"") and not whole.headers["etag"].startswith("W/")
    for name in ("content-length", "etag", "accept-ranges", "content-type"):
        assert head.headers[name] == whole.headers[name]
    size, half = len(whole.content), len(whole.content) // 2
    same = {"If-Range": whole.headers["etag"]}
    rest = client.get(here, headers={"Range": f"bytes={half}-", **same})
    assert (rest.status_code, rest.content) == (206, whole.content[half:])
    assert rest.headers["content-range"] == f"bytes {half}-{size - 1}/{size}"
    assert client.get(here, headers={"Range": "bytes=-22", **same}).content == whole.content[-22:]
    other = client.get(here, headers={"Range": f"bytes={half}-", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, whole.content)
    assert client.get(here, headers={"Range": f"bytes={size}-"}).status_code == 416
    assert client.get(here, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_an_archive_that_would_be_cut_short_is_an_error(client: TestClient, files: str, settings: Settings) -> None:
    open_storage(settings).delete(client.get(files).json()["items"][0]["sha256"])
    assert client.get(files.removesuffix("/files") + "/archive").status_code == 500


@one_database
def test_a_job_without_results_says_so(client: TestClient, payload: dict[str, Any]) -> None:
    job_id = client.post("/v1/jobs", json=payload).json()["id"]
    for path in ("report", "archive"):
        answer = client.get(f"/v1/jobs/{job_id}/{path}")
        assert answer.status_code == 404 and "queued" in answer.json()["detail"]
