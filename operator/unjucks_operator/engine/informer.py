"""The informer: keeps a store equal to what the API server has of one kind, and tells what changed.

LIST in pages → replace the store (what vanished is reported as deleted) → WATCH with bookmarks → after 410 the list again. It holds
no domain word: which objects, how they are indexed and what happens on a change are parameters. It never writes to the server.
Started by the process's start-up code, one task for each kind; the health check reads ``age()``, the workers wait for ``synced``.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from unjucks_operator.engine.clock import Clock
from unjucks_operator.errors import InvalidSpec, NotPermitted, OperatorError, Retryable, Waiting
from unjucks_operator.kube.api import Gone, KubeApi, Manifest, WatchEvent
from unjucks_operator.kube.child import Child, to_child
from unjucks_operator.kube.resources import Resource
from unjucks_operator.kube.store import ChildStore

log = logging.getLogger(__name__)

OnEvent = Callable[[Resource, Child | None, Child | None], None]
"""Resource, the child before (None: new) and after (None: deleted). Called in the loop's thread; must not block or raise.
Changes of which nothing is kept (a quota's usage) are not told."""

_CHUNK: Final = 500  # objects per page
_BACKOFF_FIRST: Final = 0.2  # seconds
_BACKOFF_LONGEST: Final = 30.0
_WATCHES_BEFORE_RELIST: Final = 5  # failures in a row from one version: that version may be the problem
_HEALTHY_WATCH: Final = 1.0  # seconds; a watch that ends sooner without an event counts as failed


class Informer:
    """One kind's list and watch. ``run`` until cancelled."""

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        *,
        index: Callable[[Child], str | None],
        on_event: OnEvent,
        clock: Clock,
        rng: random.Random,
        selector: str | None = None,
        namespace: str | None = None,
        metadata_only: bool = True,
    ) -> None:
        self.resource = resource
        self.store = ChildStore(index, full=not metadata_only)
        self.synced = asyncio.Event()
        """Set after the first complete list, and for good."""
        self.last_error: OperatorError | None = None
        """Why the last attempt failed; None while all is well."""
        self.relists = 0
        """How often everything had to be listed again after the first time; for metrics."""
        self._api = api
        self._on_event = on_event
        self._clock = clock
        self._rng = rng
        self._selector = selector
        self._namespace = namespace
        self._metadata_only = metadata_only
        self._heard = clock.monotonic()
        self._version = ""

    def age(self) -> float:
        """Seconds since the server last said anything: a page, an event or a bookmark. Above 180 something is wrong."""
        return self._clock.monotonic() - self._heard

    def upsert(self, manifest: Manifest) -> Child:
        """Put the answer of a write of our own in. No event: whoever wrote it knows. Returns the newest known state."""
        child = to_child(self.resource, manifest, full=self.store.full)
        self.store.put(child)
        return self.store.get(child.namespace, child.name) or child

    async def run(self) -> None:
        """List and watch for ever. Returns only by cancellation; an exception that escapes is a bug and should end the process."""
        failures = 0
        while True:
            try:
                await self._list()
                failures = 0
                await self._follow()
            except Gone as error:
                # The watch's version was compacted away: normal after a long pause. At once, unless it happens again and again.
                log.info("%s: %s; listing again", self.resource.plural, error.message)
                self.last_error = error
            except (Retryable, Waiting, NotPermitted, InvalidSpec) as error:
                self._note(error)
            await self._clock.sleep(self._pause(failures))
            failures += 1
            self.relists += self.synced.is_set()

    # --- the two phases ------------------------------------------------------------------------------------------------
    async def _list(self) -> None:
        floor = self.store.newest
        children: list[Child] = []
        version = ""
        async with aclosing(self._pages()) as pages:
            async for manifests, version in pages:  # noqa: B007  the last one is used below
                self._heard = self._clock.monotonic()
                # Projected page by page, so that a big cluster's list is never in memory as a whole.
                children += [to_child(self.resource, manifest, full=self.store.full) for manifest in manifests]
                await asyncio.sleep(0)
        listed = int(version)
        if listed < floor:
            # A list is never older than what we saw before we asked for it, unless etcd came back from a backup.
            log.warning("%s: the API server's history went back from %d to %d", self.resource.plural, floor, listed)
            self._deliver(self.store.reset())
        self._deliver(self.store.replace(children, listed))
        self._version = version
        self.last_error = None
        self.synced.set()

    async def _follow(self) -> None:
        """Watch after watch from the last known version. Raises Gone, or the error that came too many times in a row."""
        failures = 0
        again = False
        while True:
            started, heard = self._clock.monotonic(), self._heard
            try:
                if again:
                    await self._require_history()
                again = True
                async with aclosing(self._watch()) as events:
                    async for event in events:
                        self._heard = self._clock.monotonic()
                        self.last_error = None
                        self._take(event)
                ended_well = self._heard > heard or self._clock.monotonic() - started >= _HEALTHY_WATCH
            except Gone:
                raise
            except Retryable as error:
                ended_well = self._heard > heard
                self._note(error)
                if failures + 1 >= _WATCHES_BEFORE_RELIST and not ended_well:
                    raise
            failures = 0 if ended_well else failures + 1
            if failures:
                await self._clock.sleep(self._pause(failures - 1))

    async def _require_history(self) -> None:
        """Raise Gone when the server's versions are behind ours: etcd came back from a backup while we were disconnected.

        A watch from a version in the future would be accepted, and stay silent until history gets there.
        """
        async with aclosing(self._pages(chunk=1)) as pages:
            async for _, version in pages:
                if int(version) < int(self._version):
                    raise Gone(f"the server is at version {version}, before {self._version}")
                return

    def _take(self, event: WatchEvent) -> None:
        metadata = event.object["metadata"]
        self._version = metadata["resourceVersion"]
        version = int(self._version)
        if event.type == "BOOKMARK":
            self.store.heard(version)
            return
        namespace, name = metadata.get("namespace"), metadata["name"]
        if event.type == "DELETED":
            gone = self.store.remove(namespace, name, version)
            if gone is not None:
                self._on_event(self.resource, gone, None)
            return
        known = self.store.get(namespace, name)
        if known is None or known.resource_version < version:  # else it is the echo of a write: not worth a closer look
            change = self.store.put(to_child(self.resource, event.object, full=self.store.full))
            if change is not None:
                self._deliver([change])
        self.store.heard(version)

    def _deliver(self, changes: list[tuple[Child | None, Child | None]]) -> None:
        for old, new in changes:
            if old is not None and new is not None and old.uid != new.uid:
                # Deleted and made again while we were not looking: two different things for everybody who listens.
                self._on_event(self.resource, old, None)
                self._on_event(self.resource, None, new)
            elif old is None or new is None or not new.tells_nothing_new(old):
                self._on_event(self.resource, old, new)

    # --- small things -----------------------------------------------------------------------------------------------------
    def _pages(self, chunk: int = _CHUNK) -> AsyncGenerator[tuple[list[Manifest], str], None]:
        return self._api.list_pages(
            self.resource,
            namespace=self._namespace,
            label_selector=self._selector,
            metadata_only=self._metadata_only,
            chunk=chunk,
        )

    def _watch(self) -> AsyncGenerator[WatchEvent, None]:
        return self._api.watch(
            self.resource,
            resource_version=self._version,
            namespace=self._namespace,
            label_selector=self._selector,
            metadata_only=self._metadata_only,
        )

    def _note(self, error: OperatorError) -> None:
        """Log a failure once, not at each repetition."""
        known = self.last_error is not None and self.last_error.message == error.message
        self.last_error = error
        log.log(logging.DEBUG if known else logging.WARNING, "%s: %s", self.resource.plural, error.message)

    def _pause(self, failures: int) -> float:
        longest = min(_BACKOFF_LONGEST, _BACKOFF_FIRST * 2.0 ** min(failures, 10))
        return longest * self._rng.uniform(0.5, 1.0)
