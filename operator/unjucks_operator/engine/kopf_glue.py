"""The event source: kopf watches our custom resources and tells a store. The only module that imports kopf.

kopf does discovery (it waits for a CRD that is not there yet), lists, watches, reconnects. Of its handlers only ``on.event`` is
used, which writes nothing. Its finalizer and storages are replaced by ones that raise: if a change here ever made kopf want to
write into somebody's object, it fails loudly instead (``_TripwireDiffs``, ``_TripwireProgress``).

What kopf 1.45 does not give, and what stands in for it:

- *Is the first list complete?* Its end is a private mark inside kopf. And after an expired watch (HTTP 410) it lists again but
  never says what vanished in between: such objects would live on as ghosts. And a watch that goes on from a version of a lost
  future (etcd restored from a backup) is blind. All have one cure, the audit (``audit``): each time a watch has been opened (our
  HTTP session sees the request) we list the metadata ourselves and make the store equal to it. Cost: one metadata-only list; the
  server ends watches every 30 to 60 minutes.
- *Is the watch alive?* kopf hides bookmarks from handlers. The session's middleware sees the bytes (aiohttp's tracing does not:
  it reports bodies that are read as a whole only), so each chunk of each stream counts as a sign of life: ``ages``.
- *An error inside the watch* ends kopf's tasks. They are started again here, with backoff; store, workers and lease live on.
- *Embedding*: ``kopf.operator`` cancels every task of the loop that is younger than itself and takes over SIGTERM. So its tasks
  are spawned (``kopf.spawn_tasks``) and supervised here, and ``reclaim_signals`` is called after each start.

Must not: decide anything about objects. Made by the assembly of the operator; ``ResourceStore`` subscribers feed the queues.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import aiohttp
import kopf

from unjucks_operator.engine.audit import Audit
from unjucks_operator.engine.clock import Clock, SystemClock
from unjucks_operator.engine.queue import Backoff
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.credentials import Credentials, Endpoint
from unjucks_operator.kube.resources import Resource

_log = logging.getLogger(__name__)
_RETRY_CEILINGS = (0.2, 0.5, 1.0, 2.0, 5.0)
_KOPF_FOLDER = Path(kopf.__file__).parent


class WatchMetrics:
    """What the event source reports; ``metrics.Metrics`` has the same methods. This one reports nothing."""

    def watch_restarted(self) -> None:
        """kopf's tasks ended with an error and were started again."""

    def repaired(self, plural: str, what: str) -> None:
        """The store differed from the server's list: ghost, missing or stale."""

    def observe_request(self, verb: str, plural: str, code: str, seconds: float) -> None:
        """A request of kopf's ended."""


@dataclass(eq=False, slots=True)
class _Watched:
    """One kind and the state of its watch."""

    resource: Resource
    store: ResourceStore
    audit: Audit
    asked_at: float | None = None
    """When a list or watch of this kind was first asked for; None while the CRD is not there."""
    heard_at: float | None = None


