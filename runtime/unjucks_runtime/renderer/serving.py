"""What every server of tasks has in common: who calls, how much, how many at once, health, and an orderly end.

``TaskServer`` is the renderer's and the courier's; it knows nothing of what the tasks are. Nothing here touches template text or
credentials. ``identity`` is what new connections are served with (``listening`` keeps it fresh).
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import MAX_REQUEST_BYTES, ErrorResponse
from unjucks_runtime.renderer import tls

log = logging.getLogger(__name__)

_BODY_SECONDS = 30.0
_RETRY_AFTER = "1"
_MAX_ERRORS_SHOWN = 3

_M = TypeVar("_M", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServerSettings(Protocol):
    """The settings that such a server needs."""

    @property
    def certificates(self) -> Path:
        """Folder with tls.crt, tls.key and ca.crt."""

    @property
    def max_tasks(self) -> int:
        """Tasks at the same time."""

    @property
    def grace(self) -> float:
        """Seconds for running tasks after SIGTERM."""

    @property
    def reload_interval(self) -> float:
        """Seconds between two looks at the certificates."""


class Refused(Exception):
    """A request that reached no child, with its HTTP status."""

    def __init__(self, status: int, response: ErrorResponse) -> None:
        super().__init__(response.message)
        self.status = status
        self.response = response


class TaskFailed(Exception):
    """The task cannot be done; ``response`` says why."""

    def __init__(self, response: ErrorResponse) -> None:
        super().__init__(response.message)
        self.response = response


class TaskServer:
    """See the module's text. Subclasses add routes (``add_routes``) and say whether tasks can be done (``workers_ready``)."""

    what = "renderer"
    unavailable = Reason.RENDERER_UNAVAILABLE
    lost = Reason.RENDERER_LOST
    max_request_bytes = MAX_REQUEST_BYTES

    def __init__(self, settings: ServerSettings) -> None:
        self.settings: ServerSettings = settings
        self.identity: tls.Identity | None = None
        self.running = 0
        self.accepting = True
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- applications ---------------------------------------------------------------------------------------------------

    def add_routes(self, app: web.Application) -> None:
        """The subclass' requests."""
        raise NotImplementedError

    @property
    def workers_ready(self) -> bool:
        """Whether a task would find a worker process."""
        return True

    def look_after(self) -> None:
        """Called now and then, for what has to be tidied."""

    def application(self) -> web.Application:
        """The HTTPS application."""
        app = web.Application(client_max_size=self.max_request_bytes, middlewares=[self._guard])
        self.add_routes(app)
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
            (not self.workers_ready, "no worker process"),
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
                raise Refused(403, problem(Reason.NOT_PERMITTED, "the client certificate is not the operator's"))
            response = await handler(request)
        except Refused as refused:
            log.info(
                "refused",
                extra={"fields": {"path": request.path, "status": refused.status, "why": refused.response.message}},
            )
            response = answer(refused.status, refused.response)
            if not request.content.is_eof():
                response.force_close()  # the rest of the body is not read
        except TaskFailed as failed:
            response = answer(503 if failed.response.retryable else 422, failed.response)
        except web.HTTPException as error:
            response = answer(
                error.status, problem(Reason.INTERNAL_ERROR, f"{request.method} {request.path}: {error.reason}")
            )
        except Exception:
            log.exception("a request failed", extra={"fields": {"path": request.path}})
            response = answer(
                500, problem(Reason.INTERNAL_ERROR, f"the {self.what} failed; its log tells more", retryable=True)
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
            raise Refused(503, problem(self.unavailable, f"the {self.what} is ending; use another one", retryable=True))
        if (request.content_length or 0) > self.max_request_bytes:
            raise self._too_large()
        if self.running >= self.settings.max_tasks:
            message = f"the {self.what} runs {self.running} tasks already; try again or use another one"
            raise Refused(429, problem(Reason.THROTTLED, message, retryable=True))
        self.running += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                return await request.read()
        except TimeoutError:
            self._leave()
            raise Refused(
                408, problem(self.lost, "the request's body did not arrive in time", retryable=True)
            ) from None
        except web.HTTPRequestEntityTooLarge:
            self._leave()
            raise self._too_large() from None
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self.running -= 1
        if self.running == 0:
            self._idle.set()

    def _too_large(self) -> Refused:
        return Refused(
            413, problem(Reason.ARCHIVE_TOO_LARGE, f"the request is larger than {self.max_request_bytes} bytes")
        )

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


def problem(reason: Reason, message: str, *, retryable: bool = False) -> ErrorResponse:
    return ErrorResponse(reason=reason, message=message[:2000], retryable=retryable)


def answer(status: int, response: ErrorResponse) -> web.Response:
    headers = {"Retry-After": _RETRY_AFTER} if status in (429, 503) else None
    return web.Response(status=status, body=dump(response), content_type="application/json", headers=headers)


def json_answer(answer: BaseModel) -> web.Response:
    return web.Response(body=dump(answer), content_type="application/json")


def dump(model: BaseModel) -> bytes:
    return model.__pydantic_serializer__.to_json(model, by_alias=True)


def describe(error: ValidationError) -> str:
    """Where a message breaks the protocol, without the values that stand there."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [
        f"{'.'.join(str(part) for part in item['loc']) or 'body'}: {item['msg']}" for item in found[:_MAX_ERRORS_SHOWN]
    ]
    more = f" (and {len(found) - len(shown)} more)" if len(found) > len(shown) else ""
    return "; ".join(shown) + more


def parse(model: type[_M], body: bytes) -> _M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        message = f"the request does not hold the protocol: {describe(error)}"
        raise Refused(400, problem(Reason.INTERNAL_ERROR, message)) from None
