"""HTTP to the API server: one aiohttp session, credentials, pace, patience, time-outs and metrics. Knows no operations.

It adds to plain HTTP only what every call needs: one renewal of credentials on 401, a client-side rate limit, bounded patience with
429, and the translation of refusals into the operator's errors. It never retries what may have happened already (a lost answer to a
write): the next reconcile finds out. Used by ``kube.client`` only.
"""

import asyncio
import io
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from unjucks_operator.engine.clock import Clock, SystemClock
from unjucks_operator.errors import Unavailable
from unjucks_operator.kube.credentials import Credentials, Endpoint
from unjucks_operator.kube.failures import Call, Refusal, to_error
from unjucks_operator.kube.limiter import TokenBucket
from unjucks_operator.kube.resources import LEASE

JSON: Final = "application/json"
_LARGE_BODY: Final = 1 << 20  # aiohttp wants larger bodies as a stream
_MAX_EVENT: Final = 16 << 20  # bytes of one watch event; etcd stores at most 1.5 MiB
_THROTTLE_PAUSE: Final = 1.0  # seconds when a 429 names none

Observer = Callable[[str, str, str, float], None]
"""Told about every request: verb, plural of the resource, HTTP code, seconds. For watches when they start; "error" instead of a
code when there was no answer, or when a watch broke."""


def ignore(verb: str, plural: str, code: str, seconds: float) -> None:
    """The observer of those who do not measure."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The client's patience and pace. Times in seconds; ``qps`` of 0 switches the client-side rate limit off."""

    qps: float = 100.0
    burst: int = 200
    connections: int = 128
    connect: float = 5.0
    request: float = 30.0
    watch_inactivity: float = 70.0
    """Bookmarks come about once a minute; a watch that is silent for longer is dead, whatever TCP says."""
    watch_length: tuple[float, float] = (300.0, 600.0)
    """The server ends each watch after a random time in this range, so that many watches do not end together."""
    throttle_retries: int = 4
    throttle_longest: float = 10.0
    """A longer Retry-After is not waited for here but handed to the caller."""


class _Connector(aiohttp.TCPConnector):
    """Drops connections that can not be used again at once, instead of waiting (up to 30 s, unseen) for a TLS farewell.

    That is every watch that we leave and every request that is cancelled.
    """

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        if (should_close or protocol.should_close) and protocol.transport is not None:
            protocol.transport.abort()
        super()._release(key, protocol, should_close=should_close)


