"""Data sets of a hub, at the door: fetched once, as they are at one commit, into a data set like an uploaded one.

Only public files of tables (or zips of pictures) are read, as an upload may have them, never code: those that the data
set's card names for a config and a split or, where it names none, those whose paths do; and of the card, the names of
classes.
What was fetched is kept under a name that no upload can have, so that the same commit is not fetched again.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

from starlette.concurrency import run_in_threadpool

from api.context import Context
from api.http.problems import Problem, invalid
from api.schemas import Fault
from core.ledger import datasets, quotas, tables, webhooks
from core.ledger.files.scratch import scratch
from core.ledger.jobs import owner
from core.rows.files.hub_features import class_names
from core.rows.files.read import ENDINGS, PACKED_ENDINGS
from core.spec.data import HUB_PART, DatasetRef
from core.spec.errors import SpecError
from core.spec.job import JobSpec

log = logging.getLogger(__name__)

ASK_S = 10.0  # for each answer of the hub
FETCH_S = 120.0  # for all that one request names
AT_ONCE = threading.BoundedSemaphore(4)  # data sets that one process asks for and fetches: each holds a thread
MAX_FILES = 200
MAX_LISTED = 20_000  # files of a repository
MAX_PATTERNS, MAX_PARTS = 1000, 32  # of a card, for one split; folders of one of them
MAX_HOPS = 5
CONVERTED = "refs/convert/parquet"  # where a hub keeps its own conversion: config/split/0000.parquet
# What a path says of the split (https://huggingface.co/docs/hub/datasets-file-names-and-splits).
SPLITS = (("train", "training"), ("validation", "valid", "val", "dev"), ("test", "testing", "eval", "evaluation"))
DEFAULT_SPLIT = {"dev": "validation", "test": "test"}  # by the part of the task that it is for
NO_TABLES = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json")
UPLOAD = "download it, and upload it with POST /v1/datasets"


@dataclass(frozen=True)
class Repository:
    """A data set's repository at a commit."""

    name: str
    commit: str
    sizes: Mapping[str, int | None]  # file -> bytes
    configs: Sequence[Mapping[str, Any]]  # as its card has them
    infos: Sequence[Mapping[str, Any]] = ()  # of each config, as its card has them


async def fetch(here: Context, spec: JobSpec) -> JobSpec:
    """The job with one of the tenant's data sets for each that it names of a hub; raises a 422 Problem."""
    until = time.monotonic() + FETCH_S
    asked: dict[str, Repository] = {}  # a push in between must not tear one request's splits apart
    found: dict[str, DatasetRef] = {}
    faults = []
    for pointer, ref in spec.references().items():
        if ref.dataset is None:
            split = ref.split or DEFAULT_SPLIT.get(pointer.rpartition("/")[2], "train")
            try:
                found[pointer] = await _one(here, ref.model_copy(update={"split": split}), asked, until)
            except SpecError as error:
                faults.append(Fault(pointer=f"{pointer}/hub", detail=error.message))
    if faults:
        raise invalid(faults)
    return spec.with_data(found) if found else spec


def origin(ref: DatasetRef) -> str:
    """The name of the data set that a reference to a commit became."""
    return "/".join(filter(None, (ref.hub, ref.config, ref.split)))


async def _one(here: Context, ref: DatasetRef, asked: dict[str, Repository], until: float) -> DatasetRef:
    hub = str(ref.hub)
    if (row := await run_in_threadpool(_kept, here, ref)) is not None:  # it names a commit that was fetched before
        return ref.model_copy(update={"dataset": row.id})
    if not AT_ONCE.acquire(blocking=False):
        raise Problem(503, "Other data sets are being fetched; try again.", headers={"Retry-After": "10"})
    try:
        _check_time(until)
        if hub not in asked:
            asked[hub] = await run_in_threadpool(_ask, hub)
        repository = asked[hub]
        config, files = await run_in_threadpool(_choose, repository, ref, hub.endswith(f"@{CONVERTED}"), until)
        pinned = ref.model_copy(update={"hub": f"{repository.name}@{repository.commit}", "config": config})
        row = await run_in_threadpool(_kept, here, pinned)
        names = await run_in_threadpool(_class_names, repository, config)
        row = row or await _keep(here, repository, files, origin(pinned), names, until)
    finally:
        AT_ONCE.release()
    return pinned.model_copy(update={"dataset": row.id})


