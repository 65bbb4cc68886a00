"""``unjucks-operator db``, run as a process, as an administrator runs it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.database import ReadyDatabase, bare_database, new_uid
from support.postgres import PostgresServer
from unjucks_operator.database.bootstrap import prepare
from unjucks_operator.database.tenants import Tenants

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def bare(postgres_server: PostgresServer) -> AsyncIterator[ReadyDatabase]:
    async with bare_database(postgres_server) as found:
        yield found


async def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-m", "unjucks_operator", "db", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
    )  # fmt: skip


async def test_from_an_empty_database_to_a_checked_one(bare: ReadyDatabase, tmp_path: Path) -> None:
    admin, dsn, password = tmp_path / "admin", tmp_path / "dsn", tmp_path / "password"
    admin.write_text(bare.admin_dsn + "\n")
    dsn.write_text(bare.dsn)
    password.write_text(bare.password + "\n")
    prefix = ("--prefix", bare.prefix)
    early = await run("check", "--dsn-file", str(admin), *prefix)
    assert (early.returncode, early.stdout) == (1, "")
    assert "unjucks-operator db bootstrap" in early.stderr
    made = await run(
        "bootstrap", "--admin-dsn-file", str(admin), "--login", bare.login, "--password-file", str(password), *prefix
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert f"login {bare.login}" in made.stdout
    migrated = await run("migrate", "--dsn-file", str(dsn), *prefix)
    assert migrated.returncode == 0
    assert "applied now: 1, 2" in migrated.stdout
    uid = new_uid()
    async with bare.open() as database:
        assert (await prepare(database)).migrations.applied == ()
        role = (await Tenants(database).ensure(uid, "acme")).role
    good = await run("check", "--dsn-file", str(dsn), *prefix)
    assert (good.returncode, good.stdout) == (0, "1 tenants checked\n")
    async with bare.as_admin() as connection:
        await connection.execute(f"ALTER ROLE {role} LOGIN; GRANT SELECT ON unjucks.artifact TO PUBLIC")
        await connection.execute("GRANT EXECUTE ON FUNCTION unjucks_ops.drop_tenant(uuid) TO PUBLIC")
    bad = await run("check", "--dsn-file", str(dsn), "--output", "json", *prefix)
    assert bad.returncode == 1
    found = json.loads(bad.stdout)
    assert found["tenants"] == {uid: ["RoleCanLogin", "SchemaChanged"]}
    assert any("artifact" in line for line in found["schema"])
    assert any("drop_tenant" in line for line in found["installation"])
    for each in (early, made, migrated, good, bad):
        assert bare.password not in each.stdout + each.stderr
        assert bare.server.password not in each.stdout + each.stderr


@pytest.mark.parametrize(
    ("content", "text"),
    [("mysql://u:top-secret@h/db", "cannot be used"), ("postgresql://u:top-secret@127.0.0.1:1/db", "not available")],
)
async def test_unusable_dsn(tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "dsn"
    file.write_text(content)
    for arguments in (("bootstrap", "--admin-dsn-file", str(file)), ("check", "--dsn-file", str(file))):
        done = await run(*arguments)
        assert done.returncode == 1
        assert text in done.stderr
        assert "top-secret" not in done.stderr
        assert "Traceback" not in done.stderr


async def test_missing_file_wrong_usage_and_the_sql(tmp_path: Path) -> None:
    done = await run("migrate", "--dsn-file", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "cannot read" in done.stderr
    assert (await run("drop-everything")).returncode == 2
    printed = await run("sql")
    assert printed.returncode == 0
    assert "CREATE OR REPLACE FUNCTION unjucks_ops.ensure_tenant" in printed.stdout
