"""Trees in a real database: what goes in comes out, a wrong digest never does, and pruning spares what is in use."""

import asyncio
from datetime import timedelta

import pytest

from support.database import ReadyDatabase, new_uid
from unjucks_api.tree import tree_digest
from unjucks_operator.database.artifacts import ArtifactInfo, ArtifactInvalid, Artifacts, encode_tree
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import Tenants

pytestmark = pytest.mark.integration

TREE = {"a/b.njk": (b"Hello {{ name }}\n", 0o644), "run.sh": (b"\x00\xff", 0o755), "empty": (b"", 0o644)}
DIGEST = tree_digest(TREE)
OF_ROLE = "WHERE tenant_id = (SELECT tenant_id FROM unjucks_ops.tenant WHERE role_name = $1)"


@pytest.fixture
def unjucks_database(shared_database: ReadyDatabase) -> ReadyDatabase:
    """Each test has a tenant of its own; none changes the schema."""
    return shared_database


@pytest.fixture
async def role(database: Database) -> str:
    return (await Tenants(database).ensure(new_uid(), "acme")).role


async def test_round_trip(database: Database, role: str) -> None:
    artifacts = Artifacts(database)
    assert await artifacts.get(role, DIGEST) is None
    for _ in range(2):
        info = await artifacts.put(role, DIGEST, TREE)
        assert info == ArtifactInfo(DIGEST, 19, 3)
    assert await artifacts.get(role, DIGEST) == TREE
    assert await artifacts.list(role) == (info,)
    empty = tree_digest({})
    await artifacts.put(role, empty, {})
    assert await artifacts.get(role, empty) == {}


async def test_a_large_tree(database: Database, role: str) -> None:
    tree = {f"dir{n % 50}/file{n}.njk": (bytes([n % 251]) * (4096 + n), 0o644) for n in range(1000)}
    digest = tree_digest(tree)
    artifacts = Artifacts(database)
    assert (await artifacts.put(role, digest, tree)).files == 1000
    assert await artifacts.get(role, digest) == tree


async def test_a_tree_that_is_not_its_digest_is_refused(database: Database, role: str) -> None:
    artifacts = Artifacts(database)
    other = {**TREE, "a/b.njk": (b"something else", 0o644)}
    with pytest.raises(ArtifactInvalid, match=f"has digest {tree_digest(other)}, not {DIGEST}"):
        await artifacts.put(role, DIGEST, other)
    assert await artifacts.list(role) == ()


@pytest.mark.parametrize(
    "damage",
    [
        "set_byte(content, 40, get_byte(content, 40) # 1)",
        "substring(content FROM 1 FOR octet_length(content) - 5)",
        "content || '\\x00'",
        "'\\x'",
        "'unjucks-tree-1'",
    ],
)
async def test_a_damaged_row_is_an_error_and_put_mends_it(
    unjucks_database: ReadyDatabase, database: Database, role: str, damage: str
) -> None:
    artifacts = Artifacts(database)
    await artifacts.put(role, DIGEST, TREE)
    async with unjucks_database.as_admin() as admin:
        await admin.execute(f"UPDATE unjucks.artifact SET content = {damage} {OF_ROLE}", role)
    with pytest.raises(ArtifactInvalid):
        await artifacts.get(role, DIGEST)
    await artifacts.put(role, DIGEST, TREE)
    assert await artifacts.get(role, DIGEST) == TREE


async def test_another_tree_in_the_row_is_an_error(
    unjucks_database: ReadyDatabase, database: Database, role: str
) -> None:
    artifacts = Artifacts(database)
    await artifacts.put(role, DIGEST, TREE)
    async with unjucks_database.as_admin() as admin:
        await admin.execute(
            f"UPDATE unjucks.artifact SET content = $2 {OF_ROLE}", role, encode_tree({"x": (b"planted", 0o644)})
        )
    with pytest.raises(ArtifactInvalid, match="is damaged"):
        await artifacts.get(role, DIGEST)


async def test_prune_spares_what_is_kept_and_what_is_young(
    unjucks_database: ReadyDatabase, database: Database, role: str
) -> None:
    artifacts = Artifacts(database)
    digests = []
    for name in ("kept", "old", "young", "used again"):
        tree = {name: (b"x", 0o644)}
        digests.append(tree_digest(tree))
        await artifacts.put(role, digests[-1], tree)
    kept, old, young, used = digests
    async with unjucks_database.as_admin() as admin:
        await admin.execute(
            "UPDATE unjucks.artifact SET used_at = used_at - interval '2 hours' WHERE digest = ANY ($1)",
            [kept, old, used],
        )
    await artifacts.put(role, used, {"used again": (b"x", 0o644)})
    assert await artifacts.prune_unreferenced(role, {kept}, unused_for=timedelta(hours=1)) == (old,)
    assert {info.digest for info in await artifacts.list(role)} == {kept, young, used}


async def test_the_same_tree_put_many_times_at_once(database: Database, role: str) -> None:
    artifacts = Artifacts(database)
    await asyncio.gather(*(artifacts.put(role, DIGEST, TREE) for _ in range(20)))
    assert await artifacts.get(role, DIGEST) == TREE
