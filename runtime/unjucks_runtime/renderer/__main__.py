"""``unjucks-renderer``: settings, zygote, certificates, servers, signals. Ends with 0 after SIGTERM or the one task of --once.

Exit codes: 2 a setting or the certificates are wrong, 78 the confinement of children does not hold here, 1 anything else.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys

from aiohttp import web

from unjucks_api import names
from unjucks_api.render_protocol import Limits
from unjucks_runtime.renderer import logs, syscalls, tls
from unjucks_runtime.renderer.listening import Listener, bind
from unjucks_runtime.renderer.server import RendererServer
from unjucks_runtime.renderer.serving import TaskFailed
from unjucks_runtime.renderer.settings import Settings, parse
from unjucks_runtime.renderer.wire import Kind, TaskHeader
from unjucks_runtime.renderer.workers import WorkerPool, ZygoteError

log = logging.getLogger("unjucks_runtime.renderer")

EXIT_CONFIGURATION = 2
EXIT_UNCONFINED = 78
_PROBE_LIMITS = Limits(wall_seconds=10, cpu_seconds=10)
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


def server_name(settings: Settings) -> str:
    """The name that the own certificate has to carry; empty when any will do."""
    return names.renderer_identity(settings.tenant_uid) if settings.tenant_uid else ""


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
        listener = Listener(server, server_name(settings), runner, bound)
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
