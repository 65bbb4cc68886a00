"""The tenants' own logins at PostgreSQL, for those that asked for direct access: made, rotated with overlap, ended.

Two logins for each tenant, a and b. A rotation gives the idle one a new password, writes it into the tenant's Secret, and ends the
other one after an overlap: at any moment the Secret's password works, and so does the one before for as long as the overlap says.
Steps: ``begin`` (the idle login gets a verifier; version noted as pending) → the Secret, carrying that version → ``commit``. A
crash before the Secret: the password is lost, and the idle login gets another one. A crash after it: the Secret's version tells,
and commit follows. The password exists in this process only between making it and writing the Secret; the server gets a SCRAM
verifier computed here. Logins read their tenant's rows and write nothing: what publishes exactly once must not be in a tenant's
hands. Called by ``homes``.
"""

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from unjucks_operator.database.bootstrap import scram_verifier
from unjucks_operator.database.pool import Database

PASSWORD_BYTES = 32


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """Of one login. Times are in milliseconds, as PostgreSQL counts them."""

    connections: int = 5
    statement_timeout: int = 60_000
    idle_in_transaction: int = 60_000
    idle_session: int = 900_000
    temp_kilobytes: int = 262_144

    def settings(self) -> dict[str, str]:
        """What ``ALTER ROLE ... SET`` gets. Of these a tenant can raise all but the temporary files for its own sessions."""
        return {
            "default_transaction_read_only": "on",
            "idle_in_transaction_session_timeout": str(self.idle_in_transaction),
            "idle_session_timeout": str(self.idle_session),
            "lock_timeout": "5000",
            "statement_timeout": str(self.statement_timeout),
            "temp_file_limit": str(self.temp_kilobytes),
        }


@dataclass(frozen=True, slots=True)
class LoginState:
    """A tenant's logins as the database has them."""

    uid: str
    role: str
    slot: str | None = None
    version: str | None = None
    pending_version: str | None = None
    shared: bool = True
    rotated_at: datetime | None = None
    retire_at: datetime | None = None
    due: bool = False
    """The old login has had its overlap."""
    drift: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, str]:
        """Both logins."""
        return f"{self.role}_a", f"{self.role}_b"


@dataclass(frozen=True, slots=True)
class NewLogin:
    """What goes into the Secret, once. ``repr`` shows no password."""

    login: str
    version: str
    password: str = field(repr=False)


class Logins:
    """The operator's hand on tenants' logins.

    ``others``: connections that the operator itself may open, for the server's budget.
    """

    def __init__(self, platform: Database, *, limits: LoginLimits | None = None, others: int = 0) -> None:
        self._platform = platform
        self._limits = limits or LoginLimits()
        self._others = others

    async def state(self, uid: str) -> LoginState | None:
        """One tenant's logins; None when it has none."""
        async with self._platform.service_tx() as connection:
            row = await connection.fetchrow("SELECT * FROM unjucks_ops.login_report($1)", uuid.UUID(uid))
        return None if row is None else login_of(row)

    async def report(self) -> dict[str, LoginState]:
        """All of them by UID, with what is not as it has to be; one query."""
        async with self._platform.service_tx() as connection:
            rows = await connection.fetch("SELECT * FROM unjucks_ops.login_report(NULL)")
        return {str(row["tenant_id"]): login_of(row) for row in rows}

    async def begin(self, uid: str, *, shared: bool) -> NewLogin:
        """Give the login that is not in use a new password.

        Raises Waiting(ConnectionBudget) when the server has no connections for it.
        """
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        version = str(uuid.uuid4())
        async with self._platform.service_tx() as connection:
            login = await connection.fetchval(
                "SELECT unjucks_ops.login_begin($1, $2, $3, $4, $5, $6::text::jsonb, $7)::text",
                uuid.UUID(uid), scram_verifier(password), uuid.UUID(version), shared, self._limits.connections,
                orjson.dumps(self._limits.settings()).decode(), self._others,
            )  # fmt: skip
        return NewLogin(login, version, password)

    async def commit(self, uid: str, version: str, overlap: timedelta) -> bool:
        """The Secret has it: it is the tenant's login now, and the one before ends after ``overlap``.

        False: this version is not pending.
        """
        async with self._platform.service_tx() as connection:
            return bool(
                await connection.fetchval(
                    "SELECT unjucks_ops.login_commit($1, $2, $3)", uuid.UUID(uid), uuid.UUID(version), overlap
                )
            )

    async def mend(self, uid: str, *, shared: bool) -> tuple[str, ...]:
        """Put limits, memberships, settings and passwords back, and end the old login when it is due; returns what was wrong."""
        async with self._platform.service_tx() as connection:
            found = await connection.fetchval(
                "SELECT unjucks_ops.login_mend($1, $2, $3, $4::text::jsonb)",
                uuid.UUID(uid), shared, self._limits.connections, orjson.dumps(self._limits.settings()).decode(),
            )  # fmt: skip
        return tuple(found or ())

    async def drop(self, uid: str) -> bool:
        """No direct access any more: sessions end now.

        False when a role had to stay (something depends on it); it cannot log in.
        """
        async with self._platform.service_tx() as connection:
            return bool(await connection.fetchval("SELECT unjucks_ops.login_drop($1)", uuid.UUID(uid)))

    async def open_databases(self) -> tuple[str, ...]:
        """Databases of the server that let everybody in, tenants' logins too; an administrator closes them."""
        async with self._platform.service_tx() as connection:
            rows = await connection.fetch("SELECT unjucks_ops.open_databases()::text AS name")
        return tuple(row["name"] for row in rows)


def login_of(row: Mapping[str, Any]) -> LoginState:
    """A line of ``login_report``."""
    return LoginState(
        uid=str(row["tenant_id"]),
        role=row["role_name"],
        slot=row["slot"],
        version=str(row["version"]) if row["version"] else None,
        pending_version=str(row["pending_version"]) if row["pending_version"] else None,
        shared=row["shared"],
        rotated_at=row["rotated_at"],
        retire_at=row["retire_at"],
        due=row["due"],
        drift=tuple(sorted(row["drift"])),
    )
