"""The source that is a bucket: the objects below a prefix of an S3-compatible server, each a file by its key.

The revision is a digest over keys and ETags, as Flux makes it, so an unchanged bucket costs one list. Requests are signed by the
MinIO SDK over our own connections. Called by ``fetch`` in a courier's child.
"""

import hashlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.datatypes import Object
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from unjucks_api.courier_protocol import BucketSource
from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_path
from unjucks_runtime.courier.errors import CourierError, transient
from unjucks_runtime.courier.net import check_url, network_text, read_body, too_large
from unjucks_runtime.sources.model import Fetched, Job, status_error, unusable

_DENIED = frozenset(
    {
        *(
            "AccessDenied",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
            "InvalidToken",
            "AccountProblem",
        ),
        *("TokenRefreshRequired", "AllAccessDisabled", "InvalidSecurity", "XMinioInvalidIAMCredentials"),
    }
)
_MISSING = frozenset({"NoSuchBucket", "NoSuchKey", "ResourceNotFound"})
DEFAULT_REGION = "us-east-1"
MAX_LISTED = 20_000


def fetch_bucket(source: BucketSource, job: Job) -> Fetched:
    """The wanted objects. Raises CourierError."""
    check_url(source.endpoint)
    shown = f"bucket {source.bucket} at {urlsplit(source.endpoint).netloc}"
    access, secret = job.text("accesskey"), job.text("secretkey")
    if bool(access) != bool(secret):
        raise unusable("the Secret has only one of accesskey and secretkey")
    client = Minio(
        urlsplit(source.endpoint).netloc,
        access_key=access or None,
        secret_key=secret or None,
        session_token=job.text("sessiontoken") or None,
        region=source.region or DEFAULT_REGION,
        http_client=job.network.http(authority=job.authority),
    )
    try:
        listed = _list(client, source, job)
        digest = hashlib.sha256()
        for item in listed:
            digest.update(f"{item.object_name}\0{item.etag}\n".encode())
        revision = f"sha256:{digest.hexdigest()}"
        if revision == job.known:
            return Fetched(revision, None, digest=revision)
        counter = _Counter(job.limits.download_bytes, shown)
        tree = job.selection.collect(_contents(client, source, job, listed, counter))
        return Fetched(revision, tree, digest=revision, metadata={"objects": str(len(listed))}, downloaded=counter.seen)
    except S3Error as error:
        raise _failure(error, shown) from None
    except ServerError as error:
        raise transient(f"{shown}: the server answers HTTP {error.status_code}") from None
    except InvalidResponseError as error:
        raise status_error(shown, error._code) from None  # no public name for it
    except (MinioException, ValueError):
        raise CourierError(
            Reason.FETCH_FAILED, f"{shown}: the answer is none of an S3 server", retryable=True
        ) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise transient(f"{shown}: {network_text(error)}") from None


def _list(client: Minio, source: BucketSource, job: Job) -> list[Object]:
    listed: list[Object] = []
    for number, item in enumerate(client.list_objects(source.bucket, prefix=source.prefix or None, recursive=True)):
        _ = job.network.remaining
        if number >= MAX_LISTED:
            raise CourierError(
                Reason.ARCHIVE_TOO_LARGE, f"the bucket has more than {MAX_LISTED} objects", limit="files"
            )
        name = item.object_name or ""
        if name.endswith("/") or not job.selection.wants(_path(name, source)):
            continue  # a folder's marker, or not wanted
        try:
            check_path(_path(name, source))  # before it is asked for
        except PathRejectedError as error:
            raise CourierError(Reason.PATH_REJECTED, str(error)) from None
        if len(listed) >= job.limits.files:
            raise job.selection.too_many()
        listed.append(item)
    if sum(item.size or 0 for item in listed) > job.limits.source_bytes:
        raise job.selection.too_big()
    return sorted(listed, key=lambda item: item.object_name or "")


def _contents(
    client: Minio, source: BucketSource, job: Job, listed: list[Object], counter: "_Counter"
) -> Iterator[tuple[str, bytes, int]]:
    for item in listed:
        name = item.object_name or ""
        response = client.get_object(source.bucket, name)
        content = read_body(job.network, response, job.limits.source_bytes, f"object {name[:100]!r}")
        if item.size is not None and len(content) != item.size:
            raise transient(f"object {name[:100]!r} changed while it was read")
        counter.add(len(content))
        yield _path(name, source), content, 0o644


def _path(name: str, source: BucketSource) -> str:
    return name.removeprefix(source.prefix).removeprefix("/")


class _Counter:
    def __init__(self, most: int, shown: str) -> None:
        self.seen = 0
        self._most = most
        self._shown = shown

    def add(self, size: int) -> None:
        self.seen += size
        if self.seen > self._most:
            raise too_large(self._shown, self._most)


def _failure(error: S3Error, shown: str) -> CourierError:
    code = error.code or ""
    if code in _DENIED:
        return CourierError(Reason.AUTHENTICATION_FAILED, f"{shown}: the server refused the credentials ({code})")
    if code in _MISSING:
        return CourierError(Reason.SOURCE_NOT_FOUND, f"{shown} does not exist ({code})")
    known = "".join(char for char in code if char.isalnum())[:40]
    return CourierError(Reason.FETCH_FAILED, f"{shown}: the server answers {known or 'with an error'}", retryable=True)
