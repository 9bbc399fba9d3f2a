"""The API as a client sees it: httpx, with retries where a request may safely be sent again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

TRIES = 6
SUBMIT_S = 180.0  # for an answer that may wait for data of a hub: longer than the server gives that


class ApiError(Exception):
    """The server refused, or could not be reached. `str()` is one line a fault: "field: what is wrong"."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Calls to one server, with the key in TOPWORK_KEY if there is one.

    `pause` waits between tries (seconds), so that a test need not.
    """

    def __init__(
        self,
        server: str,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = server
        self._pause = pause
        self._told: dict[str, tuple[str, dict[str, Any]]] = {}  # job -> (ETag, how it stood)
        key = os.environ.get("TOPWORK_KEY", "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ApiError("TOPWORK_KEY: holds a character that no key has; set it to what 'topwork keys create' said")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._http = httpx.Client(
                base_url=server, headers=headers, timeout=httpx.Timeout(60, connect=5), transport=transport
            )
        except httpx.InvalidURL as error:
            raise ApiError(f"{server}: is not an address: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def ready(self) -> bool:
        """Whether the server has every part that it needs."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def upload(self, path: Path) -> dict[str, Any]:
        """The data set of a file: the same file of the same name among the newest that are there, else an upload.

        It is sent again only if the server was never reached: an upload has no idempotency key.
        """
        sha256 = file_sha256(path)
        for dataset in self._newest_datasets():
            if (dataset["name"], dataset["upload_sha256"]) == (path.name, sha256):
                return dataset
        with path.open("rb") as data:
            return self._json("POST", "/v1/datasets", "id", again=False, files={"file": (path.name, data)})

    def _newest_datasets(self) -> list[dict[str, Any]]:
        try:
            items: list[dict[str, Any]] = self._json("GET", "/v1/datasets?limit=100", "items")["items"]
        except ApiError as error:
            if error.status != httpx.codes.FORBIDDEN:  # of a key that may write, and not read
                raise
            return []
        return items

    def submit(self, spec: Any, key: str) -> dict[str, Any]:
        """Ask for a job; sent again, the same key gives the same job."""
        return self._json(
            "POST",
            "/v1/jobs",
            "id",
            json=spec,
            headers={"Idempotency-Key": key},
            timeout=httpx.Timeout(SUBMIT_S, connect=5),
        )

    def job(self, job_id: str, wait_s: float = 0) -> dict[str, Any]:
        """How a job stands; with `wait_s`, the answer comes once that is not what was told last, or then."""
        etag, told = self._told.get(job_id, ("", {}))
        headers = {"If-None-Match": etag} if etag else {}
        params = {"wait": f"{wait_s:g}"} if wait_s else {}
        answer = self._send("GET", f"/v1/jobs/{quote(job_id, safe='')}", headers=headers, params=params)
        if answer.status_code != httpx.codes.NOT_MODIFIED:
            told = _object(answer, self.server, "id", "status", "spec")
            self._told[job_id] = answer.headers.get("etag", ""), told
        return told

    def cancel_all(self) -> None:
        """Stop every job that has not ended."""
        for status in ("queued", "running"):
            for job in self._json("GET", f"/v1/jobs?status={status}&limit=100", "items")["items"]:
                self._json("POST", f"/v1/jobs/{job['id']}/cancel", "id")

    def files(self, job_id: str) -> list[dict[str, Any]]:
        """The files of a job that has succeeded."""
        items: list[dict[str, Any]] = self._json("GET", f"/v1/jobs/{quote(job_id, safe='')}/files", "items")["items"]
        return items

    def fetch(self, href: str, sha256: str, target: Path) -> None:
        """Download a file: continue what `target`.part holds, check the sha256, then give it its name."""
        part = target.with_name(target.name + ".part")
        target.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES):
            try:
                self._continue(href, sha256, part)
            except httpx.TransportError as error:
                if attempt == TRIES - 1:
                    raise _unreachable(self.server, error) from error
                self._pause(_backoff(attempt))
                continue
            except ApiError as error:
                if not _passing(error.status) or attempt == TRIES - 1:
                    raise
                self._pause(_backoff(attempt))
                continue
            if file_sha256(part) == sha256:
                part.replace(target)
                return
            part.unlink()  # damaged on the way, or left over from another file: once more, from the start
        raise ApiError(f"{target.name}: what arrives is not what the server names (sha256 {sha256}); try again later")

    def _continue(self, href: str, sha256: str, part: Path) -> None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{sha256}"'} if have else {}
        headers["Accept-Encoding"] = "identity"
        with self._http.stream("GET", href, headers=headers, follow_redirects=True) as answer:  # to S3, without our key
            if answer.status_code == 416:  # all of it is there already
                return
            if answer.status_code not in (200, 206):
                answer.read()
                raise _refused(answer)
            with part.open("ab" if answer.status_code == 206 else "wb") as out:
                for chunk in answer.iter_raw():  # not gathered to larger ones, which a cut would lose
                    out.write(chunk)

    def _json(self, method: str, path: str, field: str, *, again: bool = True, **arguments: Any) -> dict[str, Any]:
        return _object(self._send(method, path, again=again, **arguments), self.server, field)

    def _send(self, method: str, path: str, *, again: bool = True, **arguments: Any) -> httpx.Response:
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            try:
                answer = self._http.request(method, path, **arguments)
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise ApiError(f"{self.server}: is not an address; give one such as http://127.0.0.1:8000") from error
            except httpx.TransportError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if last or not (again or never_sent):
                    raise _unreachable(self.server, error) from error
            else:
                if answer.is_success or answer.status_code == httpx.codes.NOT_MODIFIED:
                    return answer
                if last or not again or not _passing(answer.status_code):
                    raise _refused(answer)
            self._pause(_backoff(attempt))
        raise AssertionError("the last try returns or raises")


