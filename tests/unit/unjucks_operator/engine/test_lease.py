"""The rules of leader election, on clocks that are moved by hand; the real API server has its own test.

The Lease's storage here is a dictionary with resourceVersions: which writes may succeed is the API server's rule of optimistic
locking, and the integration test checks that rule on the real one. What is tested here is *when* a candidate writes.
"""

import asyncio
import copy
import random
from typing import Any

import pytest

from support.clock import FakeClock, settle
from unjucks_operator.engine.lease import Elector, Timing, unique_identity
from unjucks_operator.errors import Conflict, Unavailable
from unjucks_operator.kube.api import Manifest

TIMING = Timing(duration=15, deadline=10, period=2)


class Storage:
    """One Lease under optimistic locking. ``down`` refuses, ``hang`` never answers, ``lose_answer`` stores but does not answer."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.version = 0
        self.writes: list[str] = []
        self.down = False
        self.hang = False
        self.lose_answer = False

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self.hang:
            await asyncio.Event().wait()
        if self.down:
            raise Unavailable("the API server is down")

    async def get(self, *_: Any, **__: Any) -> Manifest | None:
        await self._reach()
        return copy.deepcopy(self.lease)

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest | None:
        await self._reach()
        return self._store(manifest) if self.lease is None else None

    async def replace(self, manifest: Manifest, *, manager: str) -> Manifest:
        await self._reach()
        if self.lease is None or manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified")
        return self._store(manifest)

    def _store(self, manifest: Manifest) -> Manifest:
        self.version += 1
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.writes.append(manifest["spec"]["holderIdentity"])
        if self.lose_answer:
            raise Unavailable("the answer was lost")
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        return str((self.lease or {}).get("spec", {}).get("holderIdentity", ""))


class Candidate:
    """An elector with a clock of its own (another machine), and what it reported."""

    def __init__(self, storage: Storage, name: str, *, skew: float = 0.0) -> None:
        self.clock = FakeClock(skew=skew)
        self.lost: list[str] = []
        self.elector = Elector(
            storage,  # type: ignore[arg-type]  # the three operations that a Lease needs
            namespace="unjucks-system",
            name="unjucks-operator",
            identity=name,
            manager="test",
            on_lost=self.lost.append,
            timing=TIMING,
            clock=self.clock,
            rng=random.Random(name),
        )
        self.acquiring = asyncio.create_task(self.elector.acquire())

    async def end(self) -> None:
        self.acquiring.cancel()
        await asyncio.gather(self.acquiring, return_exceptions=True)
        await self.elector.release()


@pytest.fixture
def storage() -> Storage:
    return Storage()


async def advance(seconds: float, *candidates: Candidate) -> None:
    """Time passes for all of them alike, in small steps; at no moment do two lead."""
    for _ in range(round(seconds / 0.25)):
        for candidate in candidates:
            await candidate.clock.advance(0.25)
        assert sum(candidate.elector.leading for candidate in candidates) <= 1


async def test_the_first_one_leads_and_the_second_waits(storage: Storage) -> None:
    first, second = Candidate(storage, "a"), Candidate(storage, "b")
    await advance(40, first, second)
    assert first.elector.leading
    assert not second.elector.leading
    assert second.elector.holder == "a"
    assert set(storage.writes) == {"a"}, "a candidate that waits writes nothing"
    assert storage.lease is not None
    assert storage.lease["spec"]["leaseTransitions"] == 0
    assert storage.lease["spec"]["leaseDurationSeconds"] == 15
    await first.end()
    await second.end()


async def test_renewals_are_one_write_each_period_and_nothing_else(storage: Storage) -> None:
    first = Candidate(storage, "a")
    await advance(60, first)
    assert 60 / 2.4 - 1 <= len(storage.writes) <= 60 / 2 + 1
    await first.end()


async def test_after_a_crash_the_next_one_takes_over_after_the_duration(storage: Storage) -> None:
    first, second = Candidate(storage, "a"), Candidate(storage, "b")
    await advance(10, first, second)
    # "a" is gone without a word: its clock stands still.
    await advance(14, second)
    assert not second.elector.leading, "too early"
    await advance(6, second)
    assert second.elector.leading
    assert storage.lease is not None
    assert storage.lease["spec"]["leaseTransitions"] == 1
    await first.clock.advance(11)  # it wakes up
    assert not first.elector.leading
    assert len(first.lost) == 1
    await first.end()
    assert storage.holder == "b", "who has lost gives nothing back"
    await second.end()


@pytest.mark.parametrize("skew", [-86400.0, 86400.0])
async def test_a_wrong_time_of_day_changes_nothing(storage: Storage, skew: float) -> None:
    first, second = Candidate(storage, "a"), Candidate(storage, "b", skew=skew)
    await advance(30, first, second)
    assert first.elector.leading
    first.clock.jump_wall(3 * 86400)
    second.clock.jump_wall(-3 * 86400)
    await advance(30, first, second)
    assert first.elector.leading
    assert set(storage.writes) == {"a"}
    await first.end()
    await second.end()


async def test_release_lets_the_next_one_in_at_its_next_look(storage: Storage) -> None:
    first, second = Candidate(storage, "a"), Candidate(storage, "b")
    await advance(5, first, second)
    await first.elector.release()
    assert storage.holder == ""
    assert not first.elector.leading
    await advance(2.5, first, second)
    assert second.elector.leading
    assert first.lost == [], "giving back is not losing"
    await second.end()
    await first.end()


async def test_without_an_answer_the_holder_gives_up_before_others_may_take_over(storage: Storage) -> None:
    first = Candidate(storage, "a")
    await advance(4, first)
    storage.down = True
    await advance(7, first)
    assert first.elector.leading, "a short outage is survived"
    assert first.lost == []
    await advance(4, first)
    assert not first.elector.leading
    assert first.lost == ["no renewal succeeded within 10 s"]
    await advance(30, first)
    assert len(first.lost) == 1
    storage.down = False
    await first.end()


async def test_a_short_outage_is_survived(storage: Storage) -> None:
    first = Candidate(storage, "a")
    await advance(4, first)
    storage.down = True
    await advance(6, first)
    storage.down = False
    await advance(30, first)
    assert first.elector.leading
    await first.end()


async def test_requests_that_hang_do_not_hide_the_loss(storage: Storage) -> None:
    first = Candidate(storage, "a")
    await advance(4, first)
    storage.hang = True
    await advance(13, first)
    assert first.lost == ["no renewal succeeded within 10 s"]
    storage.hang = False
    await first.end()


async def test_one_request_that_hangs_leaves_time_for_another(storage: Storage) -> None:
    first = Candidate(storage, "a")
    await advance(4, first)
    storage.hang = True
    await advance(3, first)
    storage.hang = False
    await advance(20, first)
    assert first.elector.leading
    assert first.lost == []
    await first.end()


async def test_a_lost_answer_to_a_renewal_is_no_loss(storage: Storage) -> None:
    first = Candidate(storage, "a")
    await advance(4, first)
    storage.lose_answer = True
    await advance(5, first)
    storage.lose_answer = False
    await advance(10, first)
    assert first.elector.leading
    await first.end()


async def test_a_lost_answer_to_the_creation_still_ends_in_leading(storage: Storage) -> None:
    storage.lose_answer = True
    first = Candidate(storage, "a")
    await advance(1, first)
    assert not first.elector.leading
    storage.lose_answer = False
    await advance(5, first)
    assert first.elector.leading
    assert storage.lease is not None
    assert storage.lease["spec"]["leaseTransitions"] == 0
    await first.end()


async def test_a_lease_that_somebody_took_by_force_is_lost(storage: Storage) -> None:
    first = Candidate(storage, "a")
    await advance(4, first)
    assert storage.lease is not None
    taken = copy.deepcopy(storage.lease)
    taken["spec"]["holderIdentity"] = "intruder"
    storage._store(taken)
    await advance(3, first)
    assert first.lost == ["the lease is now held by intruder"]
    await advance(60, first)
    assert storage.holder == "intruder", "it is not stolen back"
    await first.end()


async def test_a_deleted_lease_is_made_again(storage: Storage) -> None:
    first = Candidate(storage, "a")
    await advance(4, first)
    storage.lease = None
    await advance(4, first)
    assert first.elector.leading
    assert storage.holder == "a"
    await first.end()


async def test_what_others_put_on_the_lease_stays(storage: Storage) -> None:
    storage._store(
        {"metadata": {"name": "unjucks-operator", "labels": {"team": "x"}, "managedFields": [1]}, "spec": {}}
        | {"spec": {"holderIdentity": ""}}
    )
    first = Candidate(storage, "a")
    await advance(4, first)
    assert storage.lease is not None
    assert storage.lease["metadata"]["labels"] == {"team": "x"}
    assert "managedFields" not in storage.lease["metadata"]
    await first.end()


async def test_health_names_a_renewal_that_is_late(storage: Storage) -> None:
    first = Candidate(storage, "a")
    assert first.elector.check() is None
    await advance(4, first)
    assert first.elector.check() is None
    storage.hang = True
    first.clock._now += 11  # the process slept: time passed, nothing ran
    assert first.elector.check() == "the lease was not renewed in time"
    storage.hang = False
    await first.end()


async def test_a_paused_leader_does_not_believe_it_leads(storage: Storage) -> None:
    """The other process took over while this one was stopped: no instant in which both say that they lead."""
    first, second = Candidate(storage, "a"), Candidate(storage, "b")
    await advance(4, first, second)
    await advance(20, second)
    assert second.elector.leading
    first.clock._now += 20
    assert not first.elector.leading
    await settle()
    await first.end()
    await second.end()


def test_impossible_timings_are_refused() -> None:
    with pytest.raises(ValueError, match="duration > deadline"):
        Timing(duration=10, deadline=10, period=2)
    with pytest.raises(ValueError, match=r"1\.2"):
        Timing(duration=15, deadline=2.2, period=2)


def test_identities_are_unique_and_name_the_pod() -> None:
    names = {unique_identity("operator-0") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("operator-0_") for name in names)