def _kept(here: Context, ref: DatasetRef) -> tables.Dataset | None:
    with here.database.read() as session:
        return datasets.named(session, here.tenant_id, origin(ref))


def _check_time(until: float) -> None:
    if time.monotonic() > until:
        raise SpecError(
            "", f"not all data came within {FETCH_S:g} s; try again (whole data sets are kept), or {UPLOAD}"
        )


def _ask(hub: str) -> Repository:
    """What the hub says of a data set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    name, _, revision = hub.partition("@")
    try:
        info = HfApi(os.environ.get("HF_ENDPOINT")).dataset_info(
            name, revision=revision or "main", files_metadata=True, timeout=ASK_S, token=False
        )
    except GatedRepoError:
        raise _private(name) from None
    except RepositoryNotFoundError:
        raise SpecError("", f"the hub has no public data set '{name}'; check its name, or {UPLOAD}") from None
    except RevisionNotFoundError:
        raise SpecError(
            "", f"'{name}' has no revision '{revision}'; give a branch, tag or commit, or leave it out"
        ) from None
    except Exception as error:  # its HTTP library, and so the errors of it, differ between versions
        raise _unreachable(error) from error
    if info.private or info.gated:
        raise _private(name)
    if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
        raise SpecError("", f"the hub names no commit of '{name}'; {UPLOAD}")
    configs = info.card_data.get("configs") if info.card_data is not None else None
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    infos = info.card_data.get("dataset_info") if info.card_data is not None else None
    return Repository(name, str(info.sha), sizes, _mappings(configs), _mappings(infos))


def _mappings(given: Any) -> list[Mapping[str, Any]]:
    """What a card has one or several of."""
    return [one for one in (given if isinstance(given, list) else [given]) if isinstance(one, Mapping)]


def _private(name: str) -> SpecError:
    return SpecError("", f"'{name}' is private or gated, and this server fetches public data sets only; {UPLOAD}")


def _unreachable(error: Exception) -> SpecError:
    log.warning("the hub does not answer: %s", type(error).__name__)  # which may quote an address, and a signed one
    return SpecError(
        "",
        f"the hub did not answer as it should ({type(error).__name__}); try again, have the operator check the "
        f"server's network and HF_ENDPOINT, or {UPLOAD}",
    )


def _choose(repository: Repository, ref: DatasetRef, converted: bool, until: float) -> tuple[str | None, list[str]]:
    """The config, where there is one, and the files of the split."""
    if len(repository.sizes) > MAX_LISTED:
        raise _too_much(repository, f"{len(repository.sizes):,} files, more than the {MAX_LISTED:,} that are looked at")
    files = [name for name in repository.sizes if _kind(name)] or [*filter(_is_folder, repository.sizes)]
    split = str(ref.split)
    if repository.configs and not converted:
        names = {str(one.get("config_name", "default")): one for one in repository.configs}
        default = next((name for name, one in names.items() if one.get("default") is True), "default")
        config: str | None = _config(repository, ref, list(names), default)
        folder = PurePosixPath(str(names[str(config)].get("data_dir") or "").strip("/"))
        patterns = dict(_patterns(names[str(config)]))
        if patterns and split not in patterns:
            known = ", ".join(f"'{name}'" for name in sorted(patterns)[:50])
            raise SpecError("", f"'{repository.name}' has no split '{split}'; give one of {known} as 'split'")
        if patterns:
            chosen = _matching(repository, files, [(folder / pattern).parts for pattern in patterns[split]], until)
        else:
            chosen = _by_path([name for name in files if PurePosixPath(name).is_relative_to(folder)], split)
    else:
        config = ref.config
        if converted or config is not None:
            folders = sorted({name.partition("/")[0] for name in files if "/" in name})
            config = _config(repository, ref, folders, "default")
            files = [name for name in files if name.startswith(f"{config}/")]
        chosen = _by_path(files, split)
    kinds = set(map(_kind, chosen))
    if len(kinds) != 1 or len(chosen) > MAX_FILES:
        endings = sorted({PurePosixPath(name).suffix for name in repository.sizes} - {""})[:10]
        what = f"several formats ({', '.join(sorted(map(str, kinds)))})" if kinds else "no files that are tables"
        what += f" (there are {', '.join(endings)})" if endings and not kinds else ""
        what = what if len(chosen) <= MAX_FILES else f"more than {MAX_FILES} files"
        raise SpecError(
            "",
            f"'{repository.name}' has {what} for the split '{split}'; name another 'split' or 'config', or the hub's "
            f"own conversion, '{repository.name}@{CONVERTED}'; or {UPLOAD}",
        )
    return config, sorted(chosen)


def _matching(
    repository: Repository, files: Sequence[str], patterns: Sequence[Sequence[str]], until: float
) -> list[str]:
    """The files that one of a card's patterns names; raises SpecError for more of these than can be looked at."""
    if len(patterns) > MAX_PATTERNS:
        raise _too_much(repository, f"{len(patterns):,} patterns of files for one split, more than {MAX_PATTERNS:,}")
    if (longest := max(map(len, patterns), default=0)) > MAX_PARTS:
        raise _too_much(repository, f"a pattern of files of {longest:,} parts, more than {MAX_PARTS}")
    found = []
    for name in files:
        _check_time(until)
        if any(_matches(name, pattern) for pattern in patterns):
            found.append(name)
    return found


