"""Runs per hour: who gets in, who waits how long, and that waiting wakes one at a time."""

from datetime import UTC, datetime, timedelta

import pytest

from unjucks_api.reasons import Reason
from unjucks_operator.errors import Waiting
from unjucks_operator.job.room import HourlyRoom

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class Ledger:
    """What the database would say, and how often it was asked."""

    def __init__(self, **known: datetime) -> None:
        self.known = known
        self.asked = 0

    async def starts(self, role: str, window: timedelta) -> dict[str, datetime]:
        assert (role, window) == ("role", timedelta(hours=1))
        self.asked += 1
        return dict(self.known)


class Bench:
    def __init__(self, ledger: Ledger | None = None) -> None:
        self.now = NOON
        self.said = Waiting("")
        self.ledger = ledger or Ledger()
        self.room = HourlyRoom(self.ledger.starts, lambda: self.now)

    async def enter(self, name: str, limit: int = 2) -> float:
        """0 when the run may start, else the seconds that it has to wait."""
        try:
            await self.room.enter("uid", "role", ("ns", name), f"run-{name}", limit)
        except Waiting as error:
            self.said = error
            return error.after
        return 0.0


async def test_as_many_as_allowed_start_and_each_counts_once() -> None:
    bench = Bench()
    assert [await bench.enter(name) for name in ("a", "b", "a", "b")] == [0, 0, 0, 0]
    assert bench.room.last_hour("uid") == 2
    assert bench.ledger.asked == 1


async def test_the_others_wait_for_a_place_of_their_own_in_their_order() -> None:
    bench = Bench()
    await bench.enter("a")
    bench.now += timedelta(minutes=10)
    await bench.enter("b")
    bench.now += timedelta(minutes=10)
    assert await bench.enter("c") == 40 * 60
    assert bench.said.reason is Reason.QUEUED
    assert "spec.quota.jobs.perHour" in bench.said.message
    assert await bench.enter("d") == 50 * 60
    assert await bench.enter("c") == 40 * 60  # asking again changes nothing
    bench.now = NOON + timedelta(hours=1, seconds=1)
    assert await bench.enter("d") > 0  # c is first
    assert await bench.enter("c") == 0


async def test_one_that_gives_up_makes_room_for_those_behind_it() -> None:
    bench = Bench()
    for name in ("a", "b", "c", "d"):
        await bench.enter(name)
    bench.room.leave(("ns", "c"))
    bench.now += timedelta(hours=1, seconds=1)
    assert await bench.enter("d") == 0


async def test_what_ran_before_a_restart_counts_and_is_not_counted_twice() -> None:
    ledger = Ledger(**{"run-old": NOON - timedelta(minutes=30), "run-a": NOON - timedelta(minutes=20)})
    bench = Bench(ledger)
    assert await bench.enter("a") == 0  # this very run, tried again
    assert await bench.enter("b") == pytest.approx(30 * 60)
    assert bench.room.last_hour("uid") == 2
    bench.now += timedelta(hours=2)
    assert bench.room.last_hour("uid") == 0


async def test_a_smaller_limit_waits_for_more_to_run_out() -> None:
    bench = Bench()
    for minute, name in enumerate("abcd"):
        bench.now = NOON + timedelta(minutes=minute)
        assert await bench.enter(name, limit=4) == 0
    assert await bench.enter("e", limit=2) == (NOON + timedelta(minutes=62) - bench.now).total_seconds()


async def test_tenants_do_not_share_and_are_forgotten() -> None:
    bench = Bench()
    await bench.enter("a")
    assert bench.room.last_hour("other") is None
    bench.room.forget("uid")
    assert bench.room.last_hour("uid") is None
