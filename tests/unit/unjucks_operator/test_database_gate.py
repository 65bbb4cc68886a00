"""The gate in front of the database: a moment's patience at the start, then the truth."""

import asyncio
from typing import Any, cast

import pytest

from unjucks_api.reasons import Reason
from unjucks_operator import sweep
from unjucks_operator.database.homes import Homes
from unjucks_operator.errors import Unavailable, Waiting
from unjucks_operator.sweep import DatabaseGate


class Behind:
    """What is behind the gate, as far as this test asks it."""

    async def drop(self, uid: str) -> str:
        return f"dropped {uid}"


def gate() -> DatabaseGate:
    return DatabaseGate(cast(Homes, cast(Any, Behind())))


async def test_a_call_waits_until_the_database_is_prepared() -> None:
    closed = gate()
    call = asyncio.create_task(closed.drop("u"))
    await asyncio.sleep(0)
    assert not call.done()
    closed.let_in()
    assert await call == "dropped u"
    assert closed.is_open


async def test_a_preparation_that_failed_is_told_at_once() -> None:
    closed = gate()
    call = asyncio.create_task(closed.drop("u"))
    await asyncio.sleep(0)
    closed.refuse("it is starting up")
    with pytest.raises(Unavailable, match="starting up") as caught:
        await call
    assert caught.value.reason is Reason.DATABASE_UNAVAILABLE
    closed.let_in()
    assert await closed.drop("u") == "dropped u"


async def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_PATIENCE", 0.01)
    with pytest.raises(Waiting, match="being prepared"):
        await gate().drop("u")
