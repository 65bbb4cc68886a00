"""The administrator's step: runs ``bootstrap.sql`` and makes the login that the operator uses afterwards.

``bootstrap`` needs a superuser, or the owner of the database with CREATEROLE, once and after an upgrade. ``prepare`` is what
the operator does at start with whatever DSN it has: a privileged one sets everything up, an ordinary one only migrates.
Passwords never reach the server: it gets a SCRAM verifier that is computed here. Called by ``__main__``.
"""

import base64
import hashlib
import hmac
import logging
import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

from unjucks_operator import errors
from unjucks_operator.database.failures import translate
from unjucks_operator.database.identifiers import DEFAULT_PREFIX, check_prefix, platform_role, quote_login
from unjucks_operator.database.migrate import MigrationReport, migrate
from unjucks_operator.database.pool import Connection, Database

log = logging.getLogger(__name__)

BOOTSTRAP_VERSION: Final = 2
"""What this operator needs ``unjucks_ops.installation.version`` to be, at least; databases.sql writes it."""
SCRAM_ITERATIONS: Final = 4096
_BOOTSTRAP_TRIES: Final = 4
_VERIFIER = re.compile(r"SCRAM-SHA-256\$[0-9]{4,7}:[A-Za-z0-9+/=]{8,128}\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What ``prepare`` found and did."""

    installation: str
    """Identifies this database for good (a UUID); a different one later means another or an empty database."""
    bootstrapped: bool
    migrations: MigrationReport
    drift: tuple[str, ...] = field(default=())
    """Differences of the administrator's part from how bootstrap.sql left it; only an administrator repairs those."""


def bootstrap_sql() -> str:
    """The SQL that an administrator can also run with psql."""
    folder = files(__package__)
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("bootstrap.sql", "databases.sql"))


def scram_verifier(password: str, *, salt: bytes | None = None, iterations: int = SCRAM_ITERATIONS) -> str:
    """What PostgreSQL stores instead of ``password`` (RFC 5802, SCRAM-SHA-256); accepted by ``ALTER ROLE ... PASSWORD``.

    Only passwords that SASLprep leaves alone are taken (printable ASCII), so that no two sides normalise differently.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a database password must be printable ASCII and not empty")
    used_salt = secrets.token_bytes(16) if salt is None else salt
    prepared = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", prepared, used_salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return (
        f"SCRAM-SHA-256${iterations}:{base64.b64encode(used_salt).decode()}"
        f"${base64.b64encode(stored_key).decode()}:{base64.b64encode(server_key).decode()}"
    )


async def bootstrap(
    connection: Connection,
    *,
    prefix: str = DEFAULT_PREFIX,
    service_login: str | None = None,
    password_verifier: str | None = None,
    service_migrates: bool = True,
) -> None:
    """Installs (or upgrades, or repairs) roles, tenant table and functions; everything in one transaction, safe to repeat.

    ``service_login`` is created or updated and made a member of the service role; ``password_verifier`` is its SCRAM verifier
    (``scram_verifier``), None keeps its password. ``service_migrates`` False: the login cannot run migrations either.
    """
    check_prefix(prefix)
    if service_login is not None:
        quote_login(service_login)
    if password_verifier is not None and not _VERIFIER.fullmatch(password_verifier):
        raise ValueError("not a SCRAM-SHA-256 verifier; make one with scram_verifier()")
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('unjucks.prefix', $1, true)", prefix)
            await connection.execute(
                "SELECT set_config('unjucks.service_migrates', $1, true)", "on" if service_migrates else "off"
            )
            await connection.execute(bootstrap_sql())
            if service_login is not None:
                await _ensure_login(connection, prefix, service_login, password_verifier)
    except errors.OperatorError:
        raise
    except Exception as error:
        state = getattr(error, "sqlstate", None)
        if state in {"42501", "42710", "42P06", "55000", "P0001"}:  # raised by bootstrap.sql with a text for people
            hint = getattr(error, "hint", None)
            raise errors.NotPermitted(f"the database cannot be set up: {error.args[0]}. {hint or ''}".strip()) from None
        raise translate(error) from error


async def _ensure_login(connection: Connection, prefix: str, login: str, verifier: str | None) -> None:
    quoted = quote_login(login)
    row = await connection.fetchrow(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication FROM pg_roles WHERE rolname = $1",
        login,
    )
    if row is None:
        await connection.execute(f"CREATE ROLE {quoted} LOGIN INHERIT")
    elif row[0]:
        raise errors.NotPermitted(
            f"the login {login!r} has rights of an administrator; give the operator a login of its own"
        )
    else:
        await connection.execute(f"ALTER ROLE {quoted} LOGIN INHERIT")
    if verifier is not None:
        # A verifier cannot be a parameter of ALTER ROLE; its alphabet was checked and holds no quote.
        await connection.execute(f"ALTER ROLE {quoted} PASSWORD '{verifier}'")
    await connection.execute(f"GRANT {platform_role(prefix, 'service')} TO {quoted}")


async def prepare(database: Database) -> Prepared:
    """Makes the database ready for this version of the operator, with the rights that the DSN's login has.

    A superuser, or the owner of the database with CREATEROLE, bootstraps and migrates. Another login needs a bootstrap done
    before (else NotPermitted says so) and migrates when it may. Idempotent; two operators at once do no harm.
    """
    async with database.login_session() as connection:
        async with connection.transaction():  # also for single reads: behind PgBouncer a session lasts one transaction
            privileged = await connection.fetchval(
                "SELECT r.rolsuper OR (r.rolcreaterole AND pg_has_role(current_user, d.datdba, 'USAGE')) "
                "FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()"
            )
            bootstrapped = bool(privileged) and await _needs_bootstrap(connection, database.prefix)
        if bootstrapped:
            await _bootstrap_beside_others(connection, database.prefix)
    async with database.service_tx() as connection:
        row = await connection.fetchrow(
            "SELECT id::text, prefix, version, ARRAY(SELECT unjucks_ops.installation_drift()) AS drift "
            "FROM unjucks_ops.installation"
        )
    if row is None or row["version"] < BOOTSTRAP_VERSION:
        raise errors.NotPermitted(
            "the database was set up for an older operator; an administrator has to run `unjucks-operator db bootstrap` again"
        )
    report = await migrate(database)
    return Prepared(row["id"], bootstrapped, report, tuple(row["drift"]))


async def _bootstrap_beside_others(connection: Connection, prefix: str) -> None:
    """Bootstrap although another operator may be doing the same: of two that meet, the server lets one go on and one begin anew."""
    for left in reversed(range(_BOOTSTRAP_TRIES)):
        try:
            await bootstrap(connection, prefix=prefix)
            return
        except errors.Unavailable:
            if not left or connection.is_closed():
                raise


async def _needs_bootstrap(connection: Connection, prefix: str) -> bool:
    if await connection.fetchval("SELECT NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'unjucks_ops')"):
        return True
    await connection.execute(f"SET LOCAL ROLE {platform_role(prefix, 'service')}")
    row = await connection.fetchrow("SELECT version FROM unjucks_ops.installation")
    drifted = await connection.fetchval("SELECT EXISTS (SELECT FROM unjucks_ops.installation_drift())")
    return row is None or row["version"] < BOOTSTRAP_VERSION or bool(drifted)
