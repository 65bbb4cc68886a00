"""The operator's door to one pod of its own in a tenant's namespace: mutual TLS, one request, an answer that is not trusted.

A pod is called by its IP and must prove that it is what it should be for this tenant's UID, so an address that was given to another
pod meanwhile is refused in the handshake. One client, with connections of its own, for each pod: a connection is never used for
another identity. ``client`` (renderers) and ``courier`` build on it.
"""

import asyncio
import ssl
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, TASK_FAILURES, ErrorResponse
from unjucks_operator.errors import Bug, OperatorError, Retryable, Terminal, Unavailable

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 15.0
"""On top of a task's own wall clock: transfer, start and end of the child process."""

_KEEP_SECONDS = 60.0
_MAX_ERROR_BYTES = 128 * 1024
_RETRY_SECONDS = 1.0
_M = TypeVar("_M", bound=BaseModel)


class RenderFailure(Terminal):
    """The task failed for a reason of its own. ``path``, ``line`` and ``column`` say where in the template set, if anywhere."""

    def __init__(
        self, message: str, *, reason: Reason, path: str = "", line: int = 0, column: int = 0, limit: str = ""
    ) -> None:
        super().__init__(message, reason=reason)
        self.path = path
        self.line = line
        self.column = column
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A renderer pod as it can be called. ``pod_uid`` tells two pods with the same address apart."""

    pod_uid: str
    pod: str
    ip: str
    tenant_uid: str
    port: int = names.RENDERER_PORT

    @property
    def url(self) -> str:
        """The start of every URL."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"https://{host}:{self.port}"


class PodClient:
    """Calls one pod. Errors: RenderFailure, Unavailable and Retryable with the reasons below, Bug."""

    what: ClassVar[str] = "renderer"
    unavailable: ClassVar[Reason] = Reason.RENDERER_UNAVAILABLE
    lost: ClassVar[Reason] = Reason.RENDERER_LOST
    max_request: ClassVar[int] = MAX_REQUEST_BYTES
    max_response: ClassVar[int] = MAX_RESPONSE_BYTES
    task_failures: ClassVar[frozenset[Reason]] = TASK_FAILURES

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext) -> None:
        self.endpoint = endpoint
        self.known: set[str] = set()
        """Digests of trees that this pod has had from us; it may have forgotten them and says so then."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=_KEEP_SECONDS, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
            trace_configs=[trace],
        )

    async def close(self) -> None:
        """Close all connections; running calls fail as lost."""
        await self._session.close()

    @property
    def identity(self) -> str:
        """The name that the pod's certificate has to carry."""
        return names.renderer_identity(self.endpoint.tenant_uid)

    async def _call(self, path: str, request: BaseModel, model: type[_M], wall_seconds: float) -> _M:
        body = request.__pydantic_serializer__.to_json(request, by_alias=True)
        if len(body) > self.max_request:
            raise RenderFailure(
                f"templates, variables and existing files are {len(body)} bytes; a {self.what} takes {self.max_request}",
                reason=Reason.ARCHIVE_TOO_LARGE,
            )
        status, content = await self._post(path, body, wall_seconds + ANSWER_SECONDS)
        if status != 200:
            raise self._failure(status, content)
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise self._mismatch(f"its answer does not hold the protocol ({error.error_count()} errors)") from None

    async def _post(self, path: str, body: bytes, seconds: float) -> tuple[int, bytes | bytearray]:
        for attempt in (1, 2):
            seen = SimpleNamespace(reused=False)
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._session.post(
                        self.endpoint.url + path,
                        data=body,
                        headers={"Content-Type": "application/json"},
                        server_hostname=self.identity,
                        allow_redirects=False,
                        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                        trace_request_ctx=seen,
                    ) as response,
                ):
                    return response.status, await self._read(response)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise self._unreachable(error) from error
                # A kept connection that the other side has closed meanwhile says nothing about the task; a task has no effect.
                if attempt == 2 or not seen.reused:
                    raise self._lost("the connection broke before the answer was complete") from error
            except TimeoutError as error:
                if isinstance(error, aiohttp.ConnectionTimeoutError):
                    raise self._unreachable(error) from error
                raise self._lost(f"no answer within {seconds:g} s") from error
            except aiohttp.ClientError as error:
                raise self._mismatch(f"no HTTP as expected ({type(error).__name__})") from error
            except RuntimeError as error:
                if self._session.closed:
                    raise self._lost("the connection was closed here") from error
                raise
        raise AssertionError("unreachable")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | bytearray:
        if response.headers.get("Content-Encoding"):
            raise self._mismatch("its answer is compressed, which nobody asked for")
        bound = self.max_response if response.status == 200 else _MAX_ERROR_BYTES
        content = bytearray()
        async with self._room(response):
            async for chunk in response.content.iter_chunked(1 << 18):
                content += chunk
                if len(content) > bound:
                    raise self._mismatch(f"its answer is larger than {bound} bytes")
        return content

    def _room(self, _: aiohttp.ClientResponse) -> AbstractAsyncContextManager[None]:
        """Held while an answer comes in; whoever bounds how many may come at once overrides it."""
        return nullcontext()

    # --- failures ---------------------------------------------------------------------------------------------------------

    def _failure(self, status: int, content: bytes | bytearray) -> OperatorError:
        try:
            error = ErrorResponse.model_validate_json(content)
        except ValidationError:
            if status >= 500:
                return self._lost(f"HTTP {status} without an explanation")
            return self._mismatch(f"HTTP {status} without an explanation")
        message = printable(error.message)
        if status == 404 and error.reason is Reason.SOURCE_NOT_FOUND:
            return TreeNeeded(message)
        if status in (429, 503) and error.reason is not Reason.RENDERER_LOST:
            return Unavailable(message, reason=self.unavailable, after=_RETRY_SECONDS)
        if status >= 500 or (error.retryable and status != 422):
            return Retryable(message, reason=self.lost)
        if status == 403:
            return Unavailable(f"{self.what} {self.endpoint.pod}: {message}", reason=self.unavailable)
        if status == 400:
            return Bug(f"{self.what} {self.endpoint.pod}: {message}")
        if error.reason not in self.task_failures:
            return self._mismatch(f"HTTP {status} with reason {error.reason}")
        if error.retryable:
            return Retryable(message, reason=error.reason)
        return RenderFailure(
            message,
            reason=error.reason,
            path=printable(error.path),
            line=error.line,
            column=error.column,
            limit=printable(error.limit),
        )

    def _unreachable(self, error: BaseException) -> Unavailable:
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            why = f"it could not prove to be a {self.what} of this tenant ({type(error).__name__})"
        else:
            why = "no connection"
        return Unavailable(f"{self.what} {self.endpoint.pod} at {self.endpoint.ip}: {why}", reason=self.unavailable)

    def _lost(self, why: str) -> Retryable:
        return Retryable(f"{self.what} {self.endpoint.pod}: {why}; the task is run again", reason=self.lost)

    def _mismatch(self, why: str) -> RenderFailure:
        return RenderFailure(f"{self.what} {self.endpoint.pod}: {why}", reason=Reason.MANIFEST_MISMATCH)


class TreeNeeded(OperatorError):
    """The renderer does not have the tree."""


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True


def printable(text: str) -> str:
    """The text without control characters, so that it can stand in a status, an event or a log line."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)
