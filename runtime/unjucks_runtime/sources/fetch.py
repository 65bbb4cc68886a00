"""``POST /v1/fetch`` inside the courier's child: the one entry to all sources. JSON in, JSON out; failures are CourierError.

Resolver and connector are parameters of ``run_fetch`` for tests; ``fetch`` uses the machine's. Called by ``courier.child``.
"""

import base64
import resource

from pydantic import ValidationError

from unjucks_api.courier_protocol import (
    BucketSource,
    FetchRequest,
    FetchResponse,
    GitSource,
    HttpSource,
    OciSource,
)
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import SourceFile
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.courier.net import Connector, Network, Resolver, Timeouts, system_connector, system_resolver
from unjucks_runtime.sources.model import Fetched, Job, decode_secret
from unjucks_runtime.sources.select import Selection


def fetch(request: bytes) -> bytes:
    """FetchRequest -> FetchResponse, both JSON."""
    try:
        task = FetchRequest.model_validate_json(request)
    except ValidationError:
        raise CourierError(Reason.INTERNAL_ERROR, "the request does not hold the protocol") from None
    return run_fetch(task).model_dump_json().encode()


def run_fetch(
    task: FetchRequest, *, resolve: Resolver = system_resolver, connect: Connector = system_connector
) -> FetchResponse:
    """What the source holds. Raises CourierError or GenerationError."""
    limits = task.limits
    timeouts = Timeouts(limits.connect_seconds, limits.read_seconds, limits.wall_seconds)
    job = Job(
        network=Network(task.allow, timeouts, resolve=resolve, connect=connect),
        limits=limits,
        selection=Selection(task.path, task.ignore, limits),
        known=task.known,
        credentials=decode_secret({**task.credentials, **task.certificates}),
        signers=decode_secret(task.signers),
    )
    found = _dispatch(task, job)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return FetchResponse(
        revision=found.revision,
        digest=found.digest,
        unchanged=found.tree is None,
        verified_by=found.verified_by,
        files=[
            SourceFile(path=path, content=base64.b64encode(content).decode(), mode=mode)
            for path, (content, mode) in sorted((found.tree or {}).items())
        ],
        metadata=dict(found.metadata),
        downloaded_bytes=found.downloaded,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
    )


def _dispatch(task: FetchRequest, job: Job) -> Fetched:
    # Imported here: a fetch loads only the libraries of its own source.
    match task.source:
        case HttpSource():
            from unjucks_runtime.sources.http import fetch_http

            return fetch_http(task.source, job)
        case GitSource():
            from unjucks_runtime.sources.git import fetch_git

            return fetch_git(task.source, job)
        case OciSource():
            from unjucks_runtime.sources.oci import fetch_oci

            return fetch_oci(task.source, job)
        case BucketSource():
            from unjucks_runtime.sources.bucket import fetch_bucket

            return fetch_bucket(task.source, job)
