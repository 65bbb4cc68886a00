"""The operator's door to one renderer pod: mutual TLS, one request, an answer that is checked as if an enemy had sent it.

A pod is called by its IP and must prove that it is a renderer of this tenant's UID, so an address that was given to another
pod meanwhile is refused in the handshake. One client, with connections of its own, for each pod: a connection is never used for
another identity. Called through ``pool`` (warm renderers) and by the job's wiring (isolated pods).
"""

import asyncio
import base64
import binascii
import hashlib
import ssl
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import (
    ANALYZE_PATH,
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    RENDER_PATH,
    TASK_FAILURES,
    AnalyzeRequest,
    AnalyzeResponse,
    ErrorResponse,
    Limits,
    RenderRequest,
    RenderResponse,
)
from unjucks_api.tree import PathRejectedError, check_collisions, check_path, tree_digest
from unjucks_operator.errors import Bug, OperatorError, Retryable, Terminal, Unavailable

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 15.0
"""On top of a task's own wall clock: transfer, start and end of the child process."""

_KEEP_SECONDS = 60.0
_MAX_ERROR_BYTES = 128 * 1024
_RETRY_SECONDS = 1.0
_M = TypeVar("_M", bound=BaseModel)
_REMOVING = frozenset({"skipped", "removed"})


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