def _too_much(repository: Repository, what: str) -> SpecError:
    return SpecError(
        "",
        f"'{repository.name}' has {what}; name the hub's own conversion, '{repository.name}@{CONVERTED}', or {UPLOAD}",
    )


def _class_names(repository: Repository, config: str | None) -> dict[str, list[str]]:
    """Of the columns of a config, as its card has them; of the only one, where it names none."""
    named = [one for one in repository.infos if str(one.get("config_name", "default")) == (config or "default")]
    found = named or (list(repository.infos) if len(repository.infos) == 1 else [])
    return class_names(found[0].get("features")) if found else {}


def _kind(name: str) -> str | None:
    """What a name says that a file is, packed or not; None of what is no table."""
    path = PurePosixPath(name.lower())
    if path.name in NO_TABLES:
        return None
    return ENDINGS.get((path.with_suffix("") if path.suffix in PACKED_ENDINGS else path).suffix)


def _is_folder(name: str) -> bool:
    """Whether it may be a zip of a split's pictures, as data sets of pictures come that have no tables."""
    words = re.findall("[a-z]+", name.lower())
    return name.lower().endswith(".zip") and any(word in words for split in SPLITS for word in split)


def _config(repository: Repository, ref: DatasetRef, known: Sequence[str], default: str) -> str:
    chosen = ref.config or (known[0] if len(known) == 1 else default)
    if chosen not in known:
        names = ", ".join(f"'{name}'" for name in sorted(known)[:50]) or "none"
        told = f"has no config '{chosen}'" if ref.config else "has several configs"
        raise SpecError("", f"'{repository.name}' {told}; give one of these as 'config': {names}")
    if not re.fullmatch(HUB_PART, chosen):
        raise SpecError("", f"the config {chosen[:100]!r} has a name that cannot be kept; {UPLOAD}")
    return chosen


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """(split, patterns of paths), as a card's config names them."""
    given = config.get("data_files")
    for one in given if isinstance(given, list) else [given] if given else []:
        split, paths = (one.get("split", "train"), one.get("path")) if isinstance(one, Mapping) else ("train", one)
        yield str(split), [str(path) for path in (paths if isinstance(paths, list) else [paths])]


def _matches(name: str, pattern: Sequence[str]) -> bool:
    """As the hub's own library does: `*` and `?` stay within a folder, `**` is any number of folders."""
    reached = {0}  # how many parts of the pattern the path so far may have used up
    for part in PurePosixPath(name).parts:
        reached = {
            used + (pattern[used] != "**")
            for used in _past_folders(reached, pattern)
            if used < len(pattern) and (pattern[used] == "**" or fnmatch.fnmatchcase(part, pattern[used]))
        }
    return len(pattern) in _past_folders(reached, pattern)


def _past_folders(reached: Set[int], pattern: Sequence[str]) -> set[int]:
    """With those that a `**` may have been left behind for, having stood for no folder."""
    found = set(reached)
    for used, part in enumerate(pattern):
        if used in found and part == "**":
            found.add(used + 1)
    return found


