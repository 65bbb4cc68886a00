"""The HTTPS server: who calls, how much, how many at once; then one task in a child; then a checked answer.

It parses requests and answers with the protocol's models and never touches template text itself. Health is plain HTTP on another
port. Started by ``__main__``; tests start it through that too.
"""

import asyncio
import base64
import hashlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import (
    ANALYZE_PATH,
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    RENDER_PATH,
    AnalyzeRequest,
    AnalyzeResponse,
    ErrorResponse,
    Limits,
    RenderRequest,
    RenderResponse,
)
from unjucks_api.tree import PathRejectedError, check_path
from unjucks_runtime.renderer import tls
from unjucks_runtime.renderer.forker import Forker
from unjucks_runtime.renderer.setting import setting_of
from unjucks_runtime.renderer.settings import Settings
from unjucks_runtime.renderer.trees import TreeCache
from unjucks_runtime.renderer.warm import WarmSets
from unjucks_runtime.renderer.wire import Kind, TaskHeader
from unjucks_runtime.renderer.workers import Outcome, TaskFailed, WorkerPool, over

log = logging.getLogger(__name__)

_BODY_SECONDS = 30.0
_LOAD_SECONDS = 30.0
_RETRY_AFTER = "1"
_MAX_ERRORS_SHOWN = 3

