"""``unjucks-renderer``: settings, zygote, certificates, servers, signals. Ends with 0 after SIGTERM or the one task of --once.

Exit codes: 2 a setting or the certificates are wrong, 78 the confinement of children does not hold here, 1 anything else.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys

from aiohttp import web

from unjucks_api import names
from unjucks_api.render_protocol import Limits
from unjucks_runtime.renderer import logs, syscalls, tls
from unjucks_runtime.renderer.server import RendererServer
from unjucks_runtime.renderer.settings import Settings, parse
from unjucks_runtime.renderer.wire import Kind, TaskHeader
from unjucks_runtime.renderer.workers import TaskFailed, WorkerPool, ZygoteError

log = logging.getLogger("unjucks_runtime.renderer")

EXIT_CONFIGURATION = 2
EXIT_UNCONFINED = 78
_PROBE_LIMITS = Limits(wall_seconds=10, cpu_seconds=10)
_BACKLOG = 128
_SHUTDOWN_SECONDS = 5.0
_KEEP_SECONDS = 90.0  # longer than the operator keeps its connections


class UnconfinedError(Exception):
    """A child could do what it must not; the renderer does not serve."""


async def check_confinement(pool: WorkerPool, settings: Settings) -> None:
    """Let a child try what must not work, with the key's file as bait. Raises UnconfinedError when something does."""
    request = str(settings.certificates / tls.KEY).encode()
    header = TaskHeader(Kind.PROBE, cpu_seconds=10, memory_bytes=0, tree_bytes=0, request_bytes=len(request))
    try:
        outcome = await pool.run(header, b"", request, limits=_PROBE_LIMITS, reply_bound=4096)
    except TaskFailed as error:
        raise UnconfinedError(f"the confinement of child processes could not be checked: {error}") from error
    if outcome.kind is not Kind.RESULT or outcome.payload:
        could = ", ".join(outcome.payload.decode(errors="replace").splitlines()) or "answer wrongly"
        raise UnconfinedError(
            f"child processes are not confined: one could {could}. A kernel with seccomp is needed; see docs/renderer.md"
        )


class Listener:
    """HTTPS on one bound socket, with the certificates of now.

    The sites before and after a change of certificates share the listening socket, so no connection is refused in between.
    """

    def __init__(self, server: RendererServer, runner: web.AppRunner, bound: socket.socket) -> None:
        self._server = server
        self._runner = runner
        self._bound = bound
        self._site: web.SockSite | None = None

    async def refresh(self) -> bool:
        """Load the certificates if they are others than those in use. Raises CertificatesError; then nothing has changed."""
        server, settings = self._server, self._server.settings
        if server.identity is not None and tls.fingerprint(settings.certificates) == server.identity.fingerprint:
            return False
        identity = tls.load(settings.certificates, server_name=server_name(settings))
        previous = self._site
        self._site = web.SockSite(self._runner, self._bound.dup(), ssl_context=identity.context, backlog=_BACKLOG)
        server.identity = identity
        await self._site.start()
        if previous is not None:
            await previous.stop()
        log.info("certificates loaded", extra={"fields": {"notAfter": identity.not_after.isoformat()}})
        return True

    async def watch(self) -> None:
        """Refresh for ever. Bad new files are logged once; the old ones stay in use."""
        complained = ""
        while True:
            await asyncio.sleep(self._server.settings.reload_interval)
            self._server.pool.reap_orphans()
            try:
                await self.refresh()
                complained = ""
            except tls.CertificatesError as error:
                if str(error) != complained:
                    complained = str(error)
                    log.error("the changed certificates cannot be used, the old ones stay: %s", error)

    async def stop(self) -> None:
        """Accept no connection any more."""
        if self._site is not None:
            await self._site.stop()


def server_name(settings: Settings) -> str:
    """The name that the own certificate has to carry; empty when any will do."""
    return names.renderer_identity(settings.tenant_uid) if settings.tenant_uid else ""


def bind(address: str, port: int) -> socket.socket:
    """A bound TCP socket. Raises OSError with address and port in its text."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    result = socket.socket(family, socket.SOCK_STREAM)
    try:
        result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        result.bind((address, port))
    except OSError as error:
        result.close()
        raise OSError(error.errno, f"cannot listen on {address}:{port}: {error.strerror}") from error
    return result


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, or until the one task of ``--once`` is answered."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        pool = WorkerPool()
        stack.push_async_callback(pool.stop)
        await pool.start()
        await check_confinement(pool, settings)
        server = RendererServer(settings, pool, on_last_task=stopping.set)
        stack.callback(server.warm.clear)
        runner = web.AppRunner(
            server.application(),
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=_KEEP_SECONDS,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        bound = stack.enter_context(bind(settings.listen, settings.port))
        listener = Listener(server, runner, bound)
        await listener.refresh()
        watcher = asyncio.create_task(listener.watch(), name="certificates")
        stack.callback(watcher.cancel)
        if settings.health_port:
            health = web.AppRunner(server.health_application(), access_log=None, shutdown_timeout=0)
            await health.setup()
            stack.push_async_callback(health.cleanup)
            await web.SockSite(health, bind(settings.health_listen, settings.health_port)).start()
        where = {"listen": settings.listen, "port": bound.getsockname()[1], "healthPort": settings.health_port}
        log.info("serving", extra={"fields": {**where, "engine": pool.engine_version, "once": settings.once}})
        await stopping.wait()
        server.accepting = False  # before it is said, and before anything is waited for
        log.info("ending", extra={"fields": {"tasks": server.running}})
        watcher.cancel()
        await listener.stop()
        await server.drain()


def main() -> None:
    """The command's entry point."""
    settings = parse()
    logs.configure(settings.log_level)
    if os.getuid() == 0:
        log.warning("running as root; children give up their capabilities, but a plain user is safer")
    # Nobody of the same user may read this process' memory, in which the key will be.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    try:
        asyncio.run(serve(settings))
    except UnconfinedError as error:
        log.error("%s", error)
        sys.exit(EXIT_UNCONFINED)
    except ZygoteError as error:
        log.error("%s", error)
        sys.exit(1)
    except (tls.CertificatesError, OSError) as error:
        log.error("%s", error)
        sys.exit(EXIT_CONFIGURATION)


if __name__ == "__main__":
    main()
