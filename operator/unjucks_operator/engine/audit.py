"""The audit: one kind's store compared with the server's own list, and made equal to it.

    opened() or ``period`` ──► LIST, metadata only ──► drop ghosts ──► wait for what events still bring ──► fetch what is left

Sound only when the list is younger than the start of the watch that feeds the store: whatever changes after the list then comes
as an event, and versions decide in the store. So ``opened`` is to be called each time that a watch has been opened. The first
audit is the barrier: before it nobody knows whether the store is complete (``synced``).

Must not: decide anything about objects, or write to the server. Made and run by the event source.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing

from unjucks_operator.engine.clock import Clock
from unjucks_operator.engine.queue import Backoff
from unjucks_operator.engine.store import ObjectKey, ResourceStore, key_of, version_of
from unjucks_operator.errors import OperatorError
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.resources import Resource

_log = logging.getLogger(__name__)
_PATIENCE = 2.0
"""Seconds without progress after which objects that a list has and events did not bring are fetched."""
_PAUSE = 1.0
"""Seconds between two audits at least: watches that are cut again and again must not become a storm of lists."""


class Audit:
    """See the module's text. ``repaired`` is told each difference: ghost, missing or stale; those of the first audit are none.

    ``went_back`` is called when the server's history is older than ours (etcd came back from a backup), after the store was
    emptied: the watch must begin anew, because one that goes on from a version of the lost future is blind.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        store: ResourceStore,
        *,
        period: float,
        repaired: Callable[[str, str], None],
        went_back: Callable[[], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.synced = asyncio.Event()
        self._api = api
        self._resource = resource
        self._store = store
        self._period = period
        self._repaired = repaired
        self._went_back = went_back
        self._clock = clock
        self._rng = rng
        self._due = asyncio.Event()

    def opened(self) -> None:
        """A watch of this kind has been opened: an audit is due."""
        self._due.set()

    async def run(self) -> None:
        """Audit after audit, for ever; the first one after the first ``opened``."""
        backoff, failures, plural = Backoff(base=0.5, cap=30.0), 0, self._resource.plural
        await self._due.wait()
        while True:
            self._due.clear()
            began = self._clock.monotonic()
            try:
                await self._compare()
            except OperatorError as error:
                failures += 1
                delay = backoff.delay(failures, self._rng)
                _log.info("%s could not be compared with the server, again in %.1f s: %s", plural, delay, error)
                await self._clock.sleep(delay)
                continue
            failures = 0
            if not self.synced.is_set():
                self.synced.set()
                _log.info("%s synced", plural, extra={"objects": len(self._store)})
            timer = self._clock.call_later(self._period * self._rng.uniform(0.8, 1.2), self._due.set)
            try:
                await self._due.wait()
            finally:
                timer.cancel()
            await self._clock.sleep(max(0.0, began + _PAUSE - self._clock.monotonic()))

    async def _compare(self) -> None:
        resource, store = self._resource, self._store
        floor = store.newest()
        objects, list_version = await self._api.list_all(resource, metadata_only=True)
        versions = {key_of(body): version_of(body) for body in objects}
        if int(list_version) < floor:
            # A list is never older than what we knew before we asked for it, unless etcd was restored from a backup.
            _log.warning("%s: the API server's history went back from %d to %s", resource.plural, floor, list_version)
            store.reset()
            self._went_back()
        for key in store.drop_ghosts(versions, int(list_version)):
            self._report(key, "ghost", "was deleted while nobody looked")
        lacking = set(await self._lacking(versions))
        if not lacking:
            return
        # Page by page, and of each only what is lacking. It hardly ever happens, so it is not worth a right to read single objects.
        async with aclosing(self._api.list_pages(resource)) as pages:
            async for page, _ in pages:
                for body in page:
                    key = key_of(body)
                    what = store.lacks(key, versions[key]) if key in lacking else None
                    if what is not None and store.put(body):
                        self._report(key, what, f"was {what} in memory")

    async def _lacking(self, versions: dict[ObjectKey, int]) -> list[ObjectKey]:
        """What the list has and events have not brought, once they bring no more of it."""
        lacking = [key for key, version in versions.items() if self._store.lacks(key, version)]
        idle_since = self._clock.monotonic()
        while lacking and self._clock.monotonic() - idle_since < _PATIENCE:
            await self._clock.sleep(0.05)
            rest = [key for key in lacking if self._store.lacks(key, versions[key])]
            if len(rest) < len(lacking):
                idle_since = self._clock.monotonic()
            lacking = rest
        return lacking

    def _report(self, key: ObjectKey, what: str, text: str) -> None:
        if self.synced.is_set():
            self._repaired(self._resource.plural, what)
            _log.info("%s %s %s", self._resource.kind, "/".join(filter(None, key)), text)
