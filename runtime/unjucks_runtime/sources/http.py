"""The source that is one archive behind a URL: .tar.gz or .zip, by https, with the digest that its spec promises.

Also an artifact of Flux, which the platform's own source-controller serves. Called by ``fetch`` in a courier's child.
"""

import hashlib
from urllib.parse import urlsplit

from unjucks_api.courier_protocol import HttpSource
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.courier.net import check_url, printable_url, read_body
from unjucks_runtime.courier.secretfiles import client_certificate
from unjucks_runtime.failures import GenerationError
from unjucks_runtime.sources.archive import ArchiveLimits, unpack_tar_gz
from unjucks_runtime.sources.model import Fetched, Job, status_error
from unjucks_runtime.sources.ziparchive import unpack_zip


def fetch_http(source: HttpSource, job: Job) -> Fetched:
    """Download, compare the digest, unpack. Raises CourierError or GenerationError."""
    check_url(source.url, ("https", "http") if source.flux else ("https",))
    if source.digest and job.known and job.known == (source.revision or source.digest):
        return Fetched(job.known, None, digest=source.digest)  # a digest names one content for ever
    data = download(source, job)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    if source.digest and digest != source.digest:
        raise CourierError(
            Reason.VERIFICATION_FAILED,
            f"{printable_url(source.url)} has the digest {digest}; expected is {source.digest}",
        )
    revision = source.revision or digest
    if revision == job.known:
        return Fetched(revision, None, digest=digest, downloaded=len(data))
    verified = "digest" if source.digest else ""
    return Fetched(revision, unpack(data, job), digest=digest, verified_by=verified, downloaded=len(data))


def download(source: HttpSource, job: Job) -> bytes:
    """The bytes behind the URL."""
    headers = {"User-Agent": "unjucks-courier", "Accept": "*/*", "Accept-Encoding": "identity"}
    if not source.flux and (authorization := job.basic_or_bearer()):
        headers["Authorization"] = authorization
    with client_certificate(job.credentials) as client:
        pool = job.network.http(authority=job.authority, client=client, plain=source.flux)
    response = pool.urlopen("GET", source.url, headers=headers, preload_content=False, redirect=not source.flux)
    what = printable_url(source.url)
    if response.status != 200:
        response.close()
        raise status_error(what, response.status)
    if response.headers.get("Content-Encoding", "identity") != "identity" and not urlsplit(source.url).path.endswith(
        "gz"
    ):
        raise CourierError(Reason.FETCH_FAILED, f"{what}: the answer is compressed on the way, which nobody asked for")
    return read_body(job.network, response, job.limits.download_bytes, what)


def unpack(data: bytes, job: Job) -> dict[str, tuple[bytes, int]]:
    """The wanted files of a .tar.gz or .zip, told apart by their first bytes."""
    limits = ArchiveLimits(bytes=job.limits.source_bytes, files=job.limits.files)
    if data[:2] == b"\x1f\x8b":
        tree = unpack_tar_gz(data, limits)
    elif data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        tree = unpack_zip(data, limits)
    else:
        raise GenerationError(Reason.ARCHIVE_INVALID, "what was downloaded is neither a .tar.gz nor a .zip")
    return job.selection.filter(tree)