_M = TypeVar("_M", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """A request that reached no child, with its HTTP status."""

    def __init__(self, status: int, response: ErrorResponse) -> None:
        super().__init__(response.message)
        self.status = status
        self.response = response


class RendererServer:
    """The application; ``identity`` is what new connections are served with."""

    def __init__(self, settings: Settings, pool: WorkerPool, on_last_task: Callable[[], None]) -> None:
        self.settings = settings
        self.pool = pool
        self.identity: tls.Identity | None = None
        self.running = 0
        self.accepting = True
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_task = asyncio.Event()
        self._on_last_task = on_last_task
        self._trees = TreeCache(settings.tree_cache)
        self.warm = WarmSets(0 if settings.once else settings.warm_trees)
        self._tasks: set[asyncio.Task[Outcome]] = set()

    # --- applications ---------------------------------------------------------------------------------------------------

    def application(self) -> web.Application:
        """The HTTPS application."""
        app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[self._guard])
        app.router.add_post(ANALYZE_PATH, self._analyze)
        app.router.add_post(RENDER_PATH, self._render)
        return app

    def health_application(self) -> web.Application:
        """/healthz (the process works) and /readyz (a task would be served), for the kubelet."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        expired = self.identity is None or self.identity.not_after <= datetime.now(UTC)
        for bad, why in (
            (not self.accepting, "ending"),
            (not self.pool.ready, "no worker process"),
            (expired, "the certificate has expired"),
        ):
            if bad:
                return web.Response(status=503, text=why + "\n")
        return web.Response(text="ok\n")

    # --- around every request -------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = request.transport.get_extra_info("ssl_object") if request.transport else None
        try:
            caller = tls.peer_identity(connection)
            if caller != names.OPERATOR_IDENTITY:
                raise Refused(403, _error(Reason.NOT_PERMITTED, "the client certificate is not the operator's"))
            response = await handler(request)
        except Refused as refused:
            log.info(
                "refused",
                extra={"fields": {"path": request.path, "status": refused.status, "why": refused.response.message}},
            )
            response = _answer(refused.status, refused.response)
            if not request.content.is_eof():
                response.force_close()  # the rest of the body is not read
        except TaskFailed as failed:
            response = _answer(503 if failed.response.retryable else 422, failed.response)
        except web.HTTPException as error:
            response = _answer(
                error.status, _error(Reason.INTERNAL_ERROR, f"{request.method} {request.path}: {error.reason}")
            )
        except Exception:
            log.exception("a request failed", extra={"fields": {"path": request.path}})
            response = _answer(
                500, _error(Reason.INTERNAL_ERROR, "the renderer failed; its log tells more", retryable=True)
            )
        if not self.accepting or not self._is_current(connection):
            response.force_close()
        return response

    def _is_current(self, connection: ssl.SSLObject | None) -> bool:
        """Whether the connection was made with the certificates of now; else it is not kept open."""
        return self.identity is not None and connection is not None and connection.context is self.identity.context

    async def _admit(self, request: web.Request) -> bytes:
        """Take a place, read the body within its bounds. The caller gives the place back."""
        if not self.accepting:
            raise Refused(
                503, _error(Reason.RENDERER_UNAVAILABLE, "the renderer is ending; use another one", retryable=True)
            )
        if (request.content_length or 0) > MAX_REQUEST_BYTES:
            raise _too_large()
        if self.running >= self.settings.max_tasks:
            message = f"the renderer runs {self.running} tasks already; try again or use another one"
            raise Refused(429, _error(Reason.THROTTLED, message, retryable=True))
        self.running += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                return await request.read()
        except TimeoutError:
            self._leave()
            raise Refused(
                408, _error(Reason.RENDERER_LOST, "the request's body did not arrive in time", retryable=True)
            ) from None
        except web.HTTPRequestEntityTooLarge:
            self._leave()
            raise _too_large() from None
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self.running -= 1
        if self.running == 0:
            self._idle.set()

    # --- the two tasks --------------------------------------------------------------------------------------------------

    async def _analyze(self, request: web.Request) -> web.Response:
        body = await self._admit(request)
        try:
            task = _parse(AnalyzeRequest, body)
            limits = self._bounded(task.limits)
            outcome = await self._perform(Kind.ANALYZE, limits, b"", body)
            answer = _validated(AnalyzeResponse, outcome)
            costs = {"cpu_seconds": outcome.cpu_seconds, "engine_version": self.pool.engine_version}
            answer = answer.model_copy(update=costs)
            _log_task("analyzed", outcome, files=len(answer.files), actions=len(answer.actions))
            return _json(answer)
        finally:
            self._leave()

    async def _render(self, request: web.Request) -> web.Response:
        body = await self._admit(request)
        try:
            task = _parse(RenderRequest, body)
            limits = self._bounded(task.limits)
            tree = self._tree(task)
            rest = task.model_copy(update={"files": [], "limits": limits})
            if self.settings.once:
                self.accepting = False
            try:
                outcome = await self._perform_warm(rest, tree)
                answer = _validated(RenderResponse, outcome)
                _check_bounds(answer, limits)
            except TaskFailed as failed:
                log.info(
                    "task failed",
                    extra={
                        "fields": {"task": task.task, "reason": failed.response.reason, "limit": failed.response.limit}
                    },
                )
                raise
            finally:
                if self.settings.once:
                    self._last_task.set()
            _log_task("rendered", outcome, task=task.task, digest=task.digest, files=len(answer.files))
            costs = {
                "cpu_seconds": outcome.cpu_seconds,
                "wall_seconds": outcome.wall_seconds,
                "max_rss_bytes": outcome.max_rss_bytes,
                "engine_version": self.pool.engine_version,
            }
            return _json(answer.model_copy(update=costs))
        finally:
            self._leave()
            if self._last_task.is_set():
                self._on_last_task()

    async def _perform_warm(self, task: RenderRequest, tree: bytes) -> Outcome:
        """Render in a child of the zygote that has the action compiled, if there is one; else see to it that there will be."""
        setting = _dump(setting_of(task))
        key = hashlib.sha256(task.digest.encode() + b"\0" + setting).digest()
        forker = self.warm.get(key)
        if forker is not None:
            try:
                return await self._perform(Kind.RENDER, task.limits, b"", _dump(task), forker)
            except TaskFailed as failed:
                if not failed.response.retryable:
                    raise
                # The fault may be in the kept set: this one does without, and a task has no effect that would be there twice.
                self.warm.discard(key)
        outcome = await self._perform(Kind.RENDER, task.limits, tree, _dump(task))
        limits = task.limits.model_copy(update={"wall_seconds": min(task.limits.wall_seconds, _LOAD_SECONDS)})
        header = TaskHeader(Kind.LOAD, limits.cpu_seconds, limits.memory_bytes, len(tree), len(setting))
        self.warm.used(key, lambda: self.pool.nest(header, tree, setting, limits=limits))
        return outcome

    async def _perform(
        self, kind: Kind, limits: Limits, tree: bytes, request: bytes, forker: Forker | None = None
    ) -> Outcome:
        header = TaskHeader(
            kind=kind,
            cpu_seconds=limits.cpu_seconds,
            memory_bytes=limits.memory_bytes,
            tree_bytes=len(tree),
            request_bytes=len(request),
        )
        job = asyncio.create_task(
            self.pool.run(header, tree, request, limits=limits, reply_bound=_reply_bound(kind, limits), forker=forker)
        )
        self._tasks.add(job)
        job.add_done_callback(self._tasks.discard)
        try:
            outcome = await job
        except asyncio.CancelledError:
            job.cancel()
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise  # the caller went away
            raise Refused(
                503,
                _error(Reason.RENDERER_LOST, "the renderer ended before the task did; run it again", retryable=True),
            ) from None
        if outcome.kind is Kind.FAILURE:
            raise TaskFailed(_failure(outcome))
        return outcome

    def _bounded(self, limits: Limits) -> Limits:
        return limits.model_copy(update={"memory_bytes": min(limits.memory_bytes, self.settings.task_memory)})

    def _tree(self, task: RenderRequest) -> bytes:
        """The packed tree of the request's digest: from the request, else from the cache."""
        if not task.files:
            packed = self._trees.get(task.digest)
            if packed is None:
                message = f"the renderer does not have the tree {task.digest[:80]}; send its files along"
                raise Refused(404, _error(Reason.SOURCE_NOT_FOUND, message, retryable=True))
            return packed
        try:
            files = {check_path(file.path): (base64.b64decode(file.content), file.mode) for file in task.files}
            if len(files) != len(task.files):
                raise ValueError("a path stands there twice")
            return self._trees.get(task.digest) or self._trees.add(task.digest, files)
        except PathRejectedError as error:
            raise Refused(422, _error(Reason.PATH_REJECTED, str(error))) from error
        except ValueError as error:
            raise Refused(422, _error(Reason.MANIFEST_MISMATCH, f"the request's files: {error}")) from error

    # --- ending ---------------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Refuse new tasks, let running ones end within the grace time, stop the rest as retryable."""
        self.accepting = False
        try:
            async with asyncio.timeout(self.settings.grace):
                await self._idle.wait()
        except TimeoutError:
            log.warning("stopping tasks at the end of the grace time", extra={"fields": {"tasks": len(self._tasks)}})
            for job in list(self._tasks):
                job.cancel()
            await asyncio.sleep(0)


