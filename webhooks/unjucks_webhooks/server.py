"""HTTPS for the API server, HTTP for the kubelet and Prometheus; every request is one function from a review to an answer.

    https  POST /validate  /approve  /verify       TLS 1.3; a body has at most 8 MiB
    http   GET  /livez  /readyz  /metrics          serves nothing of anybody's

An unexpected error answers 500, and the API server does what the webhook's failurePolicy says. Logs name kind, object, user and
result, never a value. Called by ``command``.
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from unjucks_runtime.renderer.tls import KEY
from unjucks_webhooks import review
from unjucks_webhooks.approve import Approvals, Approved, event
from unjucks_webhooks.kube import Access, Kube, KubeError
from unjucks_webhooks.metrics import Metrics
from unjucks_webhooks.review import Answer, NotAReviewError, Request
from unjucks_webhooks.store import ApprovalStore
from unjucks_webhooks.templates import TemplateChecker
from unjucks_webhooks.tls import Certificates
from unjucks_webhooks.validate import validate

MAX_BODY: Final = 8 * 1024 * 1024
"""An object has at most 1.5 MiB in etcd and 3 MiB in a request; a review holds two of them."""
_HEARTBEAT: Final = 10.0
_SHUTDOWN: Final = 10.0
_BACKLOG: Final = 128

log = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process is told. Times in seconds; port 0 takes a free one. ``drain``: how long it serves on after SIGTERM."""

    certificates: Path
    namespace: str
    listen: str
    port: int
    health_listen: str
    health_port: int
    reload_interval: float
    drain: float
    version: str


class Server:
    """See the module's text."""

    def __init__(self, settings: Settings, kube: Kube, metrics: Metrics) -> None:
        self._settings = settings
        self._kube = kube
        self._metrics = metrics
        self._beat = time.monotonic()
        self._starting = True
        self._draining = False
        self._telling: set[asyncio.Task[None]] = set()
        self.certificates = Certificates(
            settings.certificates, changed=lambda end: metrics.not_after.set(end.timestamp())
        )
        self.checker = TemplateChecker(settings.certificates / KEY)
        self._approvals = Approvals(
            ApprovalStore(kube, settings.namespace, time.time),
            time.time,
            tell=self._tell,
            count=lambda verdict: metrics.approvals.labels(verdict).inc(),
        )

    def application(self) -> web.Application:
        """What the API server talks to."""
        app = web.Application(client_max_size=MAX_BODY)
        for name, handler in (
            ("validate", lambda request: validate(request, self.checker)),
            ("approve", self._approvals.approve),
            ("verify", self._approvals.verify),
        ):
            app.router.add_post(f"/{name}", self._route(name, handler))
        return app

    def health_application(self) -> web.Application:
        """What the kubelet and Prometheus talk to."""
        app = web.Application()
        app.add_routes(
            [web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._scrape)]
        )
        return app

    def _route(self, name: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def route(http: web.Request) -> web.Response:
            began, result, request = time.monotonic(), "error", None
            try:
                if http.content_type != "application/json":
                    result = "invalid"
                    return web.Response(status=415, text="the body must be application/json\n")
                request = review.parse(await http.read())
                answer = await handler(request)
                result = "allowed" if answer.allowed else "denied"
                return web.Response(body=review.dump(request.uid, answer), content_type="application/json")
            except NotAReviewError as error:
                result = "invalid"
                return web.Response(status=400, text=f"{error}\n")
            except web.HTTPRequestEntityTooLarge:
                result = "invalid"
                return web.Response(status=413, text=f"a review has at most {MAX_BODY} bytes\n")
            except Exception as error:
                # The type and the place only: a message may hold a value of the object.
                log.error("%s failed: %s", name, type(error).__name__, extra={"fields": {"at": _place(error)}})
                return web.Response(status=500, text="internal error; the log of unjucks-webhooks says where\n")
            finally:
                seconds = time.monotonic() - began
                self._metrics.requests.labels(name, result).inc()
                self._metrics.seconds.labels(name).observe(seconds)
                if request is not None:
                    fields = {
                        "webhook": name,
                        "result": result,
                        "kind": request.kind,
                        "namespace": request.namespace,
                        "name": request.name,
                        "operation": request.operation,
                        "user": request.user,
                        "dryRun": request.dry_run,
                        "seconds": round(seconds, 4),
                    }
                    log.log(logging.DEBUG if result == "allowed" else logging.INFO, result, extra={"fields": fields})

        return route

    async def beat(self) -> None:
        """Show that the event loop turns."""
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(1)

    async def start(self) -> None:
        """Return when everything is there; only then is the process ready, but it lives and answers before."""
        await self.checker.start()
        self._starting = False

    async def drain(self) -> None:
        """Not ready any more, but still answering: until the Service's endpoints have heard of it."""
        self._draining = True
        await asyncio.sleep(self._settings.drain)

    async def settle(self) -> None:
        """Let Events under way end."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=2)

    async def _livez(self, _: web.Request) -> web.Response:
        age = time.monotonic() - self._beat
        return _said(f"the event loop did not turn for {age:.1f} s" if age > _HEARTBEAT else None)

    async def _readyz(self, _: web.Request) -> web.Response:
        waiting = "starting" if self._starting else "stopping" if self._draining else None
        return _said(waiting or self.certificates.check())

    async def _scrape(self, _: web.Request) -> web.Response:
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _tell(self, approved: Approved) -> None:
        async def post() -> None:
            now = time.time()
            try:
                await self._kube.create_event(event(approved, now, f"{time.time_ns():x}"))
            except KubeError as error:
                log.warning("the event of an approval could not be posted: %s", error)

        task = asyncio.create_task(post(), name="event")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


def _said(problem: str | None) -> web.Response:
    return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""


def _bind(address: str, port: int) -> socket.socket:
    """A bound TCP socket. Raises OSError with address and port in its text."""
    result = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        result.bind((address, port))
    except OSError as error:
        result.close()
        raise OSError(error.errno, f"cannot listen on {address}:{port}: {error.strerror}") from error
    return result


async def serve(settings: Settings, access: Access) -> None:
    """Serve until SIGTERM or SIGINT. Raises CertificatesError and OSError at the start."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube(access))
        server = Server(settings, kube, Metrics(settings.version))
        server.certificates.refresh()
        stack.push_async_callback(server.settle)
        stack.push_async_callback(server.checker.stop)
        for work, name in (
            (server.certificates.watch(settings.reload_interval), "certificates"),
            (server.beat(), "heartbeat"),
        ):
            task = asyncio.create_task(work, name=name)
            stack.push_async_callback(_cancel, task)
        ports = []
        for app, address, port, tls in (
            (server.application(), settings.listen, settings.port, server.certificates.context),
            (server.health_application(), settings.health_listen, settings.health_port, None),
        ):
            runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            bound = _bind(address, port)
            await web.SockSite(runner, bound, ssl_context=tls, backlog=_BACKLOG).start()
            ports.append(bound.getsockname()[1])
        log.info("serving", extra={"fields": {"port": ports[0], "healthPort": ports[1]}})
        starting = asyncio.create_task(server.start(), name="start")
        starting.add_done_callback(_or_else(stopping))
        stack.push_async_callback(_cancel, starting)
        await stopping.wait()
        log.info("stopping")
        await server.drain()


def _or_else(stopping: asyncio.Event) -> Callable[[asyncio.Task[None]], None]:
    """Ends the process when starting failed in a way that nobody foresaw: the log has the reason, and a new one may do better."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("could not start", exc_info=error)
            stopping.set()

    return ended


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
