"""A TCP proxy in front of PostgreSQL that counts what the client asks for and cuts the connection at a chosen request.

A request is everything up to a message that makes the server answer with ReadyForQuery: Q (simple query) or S (sync). Modes:
``before`` cuts when the request arrives, so the server never sees it; ``after`` lets the server work, waits for its
ReadyForQuery, and cuts before the client hears of it (the lost reply, also after a COMMIT). Everything else passes unchanged.
TLS is refused here (tests connect to loopback). Used by the crash tests; the numbers make every step of an operation a fault point.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

_SSL_REQUEST = 80877103
_GSS_REQUEST = 80877104


@dataclass
class PostgresProxy:
    """Listens on ``port``; forwards to ``target`` (host, port)."""

    target: tuple[str, int]
    port: int = 0
    requests: int = 0
    """Requests seen since ``arm`` or ``disarm``, over all connections."""
    fired: bool = False
    statements: list[str] = field(default_factory=list)
    _cut_at: int = 0
    _mode: str = ""
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def arm(self, request: int, mode: str) -> None:
        """Cut at the ``request``-th request from now (1 is the next one); ``mode`` is before or after."""
        assert mode in ("before", "after")
        self.requests, self.fired, self._cut_at, self._mode = 0, False, request, mode
        self.statements.clear()

    def disarm(self) -> None:
        """Count only."""
        self.requests, self.fired, self._cut_at = 0, False, 0
        self.statements.clear()

    def cut_all(self) -> None:
        """Cuts every connection now."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def dsn(self, dsn: str) -> str:
        """``dsn`` with our address in it."""
        parts = urlsplit(dsn)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut_all()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        waiting: list[bool] = []  # one entry for each request the server has not answered; True is the one to cut after
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._client_to_server(reader, writer, up_writer, waiting))
                group.create_task(self._server_to_client(up_reader, writer, waiting))
        except* (OSError, EOFError):
            pass
        finally:
            for each in (writer, up_writer):
                each.transport.abort()
                self._writers.discard(each)

    async def _client_to_server(
        self,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        waiting: list[bool],
    ) -> None:
        while True:  # the start-up packets have no type byte
            head = await reader.readexactly(8)
            length, code = struct.unpack(">II", head)
            body = await reader.readexactly(length - 8)
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                writer.write(head + body)
                break
            client.write(b"N")
        while True:
            kind = await reader.readexactly(1)
            raw = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack(">I", raw)[0] - 4)
            if kind in (b"Q", b"P"):
                text = body.rstrip(b"\0") if kind == b"Q" else body.split(b"\0")[1]
                self.statements.append(" ".join(text.decode(errors="replace").split()))
            if kind in (b"Q", b"S"):
                self.requests += 1
                hit = self._cut_at == self.requests and not self.fired
                if hit and self._mode == "before":
                    self.fired = True
                    raise EOFError
                waiting.append(hit)
            writer.write(kind + raw + body)
            await writer.drain()

    async def _server_to_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: list[bool]
    ) -> None:
        held = b""
        while True:
            kind = await reader.readexactly(1)
            raw = await reader.readexactly(4)
            message = kind + raw + await reader.readexactly(struct.unpack(">I", raw)[0] - 4)
            if waiting and waiting[0]:
                held += message  # nothing of the answer reaches the client
                if kind == b"Z":
                    self.fired = True
                    raise EOFError
                continue
            if kind == b"Z" and waiting:
                waiting.pop(0)
            writer.write(message)
            await writer.drain()


@contextlib.asynccontextmanager
async def postgres_proxy(host: str, port: int) -> AsyncIterator[PostgresProxy]:
    """A running proxy."""
    proxy = PostgresProxy((host, port))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
