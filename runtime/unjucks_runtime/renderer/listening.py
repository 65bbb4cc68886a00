"""HTTPS on one bound socket, with the certificates of now; for the renderer and the courier. Called by their ``__main__``."""

import asyncio
import logging
import socket

from aiohttp import web

from unjucks_runtime.renderer import tls
from unjucks_runtime.renderer.serving import TaskServer

log = logging.getLogger(__name__)

_BACKLOG = 128


class Listener:
    """HTTPS on one bound socket, with the certificates of now.

    The sites before and after a change of certificates share the listening socket, so no connection is refused in between.
    """

    def __init__(self, server: TaskServer, server_name: str, runner: web.AppRunner, bound: socket.socket) -> None:
        self._server = server
        self._server_name = server_name
        self._runner = runner
        self._bound = bound
        self._site: web.SockSite | None = None

    async def refresh(self) -> bool:
        """Load the certificates if they are others than those in use. Raises CertificatesError; then nothing has changed."""
        server, settings = self._server, self._server.settings
        if server.identity is not None and tls.fingerprint(settings.certificates) == server.identity.fingerprint:
            return False
        identity = tls.load(settings.certificates, server_name=self._server_name)
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
            self._server.look_after()
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
