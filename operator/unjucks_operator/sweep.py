"""Looking again although nothing was heard: set-based, once a minute. The repair of drift in the database, of missed events, and of
disasters, all in one. Makes no write itself: it only sends keys back to work. Also the gate that holds database work back until the
schema is ready. Made by ``app``.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from unjucks_api.reasons import Reason
from unjucks_operator.database.homes import Homes
from unjucks_operator.database.tenants import DatabaseState, TenantState
from unjucks_operator.engine.clock import Clock
from unjucks_operator.engine.queue import Lane, WorkQueue
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import OperatorError, Unavailable, Waiting

_log = logging.getLogger(__name__)

_PATIENCE = 30.0
"""Seconds for which a call waits for the preparation of the database at the start, before it says that it has to wait.

Longer than a slow machine needs: saying so makes every Tenant unready for that moment. A database that is down is known of earlier.
"""


class DatabaseGate:
    """The tenants' records, once the database is prepared; until then every call says that it is not available, and why."""

    def __init__(self, tenants: Homes) -> None:
        self._tenants = tenants
        self._why = ""
        self._open = False
        self._settled = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether the database is prepared."""
        return self._open

    def let_in(self) -> None:
        """The database is prepared."""
        self._open = True
        self._settled.set()

    def refuse(self, why: str) -> None:
        """The preparation failed; it will be tried again."""
        self._why = why
        self._settled.set()

    async def ensure(self, uid: str, name: str, *, wanted: str = "", first: str = "Shared") -> Any:
        """See ``Homes.ensure``."""
        await self._check()
        return await self._tenants.ensure(uid, name, wanted=wanted, first=first)

    async def move(self, uid: str, name: str, target: str) -> Any:
        """See ``Homes.move``."""
        await self._check()
        return await self._tenants.move(uid, name, target)

    async def renew_login(self, uid: str, there: str, *, every: float, overlap: float) -> Any:
        """See ``Homes.renew_login``."""
        await self._check()
        return await self._tenants.renew_login(uid, there, every=every, overlap=overlap)

    async def commit_login(self, uid: str, version: str, overlap: float) -> Any:
        """See ``Homes.commit_login``."""
        await self._check()
        return await self._tenants.commit_login(uid, version, overlap)

    async def drop_login(self, uid: str) -> None:
        """See ``Homes.drop_login``."""
        await self._check()
        await self._tenants.drop_login(uid)

    async def retire(self, uid: str, name: str) -> Any:
        """See ``Homes.retire``."""
        await self._check()
        return await self._tenants.retire(uid, name)

    async def drop(self, uid: str) -> Any:
        """See ``Homes.drop``."""
        await self._check()
        return await self._tenants.drop(uid)

    async def _check(self) -> None:
        if not self._settled.is_set():
            # At the start: a moment's patience, so that a restart does not make every Tenant unready for that moment.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._settled.wait()
        if not self._open and not self._why:
            # Ordinary at the start, and over in a moment: nothing to warn of.
            raise Waiting("the database is being prepared", reason=Reason.PROGRESSING, after=0.5)
        if not self._open:
            raise Unavailable(self._why, reason=Reason.DATABASE_UNAVAILABLE, after=1.0)


class Sweeper:
    """Two endless tasks: prepare the database until that succeeds, then sweep."""

    def __init__(
        self,
        *,
        prepare: Callable[[], Awaitable[object]],
        gate: DatabaseGate,
        records: Homes,
        tenants: ResourceStore,
        known_roles: dict[str, str],
        tenant_queue: WorkQueue[ObjectKey],
        others: list[tuple[ResourceStore, WorkQueue[ObjectKey]]],
        refresh_platform: Callable[[], Awaitable[None]],
        interval: float,
        resync: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._prepare = prepare
        self._gate = gate
        self._records = records
        self._tenants = tenants
        self._known_roles = known_roles
        self._tenant_queue = tenant_queue
        self._others = others
        self._refresh_platform = refresh_platform
        self._interval = interval
        self._resync = resync
        self._clock = clock
        self._rng = rng
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin; returns at once: an operator without its database still keeps isolation in place."""
        self._tasks = [
            asyncio.create_task(self._database(), name="database sweep"),
            asyncio.create_task(self._objects(), name="object resync"),
        ]

    async def stop(self) -> None:
        """End both tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _database(self) -> None:
        delay = 0.5
        while not self._gate.is_open:
            try:
                await self._prepare()
                self._gate.let_in()
                _log.info("the database is ready")
                self._wake_tenants()
            except OperatorError as error:
                self._gate.refuse(error.message)
                _log.warning("the database cannot be prepared, again in %.1f s: %s", delay, error.message)
                await self._clock.sleep(delay)
                delay = min(delay * 2, 15.0)
            except Exception:
                # Nobody waits for this task: an error that ended it would end every repair without a word.
                self._gate.refuse("the database cannot be prepared: an unexpected error; see the operator's log")
                _log.exception("unexpected error while the database was prepared, again in %.1f s", delay)
                await self._clock.sleep(delay)
                delay = min(delay * 2, 15.0)
        while True:
            await self._clock.sleep(self._interval * self._rng.uniform(0.8, 1.0))
            try:
                self.compare(await self._records.sweep())
                await self._refresh_platform()
            except OperatorError as error:
                _log.warning("the sweep could not be made: %s", error.message)
            except Exception:
                _log.exception("unexpected error in the sweep")

    def compare(self, states: dict[str, DatabaseState]) -> list[str]:
        """Send tenants whose database part is not right back to work; returns their names."""
        woken = []
        for body in self._tenants:
            metadata = body["metadata"]
            uid, name = metadata["uid"], metadata["name"]
            if metadata.get("deletionTimestamp") or uid not in self._known_roles:
                continue
            state = states.get(uid)
            if state is None or not state.healthy or state.state is not TenantState.ACTIVE:
                drift = ", ".join(state.drift) if state is not None else "it is gone"
                _log.warning(
                    "the database part of tenant %s drifted: %s", name, drift or state.state if state else drift
                )
                del self._known_roles[uid]
                self._tenant_queue.add(("", name), Lane.SPEC)
                woken.append(name)
        return woken

    def _wake_tenants(self) -> None:
        for key in self._tenants.keys():  # noqa: SIM118  a method of the store, not of a dict
            self._tenant_queue.add(key, Lane.RESYNC)

    async def _objects(self) -> None:
        """Each object once in ``resync`` seconds ± 20 %, spread over that time."""
        while True:
            pause = self._resync * self._rng.uniform(0.8, 1.2)
            await self._clock.sleep(pause)
            for store, queue in [(self._tenants, self._tenant_queue), *self._others]:
                for key in store.keys():  # noqa: SIM118
                    queue.add_after(key, self._rng.uniform(0.0, pause / 10), Lane.RESYNC)