class Transport:
    """Sends requests to one API server. Opened on first use, inside a running loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        observe: Observer = ignore,
        user_agent: str | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  jitter
        self._observe = observe
        self._user_agent = user_agent or f"unjucks-operator/{version('unjucks-operator')}"
        self._server = endpoint.server.rstrip("/")
        self._bucket = TokenBucket(self._limits.qps, self._limits.burst, self._clock) if self._limits.qps > 0 else None
        self._timeout = aiohttp.ClientTimeout(total=self._limits.request, sock_connect=self._limits.connect)
        self._options: dict[str, Any] = {"allow_redirects": False}
        if endpoint.tls_server_name:
            self._options["server_hostname"] = endpoint.tls_server_name
        if endpoint.proxy:
            self._options["proxy"] = endpoint.proxy
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(
                    limit=self._limits.connections,
                    ssl=self._endpoint.tls if self._endpoint.tls is not None else False,
                    keepalive_timeout=90,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # The API server is near: compressing lists costs both sides more than sending them.
                headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
                auto_decompress=True,
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        """End all connections; the client can not be used afterwards."""
        if self._session is not None:
            await self._session.close()
            for _ in range(3):  # aborted TLS transports need turns of the loop to be gone
                await asyncio.sleep(0)

    async def send(
        self,
        call: Call,
        method: str,
        path: str,
        query: str = "",
        body: Any = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        tolerate: int | tuple[int, ...] = (),
    ) -> tuple[int, bytes]:
        """Send, renew credentials once, wait out throttling; code and body. Codes in ``tolerate`` are answers, not errors."""
        tolerated = (tolerate,) if isinstance(tolerate, int) else tolerate
        data = None if body is None else orjson.dumps(body)
        url = URL(self._server + path + query, encoded=True)
        renewed, throttled = False, 0
        while True:
            if (
                self._bucket is not None and call.resource is not LEASE
            ):  # losing the lease to our own queue would be absurd
                await self._bucket.acquire()
            started = time.perf_counter()
            try:
                async with self._open().request(
                    method,
                    url,
                    data=io.BytesIO(data) if data is not None and len(data) > _LARGE_BODY else data,
                    headers=self._headers(accept, content_type if data is not None else None),
                    timeout=self._timeout,
                    **self._options,
                ) as response:
                    payload = await response.read()
                    code = response.status
                    retry_after = response.headers.get("Retry-After") if code >= 429 else None
            except TimeoutError as error:
                self._observe(call.verb, call.resource.plural, "error", time.perf_counter() - started)
                raise Unavailable(f"{call}: no answer from the API server in time") from error
            except (aiohttp.ClientError, OSError) as error:
                self._observe(call.verb, call.resource.plural, "error", time.perf_counter() - started)
                raise Unavailable(f"{call}: the API server cannot be reached: {_cause(error)}") from error
            self._observe(call.verb, call.resource.plural, str(code), time.perf_counter() - started)
            if code < 300 or code in tolerated:
                return code, payload
            if code == 401 and not renewed:
                renewed = True
                if await self._credentials.refresh():
                    continue
            refusal = Refusal.parse(code, payload, retry_after)
            # 429 and "503, come back in n seconds" mean that nothing was done; every other failure may have done something.
            if code == 429 or (code == 503 and retry_after is not None):
                pause = refusal.retry_after if refusal.retry_after is not None else _THROTTLE_PAUSE * 2**throttled
                if throttled < self._limits.throttle_retries and pause <= self._limits.throttle_longest:
                    throttled += 1
                    await self._clock.sleep(pause * self._rng.uniform(1.0, 1.25))
                    continue
            raise to_error(call, refusal)

    async def stream(self, call: Call, path: str, query: str, *, accept: str) -> AsyncGenerator[bytes, None]:
        """The lines of an endless answer. Silence longer than ``Limits.watch_inactivity`` raises Unavailable."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._limits.connect, sock_read=self._limits.watch_inactivity
        )
        for attempt in (0, 1):
            started = time.perf_counter()
            try:
                async with self._open().get(
                    URL(self._server + path + query, encoded=True),
                    headers=self._headers(accept, None),
                    timeout=timeout,
                    **self._options,
                ) as response:
                    self._observe(call.verb, call.resource.plural, str(response.status), time.perf_counter() - started)
                    if response.status == 401 and attempt == 0 and await self._credentials.refresh():
                        continue
                    if response.status != 200:
                        refusal = Refusal.parse(
                            response.status, await response.read(), response.headers.get("Retry-After")
                        )
                        raise to_error(call, refusal)
                    lines = LineBuffer()
                    async for chunk in response.content.iter_any():
                        for line in lines.feed(chunk):
                            yield line
                    return
            except TimeoutError as error:
                self._observe(call.verb, call.resource.plural, "error", time.perf_counter() - started)
                raise Unavailable(
                    f"{call}: the API server was silent for {self._limits.watch_inactivity:g} s"
                ) from error
            except (aiohttp.ClientError, OSError) as error:
                self._observe(call.verb, call.resource.plural, "error", time.perf_counter() - started)
                raise Unavailable(f"{call}: the connection to the API server broke: {_cause(error)}") from error

    def _headers(self, accept: str, content_type: str | None) -> dict[str, str]:
        headers = {"Accept": accept}
        if content_type is not None:
            headers["Content-Type"] = content_type
        authorization = self._credentials.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        return headers

    def watch_seconds(self) -> int:
        """How long the server should keep the next watch open."""
        return int(self._rng.uniform(*self._limits.watch_length))


def query_string(parts: Mapping[str, str | None]) -> str:
    """``?a=b&c=d`` of the parts that have a value, or nothing."""
    pairs = "&".join(f"{key}={quote(value, safe='')}" for key, value in parts.items() if value)
    return f"?{pairs}" if pairs else ""


class LineBuffer:
    """Cuts a stream into lines of any length (aiohttp's ``readline`` gives up at 128 KiB)."""

    def __init__(self, longest: int = _MAX_EVENT) -> None:
        self._longest = longest
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, without their ends and without empty ones."""
        first, *rest = chunk.split(b"\n")
        self._held.append(first)
        self._size += len(first)
        if self._size > self._longest:
            raise Unavailable(f"the API server sent a watch event of more than {self._longest} bytes")
        if not rest:
            return []
        lines = [b"".join(self._held), *rest[:-1]]
        self._held, self._size = [rest[-1]], len(rest[-1])
        return [line for line in lines if line]


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__
