"""The operator's door to a tenant's courier: what is asked, and answers that are checked as if an enemy had sent them.

The call itself is ``calls``; which pod, is ``pool``. Requests hold the tenant's credentials: nothing of them is logged or kept.
Called by the registry's and the job's wiring.
"""

import asyncio
import base64
import binascii
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import aiohttp

from unjucks_api import names
from unjucks_api.courier_protocol import (
    COURIER_FAILURES,
    FETCH_PATH,
    INSPECT_PATH,
    MAX_COURIER_REQUEST_BYTES,
    MAX_COURIER_RESPONSE_BYTES,
    PUBLISH_FAILURES,
    PUBLISH_PATH,
    CourierLimits,
    FetchRequest,
    FetchResponse,
    InspectRequest,
    InspectResponse,
    PublishRequest,
    PublishResponse,
)
from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_collisions, check_path
from unjucks_operator.renderers.calls import PodClient, RenderFailure, printable
from unjucks_operator.renderers.pool import PodPool

LARGE_BYTES = 4 * 1024 * 1024
LARGE_AT_ONCE = 3
"""Answers larger than that, of all couriers together, that are read at one time: each may take its size and more of the memory."""
LARGE_SECONDS = 30.0
"""In which such an answer has to come, so that a slow courier does not hold up those of other tenants."""

_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class CourierClient(PodClient):
    """Calls one courier. Errors: RenderFailure (the task failed), Unavailable (CourierUnavailable), Retryable, Bug."""

    what: ClassVar[str] = "courier"
    unavailable: ClassVar[Reason] = Reason.COURIER_UNAVAILABLE
    lost: ClassVar[Reason] = Reason.COURIER_UNAVAILABLE
    max_request: ClassVar[int] = MAX_COURIER_REQUEST_BYTES
    max_response: ClassVar[int] = MAX_COURIER_RESPONSE_BYTES
    task_failures: ClassVar[frozenset[Reason]] = COURIER_FAILURES | PUBLISH_FAILURES

    @property
    def identity(self) -> str:
        """The name that the courier's certificate has to carry."""
        return names.courier_identity(self.endpoint.tenant_uid)

    @asynccontextmanager
    async def _room(self, response: aiohttp.ClientResponse) -> AsyncIterator[None]:
        size = response.content_length
        if size is not None and size <= LARGE_BYTES:
            yield
            return
        room = _rooms.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(LARGE_AT_ONCE))
        async with room, asyncio.timeout(LARGE_SECONDS):
            yield

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        """What a source holds now. Paths and sizes were checked again here; the digest is the renderer's to make."""
        response = await self._call(FETCH_PATH, request, FetchResponse, request.limits.wall_seconds)
        return verified_fetch(response, request)

    async def inspect(self, request: InspectRequest) -> InspectResponse:
        """What an output holds now. Paths and sizes were checked again here."""
        response = await self._call(INSPECT_PATH, request, InspectResponse, request.limits.wall_seconds)
        return verified_inspection(response, request)

    async def publish(self, request: PublishRequest) -> PublishResponse:
        """One compare-and-set of an output."""
        response = await self._call(PUBLISH_PATH, request, PublishResponse, request.limits.wall_seconds)
        return response.model_copy(update={"facts": verified_facts(response.facts)})


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


def verified_inspection(response: InspectResponse, request: InspectRequest) -> InspectResponse:
    """The response without files that nobody may write, when its bounds are kept. Pure. Raises RenderFailure."""
    kept = {}
    total = 0
    for field in ("files", "others"):
        kept[field] = [file for file in getattr(response, field) if _is_safe(file.path)]
        total += sum(len(file.content) for file in kept[field])
    if total * 3 // 4 > request.limits.download_bytes + request.limits.source_bytes:
        raise RenderFailure("the courier sent more files than it was allowed to", reason=Reason.MANIFEST_MISMATCH)
    return response.model_copy(update={**kept, "facts": verified_facts(response.facts)})


def verified_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts that status has fields for, as printable text of bounded length. Pure."""
    told: dict[str, Any] = {key: printable(str(facts[key]))[:512] for key in ("revision", "url") if facts.get(key)}
    request = facts.get("pullRequest")
    if isinstance(request, dict) and isinstance(request.get("number"), int) and 0 <= request["number"] < 2**31:
        told["pullRequest"] = {
            "number": request["number"],
            "state": printable(str(request.get("state", "")))[:64],
            "url": printable(str(request.get("url", "")))[:512],
        }
    return told


def _is_safe(path: str) -> bool:
    try:
        return check_path(path) == path
    except PathRejectedError:
        return False
