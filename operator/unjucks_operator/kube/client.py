"""The thin Kubernetes client: ``KubeApi`` over one aiohttp session and orjson. No models, no cache, no decisions.

It adds to plain HTTP only what every call needs: credentials with one renewal on 401, a client-side rate limit, bounded patience
with 429, time-outs, request metrics, and the translation of refusals into the operator's errors. It never retries what may have
happened already (a lost answer to a write): the next reconcile finds out. Made by the process's start-up code; used through
``KubeApi``.
"""

import asyncio
import io
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from unjucks_api.names import MANAGER_STATUS
from unjucks_operator.engine.clock import Clock, SystemClock
from unjucks_operator.errors import InvalidSpec, Unavailable
from unjucks_operator.kube.api import Gone, Manifest, NotFound, PatchType, WatchEvent
from unjucks_operator.kube.credentials import Credentials, Endpoint
from unjucks_operator.kube.failures import Call, Refusal, to_error
from unjucks_operator.kube.limiter import TokenBucket
from unjucks_operator.kube.resources import LEASE, Resource, resource_of

_JSON: Final = "application/json"
_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML, so orjson writes the body
_PARTIAL: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PARTIAL_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_CHUNK: Final = 500  # objects per page of a list
_LARGE_BODY: Final = 1 << 20  # aiohttp wants larger bodies as a stream
_MAX_EVENT: Final = 16 << 20  # bytes of one watch event; etcd stores at most 1.5 MiB
_THROTTLE_PAUSE: Final = 1.0  # seconds when a 429 names none

Observer = Callable[[str, str, str, float], None]
"""Told about every request: verb, plural of the resource, HTTP code (or "error"), seconds."""


def _ignore(verb: str, plural: str, code: str, seconds: float) -> None:
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


