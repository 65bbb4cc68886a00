"""An HTTP proxy in front of a real API server, for tests that need its watches to break in a chosen way.

It speaks plain HTTP to the client under test and TLS with a client certificate to the server. ``cut`` ends all open watches and
refuses everything until ``mend``; ``expire_next`` makes the next watch of a resource start at version 1, which the server itself
answers with its real HTTP 410 event; ``inject`` sends a line into the open watches of a resource. Requests are recorded.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import aiohttp
from aiohttp import web

_HOP = {"transfer-encoding", "content-length", "connection", "content-encoding"}


@dataclass(frozen=True)
class Seen:
    """A request that came by. ``query`` as sent by the client; ``body`` of writes only."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes = field(default=b"", repr=False)

    @property
    def watch(self) -> bool:
        """Whether it asked for a watch."""
        return self.query.get("watch") in ("true", "1")

    @property
    def is_write(self) -> bool:
        """Whether it changes something; the Lease, by which an operator says that it lives, is left out."""
        return self.method in ("POST", "PUT", "PATCH", "DELETE") and "/leases" not in self.path


class ApiProxy:
    """See the module's text."""

    def __init__(self, server: str, tls: ssl.SSLContext) -> None:
        self.requests: list[Seen] = []
        self.url = ""
        self.after_write: Callable[[int, Seen], None] | None = None
        """Called with the number of the write (from 1) after the server did it and before the client hears of it."""
        self.writes = 0
        self._server = server
        self._tls = tls
        self._expire: set[str] = set()
        self._silent: set[str] = set()
        self._streams: dict[web.StreamResponse, tuple[str, asyncio.Task[object]]] = {}
        self._mended = asyncio.Event()
        self._mended.set()
        self._busy: set[asyncio.Task[object]] = set()
        self._ending = False

    def cut(self) -> None:
        """End all watches; refuse every request until ``mend``."""
        self._mended.clear()
        for _, task in self._streams.values():
            task.cancel()

    def mend(self) -> None:
        """Let requests through again."""
        self._mended.set()

    def expire_next(self, plural: str) -> None:
        """The next watch of this resource gets the server's 410."""
        self._expire.add(plural)

    def swallow(self, plural: str) -> None:
        """From the next watch of this resource on, its events do not reach the client any more: half-open connections."""
        self._silent.add(plural)

    async def inject(self, plural: str, line: bytes) -> int:
        """Send this line into the open watches of a resource; how many there were."""
        count = 0
        for response, (which, _) in list(self._streams.items()):
            if which == plural:
                await response.write(line + b"\n")
                count += 1
        return count

    def watches(self, plural: str) -> int:
        """Open watches of a resource."""
        return sum(which == plural for which, _ in self._streams.values())

    def count(self, plural: str, *, watch: bool) -> int:
        """Lists or watches of a resource that were asked for."""
        return sum(seen.path.endswith(f"/{plural}") and seen.watch is watch for seen in self.requests)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ApiProxy"]:
        """Serve on a free port of the loopback."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=True) as session:
            self._session = session
            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{tail:.*}", self._handle)
            runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                self._ending = True
                self.cut()
                if (
                    self._busy
                ):  # a handler that is cancelled in the middle of a TLS handshake leaks its socket (Python 3.11)
                    await asyncio.wait(self._busy, timeout=10)
                await runner.cleanup()
        await asyncio.sleep(0)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            return await self._forward(request)
        finally:
            self._busy.discard(task)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        seen = Seen(request.method, request.path, query)
        self.requests.append(seen)
        if not self._mended.is_set():
            raise web.HTTPServiceUnavailable(text="the proxy is cut")
        plural = request.path.rsplit("/", 1)[-1]
        if seen.watch and plural in self._expire:
            self._expire.discard(plural)
            query["resourceVersion"] = "1"
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in {"host", "authorization", *_HOP}
        }
        sent = await request.read()
        async with self._session.request(
            request.method,
            self._server + request.path,
            params=query,
            data=sent or None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as upstream:
            kept = {name: value for name, value in upstream.headers.items() if name.lower() not in _HOP}
            if seen.is_write and upstream.status < 300:
                self.writes += 1
                if self.after_write is not None:
                    self.after_write(self.writes, replace(seen, body=sent))
            if not seen.watch or self._ending:
                body = b"" if seen.watch else await upstream.read()
                return web.Response(status=upstream.status, body=body, headers=kept)
            return await self._stream(request, upstream, plural, kept)

    async def _stream(
        self, request: web.Request, upstream: aiohttp.ClientResponse, plural: str, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status, headers=headers)
        await response.prepare(request)

        async def pump() -> None:
            async for chunk in upstream.content.iter_any():
                if plural not in self._silent:
                    await response.write(chunk)

        task: asyncio.Task[object] = asyncio.create_task(pump())
        self._streams[response] = (plural, task)
        try:
            await asyncio.wait({task})
            with suppress(asyncio.CancelledError, aiohttp.ClientError, ConnectionError):
                task.result()
        finally:
            task.cancel()
            del self._streams[response]
        return response