class RendererClient:
    """Calls one renderer. Errors: RenderFailure, Unavailable (RendererUnavailable), Retryable (RendererLost), Bug."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext) -> None:
        self.endpoint = endpoint
        self.known: set[str] = set()
        """Digests of trees that this renderer has had from us; it may have forgotten them and says so then."""
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

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeResponse:
        """Have a tree normalised and checked. The result's digest and paths were computed again here."""
        response = await self._call(ANALYZE_PATH, request, AnalyzeResponse, request.limits)
        return verified_analysis(response, request.limits)

    async def render(self, request: RenderRequest) -> RenderResponse:
        """Run one action. Files are left out when the renderer should have the tree, and sent when it has not."""
        if request.files and request.digest in self.known:
            try:
                return await self._render(request.model_copy(update={"files": []}))
            except _TreeNeeded:
                self.known.discard(request.digest)
        try:
            result = await self._render(request)
        except _TreeNeeded:
            raise Bug(f"renderer {self.endpoint.pod} asks for a tree that it was sent") from None
        self.known.add(request.digest)
        return result

    async def _render(self, request: RenderRequest) -> RenderResponse:
        response = await self._call(RENDER_PATH, request, RenderResponse, request.limits)
        return verified_render(response, request.limits)

    async def _call(self, path: str, request: BaseModel, model: type[_M], limits: Limits) -> _M:
        body = request.__pydantic_serializer__.to_json(request, by_alias=True)
        if len(body) > MAX_REQUEST_BYTES:
            raise RenderFailure(
                f"templates, variables and existing files are {len(body)} bytes; a renderer takes {MAX_REQUEST_BYTES}",
                reason=Reason.ARCHIVE_TOO_LARGE,
            )
        status, content = await self._post(path, body, limits.wall_seconds + ANSWER_SECONDS)
        if status != 200:
            raise self._failure(status, content)
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise self._mismatch(f"its answer does not hold the protocol ({error.error_count()} errors)") from None

    async def _post(self, path: str, body: bytes, seconds: float) -> tuple[int, bytes]:
        for attempt in (1, 2):
            seen = SimpleNamespace(reused=False)
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._session.post(
                        self.endpoint.url + path,
                        data=body,
                        headers={"Content-Type": "application/json"},
                        server_hostname=names.renderer_identity(self.endpoint.tenant_uid),
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

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if response.headers.get("Content-Encoding"):
            raise self._mismatch("its answer is compressed, which nobody asked for")
        bound = MAX_RESPONSE_BYTES if response.status == 200 else _MAX_ERROR_BYTES
        content = bytearray()
        async for chunk in response.content.iter_chunked(1 << 18):
            content += chunk
            if len(content) > bound:
                raise self._mismatch(f"its answer is larger than {bound} bytes")
        return bytes(content)

    # --- failures ---------------------------------------------------------------------------------------------------------

    def _failure(self, status: int, content: bytes) -> OperatorError:
        try:
            error = ErrorResponse.model_validate_json(content)
        except ValidationError:
            if status >= 500:
                return self._lost(f"HTTP {status} without an explanation")
            return self._mismatch(f"HTTP {status} without an explanation")
        message = printable(error.message)
        if status == 404 and error.reason is Reason.SOURCE_NOT_FOUND:
            return _TreeNeeded(message)
        if status in (429, 503) and error.reason is not Reason.RENDERER_LOST:
            return Unavailable(message, reason=Reason.RENDERER_UNAVAILABLE, after=_RETRY_SECONDS)
        if status >= 500 or error.retryable:
            return Retryable(message, reason=Reason.RENDERER_LOST)
        if status == 403:
            return Unavailable(f"renderer {self.endpoint.pod}: {message}", reason=Reason.RENDERER_UNAVAILABLE)
        if status == 400:
            return Bug(f"renderer {self.endpoint.pod}: {message}")
        if error.reason not in TASK_FAILURES:
            return self._mismatch(f"HTTP {status} with reason {error.reason}")
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
            why = f"it could not prove to be a renderer of this tenant ({type(error).__name__})"
        else:
            why = "no connection"
        return Unavailable(
            f"renderer {self.endpoint.pod} at {self.endpoint.ip}: {why}", reason=Reason.RENDERER_UNAVAILABLE
        )

    def _lost(self, why: str) -> Retryable:
        return Retryable(f"renderer {self.endpoint.pod}: {why}; the task is run again", reason=Reason.RENDERER_LOST)

    def _mismatch(self, why: str) -> RenderFailure:
        return RenderFailure(f"renderer {self.endpoint.pod}: {why}", reason=Reason.MANIFEST_MISMATCH)


class _TreeNeeded(OperatorError):
    """The renderer does not have the tree."""


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True


def printable(text: str) -> str:
    """The text without control characters, so that it can stand in a status, an event or a log line."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def verified_render(response: RenderResponse, limits: Limits) -> RenderResponse:
    """The response, when every path is safe, every digest and size right and all bounds are kept. Pure.

    Raises RenderFailure: PathRejected, OutputTooLarge or ManifestMismatch.
    """
    if len(response.files) > limits.files:
        raise RenderFailure(
            f"the run made {len(response.files)} files; {limits.files} are allowed",
            reason=Reason.OUTPUT_TOO_LARGE,
            limit="files",
        )
    _check_paths([file.path for file in response.files])
    total = 0
    for file in response.files:
        if file.action in _REMOVING and not file.content:
            continue
        content = _decode(file.content, file.path)
        total += len(content)
        if len(content) != file.size or _hex_digest(file.sha256) != hashlib.sha256(content).hexdigest():
            raise RenderFailure(
                f"file {file.path!r}: size or sha256 is not that of the content that came with it",
                reason=Reason.MANIFEST_MISMATCH,
                path=file.path,
            )
        if file.mode not in (0o644, 0o755):
            raise RenderFailure(
                f"file {file.path!r}: mode {file.mode:o} is neither 644 nor 755",
                reason=Reason.MANIFEST_MISMATCH,
                path=file.path,
            )
    if total > limits.output_bytes:
        raise RenderFailure(
            f"the run made {total} bytes; {limits.output_bytes} are allowed",
            reason=Reason.OUTPUT_TOO_LARGE,
            limit="output",
        )
    return response


def verified_analysis(response: AnalyzeResponse, limits: Limits) -> AnalyzeResponse:
    """The response, when its digest is that of its files and all paths are safe. Pure. Raises RenderFailure."""
    _check_paths([file.path for file in response.files])
    files = {file.path: (_decode(file.content, file.path), file.mode) for file in response.files}
    if sum(len(content) for content, _ in files.values()) > limits.source_bytes:
        raise RenderFailure(
            f"the templates are larger than {limits.source_bytes} bytes",
            reason=Reason.ARCHIVE_TOO_LARGE,
            limit="source",
        )
    if tree_digest(files) != response.digest:
        raise RenderFailure(
            "the analysed tree has another digest than the renderer says", reason=Reason.MANIFEST_MISMATCH
        )
    return response


def _check_paths(paths: list[str]) -> None:
    try:
        for path in paths:
            if check_path(path) != path:
                raise PathRejectedError(f"path {path[:120]!r} is refused: it is not in Unicode NFC")
        check_collisions(paths)
    except PathRejectedError as error:
        raise RenderFailure(str(error), reason=Reason.PATH_REJECTED) from None


def _decode(content: str, path: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        raise RenderFailure(
            f"file {path!r}: its content is not base64", reason=Reason.MANIFEST_MISMATCH, path=path
        ) from None


def _hex_digest(text: str) -> str:
    return text.removeprefix("sha256:")
