"""The entry point of the evaluation image, run by /bin/sh as an ordinary user with the machine's own PostgreSQL."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from support.database import new_uid
from support.postgres import free_port, run_as, terminate, unprivileged_user
from unjucks_operator.database.bootstrap import prepare
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import Tenants

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
PASSWORD = 'it\'s a \\ "password" $HOME; --'


class Container:
    """What the image's container is: a folder for /data, one for the socket, one with the password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("data", "run", "secret"):
            (folder / name).mkdir()
        self.bootstrap = folder / "bootstrap.sql"
        for name in ("bootstrap.sql", "databases.sql"):
            shutil.copy(ROOT / "operator/unjucks_operator/database" / name, folder / name)
        self.script = folder / "entrypoint"
        shutil.copy(ROOT / "docker/postgres-entrypoint.sh", self.script)
        self.set_password(PASSWORD)
        user = unprivileged_user()
        if user is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)

    def set_password(self, password: str) -> None:
        (self.folder / "secret" / "password").write_text(password)

    def start(self, **environment: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*run_as(unprivileged_user()), "/bin/sh", str(self.script), "-c", f"port={self.port}", "-c", "fsync=off"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                start_new_session=True, cwd="/",
                env={
                    "PATH": "",  # nothing but the shell itself and what the script finds
                    "POSTGRES_DATA": str(self.folder / "data"), "POSTGRES_RUN": str(self.folder / "run"),
                    "POSTGRES_PASSWORD_FILE": str(self.folder / "secret/password"), "POSTGRES_BOOTSTRAP": str(self.bootstrap),
                    **environment,
                },
            )  # fmt: skip

    def ready(self) -> None:
        deadline = time.monotonic() + 60
        while not (self.folder / f"run/.s.PGSQL.{self.port}").exists():
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        if self.process is not None:
            terminate(self.process, signal.SIGTERM)
            self.process = None

    async def connect(
        self, user: str, password: str, database: str = "unjucks"
    ) -> "asyncpg.Connection[asyncpg.Record]":
        for _ in range(200):
            try:
                return await asyncpg.connect(
                    host="127.0.0.1", port=self.port, user=user, password=password, database=database, ssl=False
                )
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)
        raise AssertionError(self.log())


@pytest.fixture
def container() -> Iterator[Container]:
    with tempfile.TemporaryDirectory(prefix="unjucks-image-") as folder:
        found = Container(Path(folder))
        try:
            yield found
        finally:
            found.stop()


@pytest.mark.timeout(180)
async def test_the_operator_gets_a_login_of_its_own(container: Container) -> None:
    (container.folder / "data/pgdata1").mkdir()
    (container.folder / "data/pgdata1/half").write_text("left by a first start that was cut off")
    container.start(POSTGRES_LOGIN="unjucks_operator")
    container.ready()
    assert (container.folder / "data/current").read_text() == "pgdata2\n"
    uid = new_uid()
    connection = await container.connect("unjucks_operator", PASSWORD)
    try:
        row = await connection.fetchrow("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user")
        assert row is not None
        assert tuple(row) == (False, False)
        # What is numbered below 16384 counts as PostgreSQL's own, and has no row security whatever the catalog says.
        low = "SELECT relname FROM pg_class WHERE oid < 16384 AND relnamespace::regnamespace::text LIKE 'unjucks%'"
        assert await connection.fetch(low) == []
        protected = (
            "SELECT bool_and(row_security_active(c.oid)) FROM pg_class c WHERE c.relrowsecurity "
            "AND c.relnamespace::regnamespace::text LIKE 'unjucks%'"
        )
        assert await connection.fetchval(protected) is True
    finally:
        await connection.close()
    for user, database in (
        ("postgres", "unjucks"),
        ("unjucks_operator", "postgres"),
        ("unjucks_operator", "template1"),
    ):
        with pytest.raises((asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InsufficientPrivilegeError)):
            await container.connect(user, PASSWORD, database)
    host = f"127.0.0.1:{container.port}"
    dsn = f"postgresql://unjucks_operator:it%27s%20a%20%5C%20%22password%22%20%24HOME%3B%20--@{host}/unjucks"
    async with Database(dsn) as database:
        prepared = await prepare(database)
        assert (prepared.bootstrapped, prepared.drift) == (False, ())
        assert (await Tenants(database).ensure(uid, "acme")).usable
    container.stop()
    # A later start keeps the data, takes a new password, and sets up again (that is how an upgrade arrives).
    container.set_password("another")
    container.start(POSTGRES_LOGIN="unjucks_operator")
    container.ready()
    async with Database(f"postgresql://unjucks_operator:another@{host}/unjucks") as database:
        await (await container.connect("unjucks_operator", "another")).close()
        again = await prepare(database)
        assert again.installation == prepared.installation
        assert (await Tenants(database).sweep())[uid].healthy
    assert 'password" $HOME' not in container.log()


@pytest.mark.timeout(120)
async def test_without_a_login_the_password_is_the_superusers(container: Container) -> None:
    container.start()
    container.ready()
    connection = await container.connect("postgres", PASSWORD)
    try:
        assert await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"POSTGRES_PASSWORD_FILE": "/nonexistent"}, "must name a readable file"),
        ({"POSTGRES_LOGIN": 'x"; DROP'}, "lower-case letters"),
    ],
)
def test_wrong_settings_end_at_once(container: Container, environment: dict[str, str], text: str) -> None:
    container.start(**environment)
    assert container.process is not None
    assert container.process.wait(20) == 2
    assert text in container.log()


@pytest.mark.timeout(120)
def test_a_failing_set_up_ends_the_start(container: Container) -> None:
    container.bootstrap.write_text("SELECT 1;\nSELECT 1/0;\n")
    container.start(POSTGRES_LOGIN="unjucks_operator")
    assert container.process is not None
    assert container.process.wait(60) != 0
    assert "division by zero" in container.log()