def _by_path(files: Sequence[str], split: str) -> list[str]:
    """The files whose path names the split; all are 'train' where no path names any."""

    def named(words: Sequence[str]) -> list[str]:
        word = re.compile(rf"(?<![a-z])({'|'.join(map(re.escape, words))})(?![a-z])", re.IGNORECASE)
        return [name for name in files if word.search(name)]

    unnamed = split == "train" and not any(map(named, SPLITS))
    return list(files) if unnamed else named(next((words for words in SPLITS if split in words), (split,)))


async def _keep(
    here: Context,
    repository: Repository,
    files: Sequence[str],
    name: str,
    names: Mapping[str, Sequence[str]],
    until: float,
) -> tables.Dataset:
    """Fetch the files, and make a data set of them; or take that which another request has made meanwhile."""
    limit = here.settings.max_upload_bytes
    sizes = [repository.sizes[file] for file in files]
    total = sum(size or 0 for size in sizes)
    if total > limit or None in sizes:
        told = (
            f"has {total:,} bytes, more than the {limit:,} that a data set may have" if total else "has no known size"
        )
        raise SpecError("", f"'{repository.name}' {told}; name a smaller 'split' or 'config', or upload a part of it")
    if len(name) > datasets.MAX_NAME_CHARS:
        raise SpecError("", f"its name, config and split are longer than can be kept; {UPLOAD}")

    def check_size(size_bytes: int) -> None:
        with here.database.begin() as session:
            quotas.check_storage(session, here.tenant_id, here.caller.key_id, here.settings, size_bytes)

    with scratch(here.settings) as folder:
        paths = [folder / f"{number}{''.join(PurePosixPath(file).suffixes)}" for number, file in enumerate(files)]
        for file, path in zip(files, paths, strict=True):
            await run_in_threadpool(_download, repository, file, path, until)
        given = paths, name, here.storage, here.settings, here.tenant_id, check_size
        row = await here.readers.run(here.tenant_id, datasets.ingest, *given, class_names=names)
    return await run_in_threadpool(_add, here, row)


def _add(here: Context, row: tables.Dataset) -> tables.Dataset:
    """Or that which another request has made meanwhile."""
    with here.database.begin() as session:
        owner.lock_tenant(session, here.tenant_id)
        if (twin := datasets.named(session, here.tenant_id, row.name)) is not None:
            return twin
        quotas.check_storage(session, here.tenant_id, here.caller.key_id, here.settings, row.size_bytes)
        row.key_id = here.caller.key_id
        session.add(row)
    return row


def _download(repository: Repository, file: str, path: Path, until: float) -> None:
    """One file, of exactly the size that was announced, in time; from the hub, or where it redirects to in public."""
    from huggingface_hub import HfApi, get_session, hf_hub_url
    from huggingface_hub.errors import GatedRepoError
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    endpoint = HfApi(os.environ.get("HF_ENDPOINT")).endpoint
    url = hf_hub_url(repository.name, file, repo_type="dataset", revision=repository.commit, endpoint=endpoint)
    headers = build_hf_headers(token=False) | {"Accept-Encoding": "identity"}  # nothing is unpacked on the way
    size, received = repository.sizes[file] or 0, 0
    try:
        for _ in range(MAX_HOPS):
            _check_time(until)
            with get_session().stream("GET", url, headers=headers, timeout=ASK_S, follow_redirects=False) as answer:
                if answer.is_redirect:
                    url = _next(url, answer.headers.get("location", ""), endpoint)
                    continue
                hf_raise_for_status(answer)
                with path.open("wb") as copy:
                    for chunk in answer.iter_raw():
                        received += copy.write(chunk)
                        if received > size:
                            break
                        if received < size:
                            _check_time(until)
            break
    except SpecError:
        raise
    except GatedRepoError:
        raise _private(repository.name) from None
    except Exception as error:
        raise _unreachable(error) from error
    if received != size:
        told = f"{file[:200]}: {received:,} bytes came, where {size:,} were announced"
        raise SpecError("", f"{told}; try again, or {UPLOAD}")


def _next(url: str, location: str, endpoint: str) -> str:
    """Where a redirect leads; raises SpecError if that is neither the hub itself nor a public https address."""
    target = urljoin(url, location)
    parts, hub = urlsplit(target), urlsplit(endpoint)
    if (parts.scheme, parts.netloc) != (hub.scheme, hub.netloc):
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
        if parts.scheme != "https" or not all(webhooks.is_public(str(entry[4][0])) for entry in found):
            raise SpecError("", f"the hub redirects to an address that is not public; {UPLOAD}")
    return target
