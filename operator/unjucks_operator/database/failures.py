"""From what asyncpg raises to the operator's tree of errors, without ever repeating a DSN, a password or a row.

What heals by itself (connection lost, server starting, out of connections, time-outs, deadlocks) is ``Unavailable`` with the
reason DatabaseUnavailable. A tenant role that is missing or retired is ``Waiting``: it is being repaired or removed. What only
an administrator can change is ``NotPermitted``; a foreign role of the same name is ``OwnershipConflict``; the rest is a ``Bug``.
Pure; called by ``pool.py``.
"""

import asyncpg

from unjucks_api.reasons import Reason
from unjucks_operator import errors

_HEALS = {
    "53000": "it is out of resources",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it has no free connection",
    "53400": "a limit of its configuration is reached",
    "57P01": "it is shutting down",
    "57P02": "it crashed and is recovering",
    "57P03": "it is starting up",
    "57P05": "the session was idle for too long",
    "57014": "a statement took too long",
    "55P03": "a lock was not free in time",
    "25P03": "a transaction was idle for too long",
    "25006": "it is read-only at the moment (a standby?)",
    "40001": "a transaction has to be repeated",
    "40P01": "a deadlock was broken",
    "55006": "an object is in use",
    "58030": "it could not read or write a file",
    "28000": "it refuses the operator's login; check the Secret with the DSN",
    "28P01": "it refuses the operator's password; check the Secret with the DSN",
    "3D000": "the database of the DSN does not exist",
}
_NO_TENANT_ROLE = frozenset({"42501", "22023", "42704"})
# Parallel role changes can meet in one catalog row; PostgreSQL reports that as an internal error.
_HEALING_INTERNAL_ERRORS = ("tuple concurrently updated", "tuple concurrently deleted")


def unavailable(why: str, *, after: float | None = None) -> errors.Unavailable:
    """The database cannot be used just now; ``why`` follows "the database is not available:"."""
    return errors.Unavailable(f"the database is not available: {why}", reason=Reason.DATABASE_UNAVAILABLE, after=after)


class Elsewhere(errors.Waiting):
    """The tenant's rows are not in the database that was asked; look up where they are."""


def is_connection_loss(error: BaseException) -> bool:
    """Whether the session (not merely the statement) is gone or could not be made."""
    return isinstance(
        error,
        OSError
        | TimeoutError
        | asyncpg.PostgresConnectionError
        | asyncpg.InterfaceError
        | asyncpg.InternalClientError
        | asyncpg.CannotConnectNowError
        | asyncpg.AdminShutdownError
        | asyncpg.CrashShutdownError
        | asyncpg.TooManyConnectionsError
        | asyncpg.InvalidAuthorizationSpecificationError
        | asyncpg.InvalidCatalogNameError,
    )


def translate(error: BaseException, *, as_tenant: bool = False) -> errors.OperatorError:
    """The error of our tree for one that asyncpg raised. ``as_tenant``: it happened while acting as a tenant's role."""
    if isinstance(error, errors.OperatorError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        return _translate_sqlstate(error, as_tenant)
    if isinstance(error, TimeoutError):
        return unavailable("it did not answer in time")
    if isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return unavailable("the connection was lost or could not be made")
    return errors.Bug(f"unexpected {type(error).__name__} from the database driver")


def _translate_sqlstate(error: asyncpg.PostgresError, as_tenant: bool) -> errors.OperatorError:
    state = error.sqlstate or ""
    if state == "UJ001":
        return errors.InvalidSpec("the database refuses the UID or the name of this Tenant: it has an impossible form")
    if state == "UJ002":
        return errors.OwnershipConflict(
            "the database role of this Tenant exists already and was not made for it; an administrator has to look"
        )
    if state == "UJ003":
        return errors.Bug("the tenant is not in the state that this step needs (retire before drop)")
    if state == "UJ004":
        return errors.Waiting(
            f"no login can be given: {error.args[0] if error.args else 'the connections are all promised'}. Raise "
            "max_connections of the server, or lower database.direct.connections",
            reason=Reason.CONNECTION_BUDGET,
            after=60.0,
        )
    if state == "UJ005":
        return errors.Waiting(
            "the tenant's rows are being moved; it goes on in a moment", reason=Reason.MIGRATING, after=0.5
        )
    if state == "UJ006":
        return Elsewhere("the tenant's rows are in another database by now", reason=Reason.MIGRATING, after=0.2)
    if state == "UJ008":
        return errors.NotPermitted(
            "a login of this Tenant has rights that only a superuser can take away; an administrator has to (docs: database, drift)"
        )
    if state == "2BP01":
        return errors.NotPermitted(
            "the database role of this Tenant owns objects or has rights that the operator did not give; "
            "an administrator has to remove them (DROP OWNED BY the role) before it can be dropped"
        )
    if as_tenant and state in _NO_TENANT_ROLE:
        return errors.Waiting(
            "the database identity of this Tenant is missing or retired; it is being repaired",
            reason=Reason.TENANT_NOT_READY,
        )
    if state in _HEALS:
        return unavailable(_HEALS[state])
    if state.startswith("08"):
        return unavailable("the connection was lost")
    if state == "XX000" and error.args and str(error.args[0]) in _HEALING_INTERNAL_ERRORS:
        return unavailable("two role changes met")
    if state in _NO_TENANT_ROLE or state in ("42883", "3F000", "42P01"):
        return errors.NotPermitted(
            f"the database is not set up for this operator (SQLSTATE {state}): an administrator has to run "
            "`unjucks-operator db bootstrap` once, and again after an upgrade"
        )
    return errors.Bug(f"unexpected answer of the database: {type(error).__name__}, SQLSTATE {state}")
