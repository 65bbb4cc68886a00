"""``unjucks-courier``: settings, certificates, servers, signals.

Ends with 0 after SIGTERM, with 2 when a setting or certificate is wrong.
"""

import asyncio
import contextlib
import logging
import signal
import sys

from aiohttp import web

from unjucks_api import names
from unjucks_runtime.courier.server import CourierServer
from unjucks_runtime.courier.settings import Settings, parse
from unjucks_runtime.renderer import logs, syscalls, tls
from unjucks_runtime.renderer.listening import Listener, bind

log = logging.getLogger("unjucks_runtime.courier")

EXIT_CONFIGURATION = 2
_SHUTDOWN_SECONDS = 5.0
_KEEP_SECONDS = 90.0  # longer than the operator keeps its connections


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        server = CourierServer(settings)
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
        name = names.courier_identity(settings.tenant_uid) if settings.tenant_uid else ""
        listener = Listener(server, name, runner, bound)
        await listener.refresh()
        watcher = asyncio.create_task(listener.watch(), name="certificates")
        stack.callback(watcher.cancel)
        if settings.health_port:
            health = web.AppRunner(server.health_application(), access_log=None, shutdown_timeout=0)
            await health.setup()
            stack.push_async_callback(health.cleanup)
            await web.SockSite(health, bind(settings.health_listen or settings.listen, settings.health_port)).start()
        where = {"listen": settings.listen, "port": bound.getsockname()[1], "healthPort": settings.health_port}
        log.info("serving", extra={"fields": where})
        await stopping.wait()
        server.accepting = False
        log.info("ending", extra={"fields": {"tasks": server.running}})
        watcher.cancel()
        await listener.stop()
        await server.drain()


def main() -> None:
    """The command's entry point."""
    settings = parse()
    logs.configure(settings.log_level)
    # Nobody of the same user may read this process' memory: requests with credentials pass through it.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    try:
        asyncio.run(serve(settings))
    except (tls.CertificatesError, OSError) as error:
        log.error("%s", error)
        sys.exit(EXIT_CONFIGURATION)


if __name__ == "__main__":
    main()
