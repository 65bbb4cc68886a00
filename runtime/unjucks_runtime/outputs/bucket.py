"""A prefix of an S3-compatible bucket as an output: an object for each file, and the manifest, written last, as the commit point.

Readers go by the manifest: what it lists is complete. It is written under the entity tag that was seen (``If-Match``), so of two
that overlap one fails. Writing the same again changes nothing, so a run that was stopped is simply written again. When the caller
saw only a part of the prefix, no object that it did not see is overwritten. Called by ``outputs.tasks``.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from unjucks_api.courier_protocol import BucketTarget
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError, transient
from unjucks_runtime.courier.git_transport import said_text
from unjucks_runtime.courier.net import check_url, network_text, read_body
from unjucks_runtime.outputs.checks import MANIFEST, OWN_FOLDER, STATEMENT, Content, Tree, listed, own_path
from unjucks_runtime.sources.bucket import DEFAULT_REGION, MAX_LISTED, _failure
from unjucks_runtime.sources.model import Job, unusable

_META_RUN, _META_JOB = "x-amz-meta-unjucks-run", "x-amz-meta-unjucks-job"
_MOST_OWN = 8 * 1024 * 1024
_CHANGED = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


class BucketOutput:
    """One prefix in one task."""

    def __init__(self, target: BucketTarget, name: str, job: Job) -> None:
        check_url(target.endpoint)
        self._target, self._name, self._job = target, name, job
        self._shown = f"bucket {target.bucket} at {urlsplit(target.endpoint).netloc}"
        access, secret = job.text("accesskey"), job.text("secretkey")
        if not access or not secret:
            raise unusable("the Secret needs the keys accesskey and secretkey")
        self._client = Minio(
            urlsplit(target.endpoint).netloc,
            access_key=access,
            secret_key=secret,
            session_token=job.text("sessiontoken") or None,
            region=target.region or DEFAULT_REGION,
            http_client=job.network.http(authority=job.authority),
        )

    def look(self) -> tuple[str, str, bytes, bytes]:
        """(entity tag of the manifest, run that wrote it, manifest, statement); empty when there is none."""
        with self._errors():
            try:
                stat = self._client.stat_object(self._target.bucket, self._key(own_path(self._name, MANIFEST)))
            except S3Error as error:
                if error.code in ("NoSuchKey", "NoSuchObject"):
                    return "", "", b"", b""
                raise
            told = {key.lower(): str(value) for key, value in (stat.metadata or {}).items()}
            owner = told.get(_META_JOB) or self._name
            if owner != self._name:
                raise CourierError(
                    Reason.NOT_OWNED,
                    f"{self._shown}: the files below prefix {self._target.prefix!r} are job {said_text(owner)}'s and are left as "
                    "they are; choose another prefix in spec.output.bucket",
                )
            manifest = self._get(own_path(self._name, MANIFEST), _MOST_OWN) or b""
            statement = self._get(own_path(self._name, STATEMENT), _MOST_OWN) or b""
            return str(stat.etag), told.get(_META_RUN, ""), manifest, statement

    def read(self, manifest: bytes, *, others: bool) -> tuple[Tree, Tree, bool]:
        """Files that the manifest lists, the other ones below the prefix, and whether some of those were left out."""
        known = listed(manifest)
        mine: Tree = {}
        rest: Tree = {}
        size, truncated = 0, False
        with self._errors():
            for path in known:
                content = self._get(path, self._job.limits.download_bytes)
                if content is not None:
                    mine[path] = (content, 0o644)
            for path, length in self._listed() if others else ():
                if path in known or path.split("/")[0] == OWN_FOLDER:
                    continue
                size += length
                if size > self._job.limits.source_bytes or len(rest) >= self._job.limits.files:
                    truncated = True
                    break
                content = self._get(path, self._job.limits.source_bytes)
                if content is not None:
                    rest[path] = (content, 0o644)
        return mine, rest, truncated

    def facts(self, manifest: bytes) -> dict[str, Any]:
        """For ``status.output``."""
        place = "/".join(filter(None, (self._target.endpoint, self._target.bucket, self._target.prefix)))
        return {"revision": "sha256:" + hashlib.sha256(manifest).hexdigest(), "url": place}

    def write(self, tag: str, before: bytes, content: Content, run_key: str) -> None:
        """Files, removals, statement, manifest: in this order. Raises CourierError: Conflict (retryable)."""
        known = listed(before)
        with self._errors():
            self._refuse_unseen(content, known)
            for path, (data, _) in content.files.items():
                self._put(path, data)
            for path in content.removed:
                self._client.remove_object(self._target.bucket, self._key(path))
            for path, (data, _) in content.own(self._name).items():
                if not path.endswith(MANIFEST):
                    self._put(path, data)
            condition = {"If-Match": f'"{tag}"'} if tag else {"If-None-Match": "*"}
            marks = {_META_RUN: run_key, _META_JOB: self._name}
            self._put(own_path(self._name, MANIFEST), content.manifest, {**marks, **condition})

    # --- pieces ---------------------------------------------------------------------------------------------------------
    def _refuse_unseen(self, content: Content, known: dict[str, str]) -> None:
        if content.seen is None:
            return
        there = {path for path, _ in self._listed()}
        unseen = sorted((content.files.keys() & there) - content.seen - known.keys())
        if unseen:
            raise CourierError(
                Reason.CONFLICT,
                f"{self._shown} holds {unseen[0]!r}, which was not read because there is too much; use a prefix of the job's own",
                path=unseen[0],
            )

    def _listed(self) -> Iterator[tuple[str, int]]:
        prefix = f"{self._target.prefix}/" if self._target.prefix else None
        for number, item in enumerate(self._client.list_objects(self._target.bucket, prefix=prefix, recursive=True)):
            if number >= MAX_LISTED:
                raise CourierError(
                    Reason.LIMIT_EXCEEDED,
                    f"{self._shown} has more than {MAX_LISTED} objects below the prefix; use another one",
                    limit="files",
                )
            name = item.object_name or ""
            if not name.endswith("/"):
                yield name.removeprefix(prefix or ""), item.size or 0

    def _get(self, path: str, most: int) -> bytes | None:
        try:
            response = self._client.get_object(self._target.bucket, self._key(path))
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject"):
                return None
            raise
        return read_body(self._job.network, response, most, f"object {path[:100]!r}")

    def _put(self, path: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        # The SDK's public method splits large objects, and takes no condition.
        self._client._put_object(
            self._target.bucket, self._key(path), data, {"Content-Type": "application/octet-stream", **(headers or {})}
        )

    def _key(self, path: str) -> str:
        return f"{self._target.prefix}/{path}" if self._target.prefix else path

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if error.code in _CHANGED:
                raise CourierError(
                    Reason.CONFLICT, f"{self._shown}: the manifest changed since it was looked at", retryable=True
                ) from None
            failure = _failure(error, self._shown)
            if failure.reason is Reason.SOURCE_NOT_FOUND:
                failure = CourierError(Reason.PUBLISH_FAILED, failure.message)
            raise failure from None
        except ServerError as error:
            raise transient(f"{self._shown}: the server answers HTTP {error.status_code}") from None
        except (InvalidResponseError, MinioException, ValueError):
            raise transient(f"{self._shown}: the answer is none of an S3 server") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise transient(f"{self._shown}: {network_text(error)}") from None
