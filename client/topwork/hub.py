"""A result pushed to a hub, from the user's side: with the token that huggingface_hub knows, which no server sees."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import httpx

from topwork import jobs
from topwork.errors import TopworkError
from topwork.steps import Steps, Work


def push(
    job: jobs.Named,
    to: str,
    *,
    size: str | None = None,
    private: bool = True,
    token: str | None = None,
    endpoint: str | None = None,
) -> Steps[str]:
    """Upload the files of a job as a model `owner/name` of a hub, private unless told otherwise; its address.

    They hold the job's test rows: a public model that is there already is refused, unless told otherwise.
    Without `token` and `endpoint`, those that huggingface_hub finds.
    """
    api = _hub(endpoint, token)
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        yield from jobs.download(job, folder, size=size)
        address = yield Work(lambda: _upload(api, to, Path(folder), private))
    return str(address)


def _hub(endpoint: str | None, token: str | None) -> Any:
    try:
        from huggingface_hub import HfApi  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise TopworkError("huggingface_hub is not installed here: pip install huggingface_hub") from error
    return HfApi(endpoint=endpoint, token=token)


def _upload(api: Any, to: str, folder: Path, private: bool) -> str:
    try:
        address = api.create_repo(to, private=private, exist_ok=True)
        if private and not api.repo_info(to).private:  # one that was there stays as it is
            raise TopworkError(f"{to} is there already, and public: give private=False, or another name")
        api.upload_folder(repo_id=to, folder_path=str(folder), commit_message="A model pruned by Topwork")
    except (httpx.HTTPError, ValueError, OSError) as error:  # as huggingface_hub has them
        raise TopworkError(f"the hub does not take {to}: {error}") from error
    return str(address)
