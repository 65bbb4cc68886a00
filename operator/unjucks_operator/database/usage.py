"""How much a tenant keeps in the database, and how often its jobs ran lately. Reads only, as the tenant's own role.

Nothing here can see another tenant's rows, so there is no query over all tenants: whoever asks for many asks one by one, slowly.
Called by the tenant controller (before a deletion), the usage collector, and the hourly limit of jobs after a restart.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from unjucks_operator.database.pool import TenantTransactions

MAX_STARTS = 100_000


@dataclass(frozen=True, slots=True)
class Size:
    """Rows, and bytes of what they hold (stored form, without indexes); of a database of the tenant's own, all of its bytes."""

    rows: int
    bytes: int


class DatabaseUsage:
    """Figures of one tenant at a time."""

    def __init__(self, database: TenantTransactions) -> None:
        self._database = database

    async def size(self, role: str) -> Size:
        """All of the tenant's rows. Raises Unavailable when the database does not answer."""
        async with self._database.tenant_tx(role, purpose="read") as connection:
            row = await connection.fetchrow(_SIZE)
        return Size(int(row["rows"]), int(row["bytes"]))

    async def starts(self, role: str, window: timedelta) -> dict[str, datetime]:
        """When runs began in the last ``window``, by run key, at most MAX_STARTS of them."""
        async with self._database.tenant_tx(role, purpose="read") as connection:
            rows = await connection.fetch(_STARTS, window, MAX_STARTS)
        return {row["run_key"]: row["created_at"] for row in rows}


_SIZE = """
    SELECT sum(rows) AS rows,
           CASE WHEN current_database() = current_user  -- a database of the tenant's own: all of it
                THEN (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relkind IN ('r', 'm'))
                ELSE sum(bytes) END AS bytes
      FROM (
        SELECT count(*) AS rows, coalesce(sum(octet_length(content)), 0) AS bytes FROM unjucks.artifact
        UNION ALL SELECT count(*), coalesce(sum(octet_length(content)), 0) FROM unjucks.catalog
        UNION ALL SELECT count(*), coalesce(sum(pg_column_size(r)), 0) FROM unjucks.generation_run r
    ) parts
"""
_STARTS = """
    SELECT run_key, created_at FROM unjucks.generation_run
     WHERE created_at > now() - $1::interval ORDER BY created_at DESC LIMIT $2
"""
