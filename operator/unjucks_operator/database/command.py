"""``unjucks-operator db ...``: what an administrator of an external PostgreSQL runs. DSNs and passwords come from files only.

    db sql                                                     print bootstrap.sql, to be read and run with psql
    db bootstrap --admin-dsn-file F [--login L --password-file P] [--no-migrate]
    db migrate   --dsn-file F                                  apply what is missing (owner, superuser or service login)
    db check     --dsn-file F [--output json]                  every tenant's drift; exit code 1 when there is any

Must not: print a DSN or a password. Called by ``__main__``; prints for people, or JSON.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import orjson

from unjucks_operator import errors
from unjucks_operator.config import Config
from unjucks_operator.database.bootstrap import bootstrap, bootstrap_sql, scram_verifier
from unjucks_operator.database.failures import translate
from unjucks_operator.database.homes import Homes
from unjucks_operator.database.identifiers import DEFAULT_PREFIX, check_prefix, quote_login
from unjucks_operator.database.migrate import migrate
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import DatabaseState, Drift


def main(arguments: Sequence[str]) -> int:
    """Runs one sub-command; 0 is success, 1 a finding or a failure (told on stderr), 2 a wrong command line."""
    options = _parser().parse_args(arguments)
    if options.command == "sql":
        print(bootstrap_sql(), end="")
        return 0
    try:
        return asyncio.run(_run(options))
    except errors.OperatorError as error:
        print(f"error: {error.message}", file=sys.stderr)
    except ValueError as error:  # a login or a password that cannot be used; the texts name no secret
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: cannot read {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


async def _run(options: argparse.Namespace) -> int:
    if options.command == "bootstrap":
        return await _bootstrap(options)
    async with Database(_secret(options.dsn_file), prefix=options.prefix) as database:
        if options.command == "migrate":
            report = await migrate(database)
            print(f"schema version {report.version}, applied now: {', '.join(map(str, report.applied)) or 'nothing'}")
            return 0
        return await _check(database, options.output)


async def _bootstrap(options: argparse.Namespace) -> int:
    check_prefix(options.prefix)
    verifier = None
    if options.login is not None:
        quote_login(options.login)
        verifier = scram_verifier(_secret(options.password_file)) if options.password_file else None
    dsn = _secret(options.admin_dsn_file)
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (asyncpg.PostgresError, OSError) as error:
        raise translate(error) from None
    except ValueError:
        raise errors.InvalidSpec(f"the DSN in {options.admin_dsn_file} cannot be used") from None
    try:
        await bootstrap(
            connection,
            prefix=options.prefix,
            service_login=options.login,
            password_verifier=verifier,
            service_migrates=not options.no_migrate,
        )
    finally:
        await connection.close()
    who = (
        f"login {options.login}"
        if options.login
        else f"no login made; give one with GRANT {options.prefix}_service TO it"
    )
    print(f"the database is set up with role prefix {options.prefix}; {who}")
    if options.no_migrate:
        print(
            "the operator may not migrate: run `unjucks-operator db migrate` with this DSN now and after each upgrade"
        )
    return 0


async def _check(database: Database, output: str) -> int:
    homes = Homes(database, Config())
    tenants = homes.tenants
    states = await homes.sweep(inside=False)
    await homes.close()
    open_databases = await homes.logins.open_databases()
    async with database.service_tx() as connection:
        rows = await connection.fetch("SELECT unjucks_ops.installation_drift() AS line")
    installation = [row["line"] for row in rows]
    orphans = await tenants.orphans()
    found = {
        "installation": installation,
        "schema": list(tenants.schema_drift),
        "tenants": {uid: codes for uid, state in states.items() if (codes := _codes(state))},
        "orphans": orphans,
        "openDatabases": list(open_databases),
        "checked": len(states),
    }
    if output == "json":
        print(orjson.dumps(found).decode())
    else:
        for line in installation:
            print(f"installation: {line}")
        for line in tenants.schema_drift:
            print(f"schema: {line}")
        for state in states.values():
            if codes := _codes(state):
                print(f"tenant {state.name} ({state.uid}, role {state.role}, {state.state}): {', '.join(codes)}")
        for role, uid in orphans.items():
            print(f"role {role} has no tenant here (UID {uid}); it is taken back when that Tenant exists, else drop it")
        for name in open_databases:
            print(
                f"database {name} lets everybody in, tenants' logins too: REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"
            )
        print(f"{len(states)} tenants checked")
    return 1 if installation or tenants.schema_drift or found["tenants"] else 0


def _codes(state: DatabaseState) -> list[str]:
    """What is wrong; without the connection limit, which is the operator's configuration, and without what is no fault."""
    return [item.value for item in state.drift if item not in (Drift.DATABASE_CONNECTION_LIMIT, Drift.LEFTOVERS)]


def _secret(path: str) -> str:
    return Path(path).read_text(encoding="utf-8").strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unjucks-operator db",
        description="Sets up and checks the operator's PostgreSQL database.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("sql", help="print the SQL of the administrator's step, to run it with psql instead")
    setup = commands.add_parser("bootstrap", help="the administrator's step: roles, functions, the operator's login")
    setup.add_argument(
        "--admin-dsn-file", required=True, metavar="FILE", help="DSN of a superuser, or of the database's owner"
    )
    setup.add_argument("--login", metavar="NAME", help="the operator's login, made or updated")
    setup.add_argument("--password-file", metavar="FILE", help="its password; the server only gets a SCRAM verifier")
    setup.add_argument("--no-migrate", action="store_true", help="the login may not apply migrations itself")
    apply = commands.add_parser("migrate", help="apply missing migrations")
    check = commands.add_parser(
        "check", help="compare every tenant's role and the tables' protection with what they must be"
    )
    check.add_argument("--output", choices=("text", "json"), default="text")
    for each in (apply, check):
        each.add_argument("--dsn-file", required=True, metavar="FILE", help="a file with the DSN")
    for each in (setup, apply, check):
        each.add_argument("--prefix", default=DEFAULT_PREFIX, help="of the platform's own roles (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