def _reply_bound(kind: Kind, limits: Limits) -> int:
    """Bytes of a child's answer: base64 and JSON around what it may put out; the files' names and warnings on top."""
    content = limits.output_bytes if kind is Kind.RENDER else limits.source_bytes
    return min(MAX_RESPONSE_BYTES, content * 4 // 3 + limits.files * 2048 + 4 * 1024 * 1024)


def _check_bounds(answer: RenderResponse, limits: Limits) -> None:
    if len(answer.files) > limits.files:
        raise over("files", f"the task made {len(answer.files)} files; {limits.files} are allowed")
    size = sum(len(file.content) for file in answer.files) * 3 // 4
    if size > limits.output_bytes + 3 * len(answer.files):
        raise over("output", f"the task made about {size} bytes; {limits.output_bytes} are allowed")


def _error(reason: Reason, message: str, *, retryable: bool = False) -> ErrorResponse:
    return ErrorResponse(reason=reason, message=message[:2000], retryable=retryable)


def _too_large() -> Refused:
    return Refused(413, _error(Reason.ARCHIVE_TOO_LARGE, f"the request is larger than {MAX_REQUEST_BYTES} bytes"))


def _answer(status: int, response: ErrorResponse) -> web.Response:
    headers = {"Retry-After": _RETRY_AFTER} if status in (429, 503) else None
    return web.Response(status=status, body=_dump(response), content_type="application/json", headers=headers)


def _json(answer: BaseModel) -> web.Response:
    return web.Response(body=_dump(answer), content_type="application/json")


def _dump(model: BaseModel) -> bytes:
    return model.__pydantic_serializer__.to_json(model, by_alias=True)


def _describe(error: ValidationError) -> str:
    """Where a message breaks the protocol, without the values that stand there."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [
        f"{'.'.join(str(part) for part in item['loc']) or 'body'}: {item['msg']}" for item in found[:_MAX_ERRORS_SHOWN]
    ]
    more = f" (and {len(found) - len(shown)} more)" if len(found) > len(shown) else ""
    return "; ".join(shown) + more


def _parse(model: type[_M], body: bytes) -> _M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        message = f"the request does not hold the protocol: {_describe(error)}"
        raise Refused(400, _error(Reason.INTERNAL_ERROR, message)) from None


def _validated(model: type[_M], outcome: Outcome) -> _M:
    try:
        return model.model_validate_json(outcome.payload)
    except ValidationError as error:
        log.error("a worker process answered wrongly", extra={"fields": {"errors": _describe(error)}})
        raise TaskFailed(
            _error(Reason.MANIFEST_MISMATCH, "the worker process' answer does not hold the protocol")
        ) from None


def _failure(outcome: Outcome) -> ErrorResponse:
    answer = _validated(ErrorResponse, outcome)
    # Whether a task can be run again is not for the process to say that ran template code.
    return answer.model_copy(update={"retryable": False})


def _log_task(event: str, outcome: Outcome, **fields: object) -> None:
    costs = {
        "cpuSeconds": round(outcome.cpu_seconds, 4),
        "wallSeconds": round(outcome.wall_seconds, 4),
        "maxRssBytes": outcome.max_rss_bytes,
    }
    log.info(event, extra={"fields": {**fields, **costs}})
