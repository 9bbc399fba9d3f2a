"""Content-addressed storage in an S3 bucket. boto3 finds endpoint, region and credentials by the AWS variables."""

from __future__ import annotations

import hashlib
import io
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)

from core.ledger.files.storage import CHUNK, DAMAGED, Storage, StorageAwayError, check_name

PART_BYTES = 16 * 2**20  # S3 takes 10,000 of them: files of 156 GiB
TRIES = 3
LINK_S = 300  # to begin a download; one that has begun may last
ABANDONED = timedelta(days=1)  # an upload in parts that is not complete by then
NO_BUCKET = "the bucket does not exist; make it, or mend TOPWORK_STORAGE_URL"

CONFIG = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"total_max_attempts": TRIES, "mode": "standard"},
    max_pool_connections=64,
    signature_version="s3v4",
    # Checksums of our own choice, as plain headers: not every S3 server takes those that boto3 would add.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


class S3Storage(Storage):
    """One object a file, PREFIX/SHA256. A prefix belongs to one ledger: what that one does not know is swept."""

    def __init__(self, url: str) -> None:
        """`url`: s3://bucket or s3://bucket/prefix."""
        self.bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix.strip('/')}/".lstrip("/")
        self._s3 = boto3.Session().client("s3", config=CONFIG)

    def put(self, source: Path) -> tuple[str, int]:
        """See `Storage.put`. S3 checks the sha256 of each part, we that of the whole."""
        with source.open("rb") as data:
            sha256 = hashlib.file_digest(data, "sha256").hexdigest()
            size = data.seek(0, io.SEEK_END)
            data.seek(0)
            with _plain_errors():
                if size <= PART_BYTES:
                    content = data.read()
                    _compare(sha256, hashlib.sha256(content))
                    self._s3.put_object(**self._at(sha256), Body=content, ChecksumSHA256=_base64(content))
                else:
                    self._put_parts(sha256, data)
        return sha256, size

    def _put_parts(self, sha256: str, data: BinaryIO) -> None:
        upload = self._at(sha256)
        upload["UploadId"] = self._s3.create_multipart_upload(**upload, ChecksumAlgorithm="SHA256")["UploadId"]
        try:
            digest, parts = hashlib.sha256(), list[dict[str, Any]]()
            while content := data.read(PART_BYTES):
                digest.update(content)
                part = {"PartNumber": len(parts) + 1, "ChecksumSHA256": _base64(content)}
                parts.append(part | {"ETag": self._s3.upload_part(**upload, **part, Body=content)["ETag"]})
            _compare(sha256, digest)
            self._s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with suppress(BotoCoreError, ClientError):  # what is left of it is swept
                self._s3.abort_multipart_upload(**upload)
            raise

    def open(self, sha256: str) -> BinaryIO:
        """See `Storage.open`. Nothing is read before it is asked for."""
        at = self._at(sha256)
        size = self._head(sha256)["ContentLength"]

        def get(start: int) -> Any:
            return self._s3.get_object(**at, Range=f"bytes={start}-")["Body"]

        return cast(BinaryIO, io.BufferedReader(_Object(get, size), CHUNK))

    def delete(self, sha256: str) -> None:
        """See `Storage.delete`."""
        with _plain_errors():
            self._s3.delete_object(**self._at(sha256))

    def set_aside(self, sha256: str) -> None:
        """See `Storage.set_aside`."""
        at = self._at(sha256)
        with suppress(FileNotFoundError), _plain_errors():
            self._s3.copy({**at}, self.bucket, f"{self.prefix}{DAMAGED}/{sha256}")
            self._s3.delete_object(**at)

    def sweep(self, in_use: Callable[[Sequence[str]], Set[str]], older_than_s: float) -> int:
        """See `Storage.sweep`. Ages are by the clock of the storage."""
        swept = 0
        with _plain_errors():
            for page in self._pages("list_objects_v2"):
                before = _date(page) - timedelta(seconds=older_than_s)
                old = [item for item in page.get("Contents", ()) if item["LastModified"] < before]
                aged = [name for item in old if (name := self._name(item["Key"]))]
                for name in set(aged) - in_use(aged) if aged else ():
                    if self._is_older(name, before):
                        self._s3.delete_object(**self._at(name))
                        swept += 1
            for page in self._pages("list_multipart_uploads"):
                for upload in page.get("Uploads", ()):
                    name = self._name(upload["Key"])
                    if name and upload["Initiated"] < _date(page) - ABANDONED:
                        self._s3.abort_multipart_upload(**self._at(name), UploadId=upload["UploadId"])
        return swept

    def link(self, sha256: str, headers: dict[str, str]) -> str | None:
        """See `Storage.link`: a presigned URL for `LINK_S` seconds."""
        answer = {f"Response{name.replace('-', '')}": value for name, value in headers.items()}
        with _plain_errors():
            url: str = self._s3.generate_presigned_url("get_object", {**self._at(sha256), **answer}, ExpiresIn=LINK_S)
        return url

    def _at(self, sha256: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + check_name(sha256)}

    def _name(self, key: str) -> str | None:
        """The sha256 that the key ends in; None for what is not ours, under this prefix."""
        name = key.removeprefix(self.prefix)
        return name if re.fullmatch("[0-9a-f]{64}", name) else None

    def _pages(self, operation: str) -> Iterator[dict[str, Any]]:
        yield from self._s3.get_paginator(operation).paginate(Bucket=self.bucket, Prefix=self.prefix)

    def _head(self, sha256: str) -> dict[str, Any]:
        """What S3 says of a file. A HEAD has no body: after a 404, a second one tells a missing file from no bucket."""
        try:
            with _plain_errors():
                head: dict[str, Any] = self._s3.head_object(**self._at(sha256))
                return head
        except FileNotFoundError:
            with _plain_errors():
                try:
                    self._s3.head_bucket(Bucket=self.bucket)
                except ClientError as error:
                    if _status(error) == 404:
                        raise StorageAwayError(NO_BUCKET) from error
                    if _status(error) != 403:  # a bucket that may not be asked for is there
                        raise
            raise

    def _is_older(self, sha256: str, before: datetime) -> bool:
        """Whether it has not been put again, or deleted, since it was listed."""
        try:
            modified: datetime = self._head(sha256)["LastModified"]
        except FileNotFoundError:
            return False
        return modified < before