class KopfSource:
    """See the module's text. ``prefix`` is the domain under which kopf's names would appear if it ever wrote."""

    def __init__(
        self,
        api: KubeApi,
        endpoint: Endpoint,
        credentials: Credentials,
        watched: Sequence[tuple[Resource, ResourceStore]],
        *,
        prefix: str,
        audit_period: float = 600.0,
        silence: float = 180.0,
        metrics: WatchMetrics | None = None,
        reclaim_signals: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        user_agent: str = "unjucks-operator",
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._prefix = prefix
        self._silence = silence
        self._metrics = metrics or WatchMetrics()
        self._reclaim_signals = reclaim_signals
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  jitter
        self._user_agent = user_agent
        self._tasks: list[asyncio.Task[None]] = []
        self._sessions: list[aiohttp.ClientSession] = []
        self._restart = asyncio.Event()
        """The watches must begin anew."""
        self._watched = [
            _Watched(
                resource,
                store,
                Audit(
                    api,
                    resource,
                    store,
                    period=audit_period,
                    repaired=self._metrics.repaired,
                    went_back=self._restart.set,
                    clock=self._clock,
                    rng=self._rng,
                ),
            )
            for resource, store in watched
        ]
        self._by_path = {item.resource.path(): item for item in self._watched}

    # --- life -------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Return when every kind is synced. Waits as long as a CRD is missing or the API server is down."""
        self._tasks = [asyncio.create_task(self._supervise(), name="kopf supervisor")]
        self._tasks += [
            asyncio.create_task(item.audit.run(), name=f"audit of {item.resource.plural}") for item in self._watched
        ]
        for item in self._watched:
            await item.audit.synced.wait()

    async def stop(self) -> None:
        """End kopf and its connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._close_sessions()

    # --- for health and metrics ---------------------------------------------------------------------------------------------

    @property
    def synced(self) -> bool:
        """Whether the stores have been complete once."""
        return all(item.audit.synced.is_set() for item in self._watched)

    def check_synced(self) -> str | None:
        """A health check: the stores are complete."""
        waiting = [_title(item.resource) for item in self._watched if not item.audit.synced.is_set()]
        return f"not listed yet (is the CRD installed?): {', '.join(waiting)}" if waiting else None

    def check_fresh(self) -> str | None:
        """A health check: no watch has been silent for too long."""
        silent = [f"{plural} for {age:.0f} s" for plural, age in self.ages().items() if age > self._silence]
        return f"watches are silent: {', '.join(silent)}" if silent else None

    def ages(self) -> dict[str, float]:
        """Seconds since each watch heard anything, by plural; kinds whose CRD is not there yet are left out."""
        now = self._clock.monotonic()
        since = {
            item.resource.plural: item.heard_at if item.heard_at is not None else item.asked_at
            for item in self._watched
        }
        return {plural: now - moment for plural, moment in since.items() if moment is not None}

    # --- kopf ---------------------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        backoff, failures = Backoff(base=1.0, cap=30.0), 0
        while True:
            began = self._clock.monotonic()
            problem = await self._run_kopf()
            failures = 1 if self._clock.monotonic() - began > 300.0 else failures + 1
            delay = backoff.delay(failures, self._rng)
            _log.warning("the watches ended and are started again in %.1f s: %s", delay, problem)
            self._metrics.watch_restarted()
            await self._clock.sleep(delay)

    async def _run_kopf(self) -> str:
        """One life of kopf. Returns why it ended; when cancelled, ends it first."""
        roots: list[asyncio.Task[Any]] = []
        self._restart.clear()
        restart = asyncio.create_task(self._restart.wait(), name="restart request")
        try:
            # No stop flag: kopf would leave the task that waits for it behind. Its root tasks end by cancellation.
            roots = list(
                await kopf.spawn_tasks(
                    registry=self._registry(),
                    settings=settings(self._prefix, self._rng),
                    standalone=True,
                    clusterwide=True,
                )
            )
            self._reclaim_signals()
            done, _ = await asyncio.wait([*roots, restart], return_when=asyncio.FIRST_COMPLETED)
            return "the server's history went back" if restart in done else "; ".join(map(_ending, done))
        finally:
            restart.cancel()
            # Shielded: when we are cancelled while waiting, kopf must still come to its end.
            ending = asyncio.ensure_future(self._end_kopf(roots))
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                await ending
                raise

    async def _end_kopf(self, roots: list[asyncio.Task[Any]]) -> None:
        """Cancel kopf's root tasks, which end what they have begun; then what they leave behind when one of them failed."""
        for task in roots:
            task.cancel()
        await asyncio.gather(*roots, return_exceptions=True)
        for _ in range(5):
            left = [task for task in asyncio.all_tasks() if _is_kopfs(task)]
            # Watchers first, and alone: they end their helpers, and a helper that ends first makes a watcher go on.
            left = [task for task in left if task.get_name().startswith("watcher for ")] or left
            if not left:
                break
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=2.0)
        else:
            _log.warning("some of kopf's tasks do not end: %s", ", ".join(task.get_name() for task in left))
        await self._close_sessions()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry, id="login")
        async def login(**_: Any) -> kopf.AiohttpSession:
            return kopf.AiohttpSession(server=self._endpoint.server, aiohttp_session=self._open_session())

        for item in self._watched:
            resource = item.resource
            kopf.on.event(
                resource.group, resource.version, resource.plural, registry=registry, id=f"store-{resource.plural}"
            )(_handler(item.store))
        return registry

    # --- HTTP ---------------------------------------------------------------------------------------------------------------

    def _open_session(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=self._endpoint.tls if self._endpoint.tls is not None else False
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
            proxy=self._endpoint.proxy,
            middlewares=(self._middleware,),
        )
        self._sessions.append(session)
        return session

    async def _close_sessions(self) -> None:
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            await session.close()
        if sessions:
            await asyncio.sleep(0)  # TLS transports need a turn of the loop to end

    async def _middleware(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Each request of kopf's passes here: credentials are added, signs of life are noted."""
        item = self._by_path.get(request.url.path)
        watching = request.url.query.get("watch") == "true"
        if self._endpoint.tls_server_name:
            request.server_hostname = self._endpoint.tls_server_name
        started = self._clock.monotonic()
        if item is not None:
            item.asked_at = item.asked_at if item.asked_at is not None else started
        verb, plural = ("watch" if watching else "list", item.resource.plural) if item else ("get", _plural(request))
        try:
            self._authorize(request)
            response = await handler(request)
            if response.status == 401 and await self._credentials.refresh():
                response.release()
                self._authorize(request)
                response = await handler(request)
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._metrics.observe_request(verb, plural, "error", self._clock.monotonic() - started)
            raise
        self._metrics.observe_request(verb, plural, str(response.status), self._clock.monotonic() - started)
        if item is not None and response.status == 200:
            self._heard(item)
            if watching:
                # response.content is what kopf reads the stream from; the wrapper hands everything else through.
                response.content = cast(aiohttp.StreamReader, _Stream(response.content, lambda: self._heard(item)))
                item.audit.opened()
        return response

    def _authorize(self, request: aiohttp.ClientRequest) -> None:
        authorization = self._credentials.authorization()
        if authorization is not None:
            request.headers["Authorization"] = authorization

    def _heard(self, item: _Watched) -> None:
        item.heard_at = self._clock.monotonic()


def settings(prefix: str, rng: random.Random) -> kopf.OperatorSettings:
    """kopf's settings for a pure event source; what each one prevents is in the module's text."""
    result = kopf.OperatorSettings()
    result.posting.enabled = False
    result.peering.standalone = True
    result.process.ultimate_exiting_timeout = None  # it would kill the whole process when kopf is started again
    result.watching.chunk_size = 500
    result.watching.connect_timeout = 5.0
    result.queueing.idle_timeout = 1.0
    result.queueing.exit_timeout = 1.0
    result.networking.request_timeout = 30.0
    result.networking.connect_timeout = 5.0
    result.networking.error_backoffs = _Jitter(rng)
    result.persistence.finalizer = f"{prefix}/kopf-must-not-write"
    result.persistence.diffbase_storage = _TripwireDiffs()
    result.persistence.progress_storage = _TripwireProgress()
    return result


class _Jitter:
    """Endless short delays for kopf's requests: a watch that gives up would end all watches."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def __iter__(self) -> Iterator[float]:
        step = 0
        while True:
            ceiling = _RETRY_CEILINGS[min(step, len(_RETRY_CEILINGS) - 1)]
            yield self._rng.uniform(ceiling / 2, ceiling)
            step += 1


class _TripwireDiffs(kopf.DiffBaseStorage):
    """Remembers no last-handled state, so nothing is copied or compared for each event; refuses to write one."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        """Nothing to compare."""
        return cast(kopf.BodyEssence, {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> NoReturn:
        """Never wanted."""
        raise AssertionError("kopf wants to write its last-handled state; only on.event handlers may be registered")


class _TripwireProgress(kopf.ProgressStorage):
    """Remembers no progress of handlers; refuses to write any."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        """Nothing was stored."""

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> NoReturn:
        """Never wanted."""
        raise AssertionError("kopf wants to write a handler's progress; only on.event handlers may be registered")

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing to purge."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> NoReturn:
        """Never wanted."""
        raise AssertionError("kopf wants to touch an object; only on.event handlers may be registered")

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Nothing to clear."""
        return essence


class _Stream:
    """A response's stream that tells of each chunk."""

    def __init__(self, stream: aiohttp.StreamReader, heard: Callable[[], None]) -> None:
        self._stream = stream
        self._heard = heard

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """What kopf reads watches with."""
        async for chunk in self._stream.iter_chunked(size):
            self._heard()
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _handler(store: ResourceStore) -> Callable[..., Any]:
    async def on_event(event: kopf.RawEvent, **_: Any) -> None:
        # An exception here would be logged and dropped by kopf, so there is nothing here that could fail but a broken subscriber.
        body = cast(dict[str, Any], event["object"])
        if event["type"] == "DELETED":
            store.remove(body)
        else:
            store.put(body)

    return on_event


def _title(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}"


def _plural(request: aiohttp.ClientRequest) -> str:
    """For metrics of requests that are not about our kinds: CRDs, discovery."""
    last = request.url.path.rsplit("/", 1)[-1]
    return last if last == "customresourcedefinitions" else "discovery"


def _is_kopfs(task: asyncio.Task[Any]) -> bool:
    """Whether kopf made this task: its coroutine's code is in kopf's package. Its watchers outlive a failed sibling."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and Path(code.co_filename).is_relative_to(_KOPF_FOLDER)


def _ending(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return f"{task.get_name()} was cancelled"
    error = task.exception()
    return f"{task.get_name()}: {type(error).__name__}: {error}" if error else f"{task.get_name()} ended"
