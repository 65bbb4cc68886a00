"""Looks at every Redis server again and again: users that are missing or changed, servers that went and came back.

It changes nothing at Redis: tenants whose user is not right go back to work, which repairs it. A restarted server has no users any
more, and this is who notices. A server counts as gone when two looks in a row fail. Made by ``app``.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from unjucks_api import names
from unjucks_operator.cache.acl import Seen, differences
from unjucks_operator.cache.server import Look, Server, open_message
from unjucks_operator.engine.clock import Clock
from unjucks_operator.errors import OperatorError
from unjucks_operator.planning import CacheUser

_log = logging.getLogger(__name__)
_SECOND_LOOK = 1.0


class CacheWatch:
    """One endless task for each server. ``known`` are the users believed to be right, by tenant UID; ``wake`` makes one unknown
    and sends its tenant to work, ``wake_all`` does so with every tenant."""

    def __init__(
        self,
        servers: tuple[Server, ...],
        known: Mapping[str, CacheUser],
        *,
        wake: Callable[[str], None],
        wake_all: Callable[[], None],
        interval: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._servers = servers
        self._known = known
        self._wake = wake
        self._wake_all = wake_all
        self._interval = interval
        self._clock = clock
        self._rng = rng
        self._state: dict[Server, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin; returns at once."""
        self._tasks = [
            asyncio.create_task(self._run(server), name=f"look at Redis {server.address.place}")
            for server in self._servers
        ]

    async def stop(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, server: Server) -> None:
        while True:
            try:
                await self.check(server)
            except Exception:
                # Nobody waits for this task: an error that ended it would end every repair without a word.
                _log.exception("unexpected error while Redis %s was looked at", server.address.place)
            await self._clock.sleep(self._interval * self._rng.uniform(0.9, 1.1))

    async def check(self, server: Server) -> list[str]:
        """One look and what follows from it; returns the UIDs of the tenants that were sent to work because of their user."""
        look = await self._look_twice(server)
        place = server.address.place
        state = _trouble(place, look)
        before = self._state.get(server, "")
        self._state[server] = state
        if bool(before) != bool(state):
            _log.log(logging.WARNING if state else logging.INFO, "%s", state or f"Redis {place} is usable again")
            self._wake_all()
        if isinstance(look, OperatorError) or state:
            return []
        return self._compare(place, look)

    async def _look_twice(self, server: Server) -> Look | OperatorError:
        try:
            return await server.look()
        except OperatorError:
            await self._clock.sleep(_SECOND_LOOK)
        try:
            return await server.look()
        except OperatorError as error:
            return error

    def _compare(self, place: str, look: Look) -> list[str]:
        woken = []
        for uid, wanted in list(self._known.items()):
            seen = look.users.get(names.cache_user(uid))
            found = _found(uid, wanted, seen, look.commands)
            if found:
                _log.warning("user %s at Redis %s is not right: %s", names.cache_user(uid), place, ", ".join(found))
                self._wake(uid)
                woken.append(uid)
        return woken


def _trouble(place: str, look: Look | OperatorError) -> str:
    """Why no tenant can use the server; empty when it is fine."""
    if isinstance(look, OperatorError):
        return look.message
    return open_message(place, look.open_users) if look.open_users else ""


def _found(uid: str, wanted: CacheUser, seen: Seen | None, commands: str) -> tuple[str, ...]:
    if wanted.exists:
        return differences(uid, wanted.hashes, seen, commands)
    return ("there is one",) if seen is not None else ()
