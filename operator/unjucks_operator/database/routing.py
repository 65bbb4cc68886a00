"""Which database a tenant's transaction goes to: the shared one, or the tenant's own; and the connections to the latter.

The way is remembered for each role and is only a hint: the gate in the database itself (``unjucks_ops.enter``) refuses work for a
tenant whose rows are elsewhere, and then the way is looked up again. Connections to tenants' own databases have a budget of their
own; what was used longest ago is closed when a new one is needed, never what is in use. Called by the ledger, artifacts and
catalogues.
"""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit, urlunsplit

from unjucks_operator.database.failures import Elsewhere, unavailable
from unjucks_operator.database.identifiers import quote_tenant_role
from unjucks_operator.database.pool import Connection, Database

MAX_REMEMBERED = 100_000


def dsn_of(dsn: str, database: str) -> str:
    """``dsn`` with another database in it."""
    return urlunsplit(urlsplit(dsn)._replace(path="/" + quote(database, safe="")))


class OwnDatabase(Database):
    """Connections to one tenant's own database. What was found out about the server once is not asked again for each."""

    def __init__(self, platform: Database, name: str, *, connections: int) -> None:
        super().__init__(
            dsn_of(platform.dsn, name),
            prefix=platform.prefix,
            settings=replace(platform.settings, max_connections=connections, max_idle=30.0),
        )
        self._platform = platform

    async def _look(self) -> tuple[bool, bool]:
        answer = await self._platform.server_facts()
        self._notice_loss = answer.notice_loss
        return answer.pooler, answer.is_service


@dataclass(slots=True)
class _Open:
    database: Database
    users: int = 0


class OwnDatabases:
    """At most ``budget`` connections to tenants' own databases, ``each`` at most to one of them."""

    def __init__(self, platform: Database, *, budget: int, each: int = 2, wait: float = 10.0) -> None:
        self._platform = platform
        self._each = max(1, min(each, budget))
        self._places = max(1, budget // self._each)
        self._wait = wait
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._changed = asyncio.Condition()

    @property
    def budget(self) -> int:
        """Connections that may be open at one time."""
        return self._places * self._each

    def usage(self) -> tuple[int, int]:
        """Databases with a pool, and sessions open to them; for metrics."""
        return len(self._open), sum(entry.database.usage()[0] for entry in self._open.values())

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[Database]:
        """The database of that name (a tenant's role name), or a template's.

        Raises Unavailable when the budget is used up for long.
        """
        entry = await self._take(name)
        try:
            yield entry.database
        finally:
            async with self._changed:
                entry.users -= 1
                self._changed.notify_all()

    async def forget(self, name: str) -> None:
        """Close the connections to a database that is renamed or dropped; transactions under way are cut."""
        async with self._changed:
            entry = self._open.pop(name, None)
            self._changed.notify_all()
        if entry is not None:
            await entry.database.close()

    async def close(self) -> None:
        """End everything."""
        entries, self._open = list(self._open.values()), OrderedDict()
        for entry in entries:
            await entry.database.close()

    async def _take(self, name: str) -> _Open:
        leaving: _Open | None = None
        try:
            async with asyncio.timeout(self._wait):
                async with self._changed:
                    while True:
                        entry = self._open.get(name)
                        if entry is None:
                            leaving = self._make_room()
                            if leaving is not None or len(self._open) < self._places:
                                entry = self._open[name] = _Open(
                                    OwnDatabase(self._platform, name, connections=self._each)
                                )
                                await entry.database.open()
                        if entry is not None:
                            self._open.move_to_end(name)
                            entry.users += 1
                            break
                        await self._changed.wait()
        except TimeoutError:
            raise unavailable("all connections to tenants' own databases are busy") from None
        if leaving is not None:
            await leaving.database.close()
        return entry

    def _make_room(self) -> _Open | None:
        """The one that was used longest ago and is not in use now, taken out; None when there is room, or nothing can go."""
        if len(self._open) < self._places:
            return None
        for name, entry in self._open.items():
            if entry.users == 0:
                return self._open.pop(name)
        return None


class Router:
    """Transactions of tenants, wherever their rows are. Has the ``tenant_tx`` of ``Database``."""

    def __init__(self, platform: Database, own: OwnDatabases) -> None:
        self._platform = platform
        self._own = own
        self._ways: OrderedDict[str, str | None] = OrderedDict()

    def learn(self, role: str, database: str | None) -> None:
        """Where the rows of this role are; None: the shared database."""
        self._ways[role] = database
        self._ways.move_to_end(role)
        if len(self._ways) > MAX_REMEMBERED:
            self._ways.popitem(last=False)

    def forget(self, role: str) -> None:
        """Look it up again the next time."""
        self._ways.pop(role, None)

    @asynccontextmanager
    async def tenant_tx(
        self, role: str, *, limit: float | None = None, purpose: str = "write", move: uuid.UUID | None = None
    ) -> AsyncIterator[Connection]:
        """See ``Database.tenant_tx``. A tenant that moved since the last time is found at its new place."""
        quote_tenant_role(role)
        entered = False
        for last in (False, True):
            try:
                async with (
                    self._at(role) as database,
                    database.tenant_tx(role, limit=limit, purpose=purpose, move=move) as connection,
                ):
                    entered = True
                    yield connection
                    return
            except Elsewhere:
                self.forget(role)
                if entered or last:
                    raise

    @asynccontextmanager
    async def _at(self, role: str) -> AsyncIterator[Database]:
        if role not in self._ways:
            async with self._platform.service_tx() as connection:
                home = await connection.fetchval("SELECT home FROM unjucks_ops.placement WHERE role_name = $1", role)
            self.learn(role, role if home == "dedicated" else None)
        name = self._ways[role]
        if name is None:
            yield self._platform
            return
        async with self._own.using(name) as database:
            yield database