class _Object(io.RawIOBase):
    """An object as a file: `get(start)` streams it from there on. A stream that breaks is gone on with."""

    def __init__(self, get: Callable[[int], Any], size: int) -> None:
        self._get, self._size = get, size
        self._place = 0
        self._stream: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if place != self._place:
            self._drop()
            self._place = max(place, 0)
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._place)
        if wanted <= 0:
            return 0
        content = self._read(wanted)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def _read(self, wanted: int) -> bytes:
        with _plain_errors():
            for _ in range(TRIES):
                self._stream = self._stream or self._get(self._place)
                with suppress(HTTPClientError, IncompleteReadError):
                    content: bytes = self._stream.read(wanted)
                    if content:
                        return content
                self._drop()
        raise StorageAwayError(f"the storage broke off a file {TRIES} times")

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        self._drop()
        super().close()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors of boto3 as those that a disk would raise, without what they tell of the inside."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code in ("404", "NoSuchKey"):
            raise FileNotFoundError("the storage has no such file") from error
        if code == "NoSuchBucket":
            raise StorageAwayError(NO_BUCKET) from error
        if _status(error) in (401, 403):
            reason = f"the storage refuses the credentials, or lacks a permission for them ({code}); see docs/fleet.md"
            raise StorageAwayError(reason) from error
        raise StorageAwayError(f"the storage refuses ({code})") from error
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        raise StorageAwayError("there are no credentials for the storage; see docs/fleet.md") from error
    except BotoCoreError as error:
        raise StorageAwayError(f"the storage cannot be reached ({type(error).__name__})") from error


def _status(error: ClientError) -> int | None:
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _compare(sha256: str, digest: Any) -> None:
    if digest.hexdigest() != sha256:
        raise OSError("the file changed while it was stored")


def _base64(content: bytes) -> str:
    return b64encode(hashlib.sha256(content).digest()).decode()


def _date(page: dict[str, Any]) -> datetime:
    return parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