def download_all(client: Client, job_id: str, folder: Path, size: str | None = None) -> dict[str, str]:
    """Every file of a job into `folder`, checked; returns path -> sha256. Files that are there already are kept.

    Of a job of several sizes, the files of that `size` alone, as if it had been the job's only one.
    """
    files = client.files(job_id)
    if not files:
        raise ApiError(f"job {job_id} has no files: it is {client.job(job_id)['status']}")
    if size is not None:
        files = _of_size(files, size)
    sums = {str(file["path"]): str(file["sha256"]) for file in files}
    if others := _others(folder, sums):
        raise ApiError(f"{folder} holds files that are not of this job: {', '.join(others[:5])}; choose another folder")
    for file in files:
        target = folder / _safe(str(file["path"]))
        if not (target.is_file() and file_sha256(target) == file["sha256"]):
            client.fetch(str(file["href"]), str(file["sha256"]), target)
    if "manifest.json" in sums:
        named: Mapping[str, str] = json.loads((folder / "manifest.json").read_bytes())["files"]
        if wrong := sorted(path for path, sha256 in named.items() if sums.get(path) != sha256):
            raise ApiError(f"manifest.json names another content for: {', '.join(wrong)}")
    return sums


def _of_size(files: Sequence[Mapping[str, Any]], size: str) -> list[dict[str, Any]]:
    """Those in the folder of a size, by their paths in it."""
    found = [
        {**file, "path": str(file["path"]).removeprefix(f"{size}/")}
        for file in files
        if str(file["path"]).startswith(f"{size}/")
    ]
    if not found:
        path = "/manifest.json"
        sizes = sorted(str(file["path"]).removesuffix(path) for file in files if str(file["path"]).endswith(path))
        known = f"its sizes are {', '.join(sizes)}" if sizes else "it has one size alone: leave --size out"
        raise ApiError(f"the job has no size {size!r}: {known}")
    return found


def _others(folder: Path, sums: Mapping[str, str]) -> list[str]:
    """Files that another job's download has left, by its manifest: an old model.onnx beside new weights, say."""
    try:
        before = json.loads((folder / "manifest.json").read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sorted(path for path in before if path not in sums and (folder / _safe(path)).is_file())


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _safe(path: str) -> PurePosixPath:
    """A path that the server names, if it stays inside the folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts:
        raise ApiError(f"the server names a file outside the folder: {path!r}")
    return pure


def _backoff(attempt: int) -> float:
    return float(min(0.25 * 2**attempt, 4))


def _passing(status: int | None) -> bool:
    """Whether an error may be gone at the next try."""
    return status == 429 or (status or 0) >= 500


def _unreachable(server: str, error: Exception) -> ApiError:
    return ApiError(f"{server} does not answer ({error}); is `topwork serve` running there?")


def _object(answer: httpx.Response, server: str, *fields: str) -> dict[str, Any]:
    try:
        value = answer.json()
    except ValueError as error:
        raise ApiError(f"{server} answers something that is not JSON; is it a Topwork server?") from error
    if not isinstance(value, dict) or not {*fields} <= {*value}:
        raise ApiError(
            f"{server} answers no JSON object with {' and '.join(map(repr, fields))}; is it a Topwork server?"
        )
    return value


def _refused(answer: httpx.Response) -> ApiError:
    """RFC 9457 problem details as lines."""
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    problem = problem if isinstance(problem, dict) else {}
    faults = problem.get("errors")
    lines = [
        f"{fault.get('pointer') or fault.get('parameter') or 'request'}: {fault.get('detail', '')}"
        for fault in (faults if isinstance(faults, list) else [])
        if isinstance(fault, dict)
    ]
    lines = lines or [str(problem.get("detail") or f"{answer.status_code} {answer.reason_phrase}")]
    return ApiError("\n".join(lines), answer.status_code)