class KubeClient:
    """``KubeApi`` against a real server. Use as ``async with KubeClient(endpoint, credentials) as api``."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        observe: Observer = _ignore,
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

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
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
            # TLS connections need a turn of the loop to say goodbye; without it the transports are reported as leaked.
            await asyncio.sleep(0)

    # --- reads --------------------------------------------------------------------------------------------------------
    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, metadata_only: bool = False
    ) -> Manifest | None:
        """See ``KubeApi``."""
        call = Call("get", resource, namespace, name)
        try:
            return await self._json(
                call, "GET", resource.path(namespace, name), accept=_PARTIAL if metadata_only else _JSON
            )
        except NotFound:
            return None

    async def list_all(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
    ) -> tuple[list[Manifest], str]:
        """See ``KubeApi``. When a page's snapshot has expired, everything is fetched once more, in one piece."""
        for chunk in (_CHUNK, 0):
            items: list[Manifest] = []
            version = ""
            try:
                async with aclosing(self._pages(resource, namespace, label_selector, metadata_only, chunk)) as pages:
                    async for page, version in pages:  # noqa: B007  the last one is returned
                        items += page
                return items, version
            except Gone:
                if not chunk:
                    raise
        raise AssertionError("unreachable")

    def list_pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
    ) -> AsyncGenerator[tuple[list[Manifest], str], None]:
        """See ``KubeApi``."""
        return self._pages(resource, namespace, label_selector, metadata_only, _CHUNK)

    async def _pages(
        self, resource: Resource, namespace: str | None, selector: str | None, metadata_only: bool, chunk: int
    ) -> AsyncGenerator[tuple[list[Manifest], str], None]:
        call = Call("list", resource, namespace)
        path = resource.path(namespace)
        base = {"labelSelector": selector, "limit": str(chunk) if chunk else None}
        token: str | None = None
        while True:
            query = _query(base | {"continue": token})
            try:
                page = await self._json(call, "GET", path, query, accept=_PARTIAL_LIST if metadata_only else _JSON)
            except NotFound as error:
                raise Unavailable(
                    f"the API server does not serve {resource.plural} of {resource.api_version}"
                ) from error
            items: list[Manifest] = page["items"] or []
            if not metadata_only:  # a typed list's items do not say what they are
                for item in items:
                    item["apiVersion"], item["kind"] = resource.api_version, resource.kind
            # All pages are of one snapshot, so any page's version is the list's.
            yield items, page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue")
            if not token:
                return

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """See ``KubeApi``. Silence longer than ``Limits.watch_inactivity`` raises Unavailable."""
        call = Call("watch", resource, namespace)
        query = _query(
            {
                "watch": "1",
                "allowWatchBookmarks": "true",
                "resourceVersion": resource_version,
                "timeoutSeconds": str(int(self._rng.uniform(*self._limits.watch_length))),
                "labelSelector": label_selector,
            }
        )
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._limits.connect, sock_read=self._limits.watch_inactivity
        )
        accept = _PARTIAL if metadata_only else _JSON
        for attempt in (0, 1):
            started = time.perf_counter()
            try:
                async with self._open().get(
                    URL(self._server + resource.path(namespace) + query, encoded=True),
                    headers=self._headers(accept, None),
                    timeout=timeout,
                    **self._options,
                ) as response:
                    self._observe("watch", resource.plural, str(response.status), time.perf_counter() - started)
                    if response.status == 401 and attempt == 0 and await self._credentials.refresh():
                        continue
                    if response.status != 200:
                        refusal = Refusal.parse(
                            response.status, await response.read(), response.headers.get("Retry-After")
                        )
                        raise to_error(call, refusal)
                    async for line in _lines(response.content):
                        yield _event(call, line)
                    return
            except TimeoutError as error:
                raise Unavailable(
                    f"{call}: the API server was silent for {self._limits.watch_inactivity:g} s"
                ) from error
            except (aiohttp.ClientError, OSError) as error:
                raise Unavailable(f"{call}: the connection to the API server broke: {_cause(error)}") from error

    # --- writes -------------------------------------------------------------------------------------------------------
    async def create(self, manifest: Manifest, *, manager: str, metadata_only: bool = False) -> Manifest | None:
        """See ``KubeApi``."""
        resource, namespace, name = _address(manifest)
        call = Call("create", resource, namespace, name)
        code, payload = await self._send(
            call,
            "POST",
            resource.path(namespace),
            _query({"fieldManager": manager}),
            manifest,
            accept=_PARTIAL if metadata_only else _JSON,
            tolerate=409,
        )
        if code == 409:
            refusal = Refusal.parse(code, payload)
            if refusal.reason == "AlreadyExists":
                return None
            raise to_error(call, refusal)
        return _object(call, payload)

    async def apply(
        self, manifest: Manifest, *, manager: str, force: bool = True, metadata_only: bool = False
    ) -> Manifest:
        """See ``KubeApi``."""
        resource, namespace, name = _address(manifest)
        return await self._json(
            Call("apply", resource, namespace, name),
            "PATCH",
            resource.path(namespace, name),
            _query({"fieldManager": manager, "force": "true" if force else "false"}),
            manifest,
            content_type=_APPLY,
            accept=_PARTIAL if metadata_only else _JSON,
        )

    async def replace(self, manifest: Manifest, *, manager: str, metadata_only: bool = False) -> Manifest:
        """See ``KubeApi``."""
        resource, namespace, name = _address(manifest)
        return await self._json(
            Call("replace", resource, namespace, name),
            "PUT",
            resource.path(namespace, name),
            _query({"fieldManager": manager}),
            manifest,
            accept=_PARTIAL if metadata_only else _JSON,
        )

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        patch_type: PatchType,
        manager: str,
        subresource: str | None = None,
        metadata_only: bool = False,
    ) -> Manifest:
        """See ``KubeApi``."""
        return await self._json(
            Call("patch", resource, namespace, name, subresource),
            "PATCH",
            resource.path(namespace, name, subresource),
            _query({"fieldManager": manager}),
            body,
            content_type=patch_type,
            accept=_PARTIAL if metadata_only else _JSON,
        )

    async def patch_status(
        self, resource: Resource, name: str, namespace: str | None, status: Mapping[str, Any], *, resource_version: str
    ) -> Manifest:
        """See ``KubeApi``."""
        # Setting the version inside the object makes the server compare it and answer 409; a JSON Patch "test" would be a 422.
        body = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/status", "value": dict(status)},
        ]
        return await self.patch(
            resource, name, namespace, body, patch_type=PatchType.JSON, manager=MANAGER_STATUS, subresource="status"
        )

    async def set_finalizers(
        self, resource: Resource, name: str, namespace: str | None, finalizers: Sequence[str], *, resource_version: str
    ) -> Manifest:
        """See ``KubeApi``."""
        body = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/metadata/finalizers", "value": list(finalizers)},
        ]
        return await self.patch(resource, name, namespace, body, patch_type=PatchType.JSON, manager=MANAGER_STATUS)

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, uid: str, propagation: str = "Background"
    ) -> bool:
        """See ``KubeApi``."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": propagation}
        code, _ = await self._send(
            Call("delete", resource, namespace, name),
            "DELETE",
            resource.path(namespace, name),
            "",
            body,
            accept=_PARTIAL,
            tolerate=(404, 409),
        )
        return code not in (404, 409)

    # --- one request ----------------------------------------------------------------------------------------------------
    async def _json(
        self,
        call: Call,
        method: str,
        path: str,
        query: str = "",
        body: Any = None,
        *,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Manifest:
        _, payload = await self._send(call, method, path, query, body, content_type=content_type, accept=accept)
        return _object(call, payload)

    async def _send(
        self,
        call: Call,
        method: str,
        path: str,
        query: str = "",
        body: Any = None,
        *,
        content_type: str = _JSON,
        accept: str = _JSON,
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

    def _headers(self, accept: str, content_type: str | None) -> dict[str, str]:
        headers = {"Accept": accept}
        if content_type is not None:
            headers["Content-Type"] = content_type
        authorization = self._credentials.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        return headers


def _query(parts: Mapping[str, str | None]) -> str:
    pairs = "&".join(f"{key}={quote(value, safe='')}" for key, value in parts.items() if value)
    return f"?{pairs}" if pairs else ""


def _address(manifest: Manifest) -> tuple[Resource, str | None, str]:
    metadata = manifest["metadata"]
    return resource_of(manifest), metadata.get("namespace"), metadata["name"]


def _object(call: Call, payload: bytes) -> Manifest:
    try:
        loaded = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        # A cut answer: whether a write happened is unknown, the next pass looks.
        raise Unavailable(f"{call}: the API server's answer is not valid JSON") from error
    if not isinstance(loaded, dict):
        raise Unavailable(f"{call}: the API server's answer is not an object")
    return loaded


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a stream, of any length (``readline`` gives up at 128 KiB)."""
    held: list[bytes] = []
    size = 0
    async for chunk in stream.iter_any():
        first, *rest = chunk.split(b"\n")
        held.append(first)
        size += len(first)
        if size > _MAX_EVENT:
            raise Unavailable("the API server sent a watch event of more than 16 MiB")
        for piece in rest:
            line = held[0] if len(held) == 1 else b"".join(held)
            if line:
                yield line
            held, size = [piece], len(piece)


def _event(call: Call, line: bytes) -> WatchEvent:
    event = _object(call, line)
    kind, body = event.get("type"), event.get("object") or {}
    if kind == "ERROR":
        raise to_error(call, Refusal.parse(int(body.get("code") or 500), orjson.dumps(body)))
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise InvalidSpec(f"{call}: an event of unknown type {kind!r}")
    return WatchEvent(kind, body)


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__
