"""The memory in front of the stored trees: what it counts is what it holds, however many ask at once."""

import asyncio
from typing import Any, cast

from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.catalogs import Catalogs
from unjucks_operator.storage import TemplateStorage


class _SlowTrees:
    """Stands in for PostgreSQL: only the order of two reads matters here, and a real database does not let a test choose it."""

    reads = 0

    async def get(self, role: str, digest: str) -> Any:
        self.reads += 1
        await asyncio.sleep(0)
        return {"a.njk": (b"x" * 300, 0o644)}


async def test_reading_the_same_tree_at_the_same_time_counts_it_once() -> None:
    trees = _SlowTrees()
    storage = TemplateStorage(cast(Artifacts, trees), cast(Catalogs, None), max_bytes=1000)
    await asyncio.gather(*(storage.files("role", "sha256:1") for _ in range(5)))
    before = trees.reads
    await storage.files("role", "sha256:1")
    assert trees.reads == before


class _Gone:
    """A database that an older backup was put back into."""

    async def get(self, role: str, key: str) -> Any:
        return None

    async def put(self, *_: Any) -> None:
        return None


async def test_a_tree_that_is_gone_takes_its_catalogue_with_it() -> None:
    """Else its registry looks as if it were stored, is never read again, and its jobs wait for ever."""
    gone = _Gone()
    storage = TemplateStorage(cast(Artifacts, gone), cast(Catalogs, gone))
    for role in ("role", "other"):
        await storage.save(role, "sha256:1", {}, "key", [])
    assert await storage.actions("role", "key") == ()
    assert await storage.files("role", "sha256:1") is None
    assert await storage.actions("role", "key") is None
    assert await storage.actions("other", "key") == ()
