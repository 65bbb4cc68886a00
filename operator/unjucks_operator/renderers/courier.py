"""The operator's door to a tenant's courier: what is asked, and answers that are checked as if an enemy had sent them.

The call itself is ``calls``; which pod, is ``pool``. Requests hold the tenant's credentials: nothing of them is logged or kept.
Called by the registry's and the job's wiring.
"""

import base64
import binascii
import ssl
from typing import ClassVar

from unjucks_api import names
from unjucks_api.courier_protocol import (
    COURIER_FAILURES,
    FETCH_PATH,
    MAX_COURIER_REQUEST_BYTES,
    MAX_COURIER_RESPONSE_BYTES,
    CourierLimits,
    FetchRequest,
    FetchResponse,
)
from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_collisions, check_path
from unjucks_operator.renderers.calls import PodClient, RenderFailure, printable
from unjucks_operator.renderers.pool import PodPool


class CourierClient(PodClient):
    """Calls one courier. Errors: RenderFailure (the task failed), Unavailable (CourierUnavailable), Retryable, Bug."""

    what: ClassVar[str] = "courier"
    unavailable: ClassVar[Reason] = Reason.COURIER_UNAVAILABLE
    lost: ClassVar[Reason] = Reason.COURIER_UNAVAILABLE
    max_request: ClassVar[int] = MAX_COURIER_REQUEST_BYTES
    max_response: ClassVar[int] = MAX_COURIER_RESPONSE_BYTES
    task_failures: ClassVar[frozenset[Reason]] = COURIER_FAILURES

    @property
    def identity(self) -> str:
        """The name that the courier's certificate has to carry."""
        return names.courier_identity(self.endpoint.tenant_uid)

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        """What a source holds now. Paths and sizes were checked again here; the digest is the renderer's to make."""
        response = await self._call(FETCH_PATH, request, FetchResponse, request.limits.wall_seconds)
        return verified_fetch(response, request)


class CourierPool(PodPool[CourierClient]):
    """All tenants' couriers."""

    def __init__(self, context: ssl.SSLContext, *, capacity: int) -> None:
        super().__init__(
            context,
            capacity=capacity,
            component=names.COMPONENT_COURIER,
            client=CourierClient,
            starting=Reason.COURIER_STARTING,
        )


def verified_fetch(response: FetchResponse, request: FetchRequest) -> FetchResponse:
    """The response, when its paths are safe and its bounds are kept. Pure. Raises RenderFailure."""
    if response.unchanged and (response.files or response.revision != request.known or not request.known):
        raise RenderFailure(
            "the courier says that nothing changed, but not at the known revision", reason=Reason.MANIFEST_MISMATCH
        )
    if any(not char.isprintable() for char in response.revision) or (not response.revision and not response.unchanged):
        raise RenderFailure("the courier names no readable revision", reason=Reason.MANIFEST_MISMATCH)
    limits: CourierLimits = request.limits
    if len(response.files) > limits.files:
        raise RenderFailure(
            f"the source has more than {limits.files} files", reason=Reason.ARCHIVE_TOO_LARGE, limit="files"
        )
    total = 0
    paths = [file.path for file in response.files]
    try:
        for path in paths:
            if check_path(path) != path:
                raise PathRejectedError(f"path {path[:120]!r} is refused: it is not in Unicode NFC")
        check_collisions(paths)
        for file in response.files:
            total += len(base64.b64decode(file.content, validate=True))
    except PathRejectedError as error:
        raise RenderFailure(str(error), reason=Reason.PATH_REJECTED) from None
    except binascii.Error:
        raise RenderFailure("a file's content is not base64", reason=Reason.MANIFEST_MISMATCH) from None
    if len(set(paths)) != len(paths):
        raise RenderFailure("a path stands there twice", reason=Reason.MANIFEST_MISMATCH)
    if total > limits.source_bytes:
        raise RenderFailure(
            f"the files are larger than {limits.source_bytes} bytes together",
            reason=Reason.ARCHIVE_TOO_LARGE,
            limit="source",
        )
    return response.model_copy(
        update={
            "metadata": {printable(key)[:64]: printable(value)[:256] for key, value in response.metadata.items()},
            "verified_by": printable(response.verified_by),
        }
    )
