"""What can be generated from a stored tree: the actions with their schemas, as the renderer found them, per tenant.

Status shows a bounded part of it; jobs are checked against the whole. Kept so that a restarted operator need not ask a renderer
again. Stored compressed, checked by its model on the way out. Called by the registry and job controllers.
"""

# ruff: noqa: S608  statements are put together from constants of this package only; every value is a parameter

import zlib
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

import orjson

from unjucks_api.render_protocol import Action
from unjucks_operator.database.artifacts import OWN
from unjucks_operator.database.pool import TenantTransactions

MAX_BYTES: Final = 8 * 1024 * 1024


class Catalogs:
    """Stored catalogues. Every method acts as the tenant role it is given."""

    def __init__(self, database: TenantTransactions) -> None:
        self._database = database

    async def put(self, role: str, key: str, digest: str, actions: Sequence[Action]) -> None:
        """Stores ``actions`` under ``key`` (``artifact.catalog_key``); repeating it is harmless."""
        content = zlib.compress(orjson.dumps([action.model_dump(by_alias=True) for action in actions]))
        async with self._database.tenant_tx(role) as connection:
            await connection.execute(_PUT, key, digest, content)

    async def get(self, role: str, key: str) -> tuple[Action, ...] | None:
        """The actions; None when there are none stored, or what is stored cannot be read (it is made again then)."""
        async with self._database.tenant_tx(role, purpose="read") as connection:
            content = await connection.fetchval(
                f"SELECT content FROM unjucks.catalog WHERE tenant_id = {OWN} AND key = $1", key
            )
        if content is None:
            return None
        try:
            unpacker = zlib.decompressobj()
            plain = unpacker.decompress(content, MAX_BYTES)
            if not unpacker.eof:
                return None
            return tuple(Action.model_validate(item) for item in orjson.loads(plain))
        except (zlib.error, ValueError):
            return None

    async def prune_unreferenced(self, role: str, keep: Collection[str], *, unused_for: timedelta) -> int:
        """Deletes catalogues of trees whose digests are not in ``keep``, last put longer than ``unused_for`` ago; how many."""
        async with self._database.tenant_tx(role) as connection:
            tag: str = await connection.execute(
                f"DELETE FROM unjucks.catalog WHERE tenant_id = {OWN} AND digest <> ALL ($1::text[]) "
                "AND used_at < now() - $2::interval",
                list(keep), unused_for,
            )  # fmt: skip
        return int(tag.rpartition(" ")[2])


_PUT: Final = f"""
    INSERT INTO unjucks.catalog (tenant_id, key, digest, content) VALUES ({OWN}, $1, $2, $3)
    ON CONFLICT (tenant_id, key) DO UPDATE SET content = excluded.content, digest = excluded.digest, used_at = now()
"""
