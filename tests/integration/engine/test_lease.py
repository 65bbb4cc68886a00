"""Two candidates for one Lease of a real API server: its optimistic locking is what keeps them apart."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from e2e.cluster.controlplane import ControlPlane
from unjucks_operator.engine.lease import Elector, Timing
from unjucks_operator.kube.client import KubeClient
from unjucks_operator.kube.config import from_kubeconfig
from unjucks_operator.kube.resources import LEASE

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
TIMING = Timing(duration=2.0, deadline=1.2, period=0.3)


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"never happened: {what}")


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    async with KubeClient(*from_kubeconfig(control_plane.kubeconfig_for("elector", ["system:masters"]))) as client:
        yield client


class Candidate:
    def __init__(self, api: KubeClient, lease: str, name: str) -> None:
        self.lost: list[str] = []
        self.elector = Elector(
            api,
            namespace="default",
            name=lease,
            identity=name,
            manager="unjucks-operator/platform",
            on_lost=self.lost.append,
            timing=TIMING,
            rng=random.Random(name),
        )
        self.acquiring = asyncio.create_task(self.elector.acquire())

    async def crash(self) -> None:
        """Stop without a word, as a killed process does."""
        self.acquiring.cancel()
        if self.elector._loop is not None:
            self.elector._loop.cancel()
        await asyncio.sleep(0)


async def test_of_many_that_start_together_one_leads_and_hands_over(
    control_plane: ControlPlane, api: KubeClient
) -> None:
    candidates = [Candidate(api, "race", f"candidate-{number}") for number in range(5)]
    await until(lambda: any(one.elector.leading for one in candidates), "one leads")
    for _ in range(len(candidates) - 1):
        (leader,) = [one for one in candidates if one.elector.leading]
        lease = await api.get(LEASE, "race", "default")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == leader.elector.identity
        await leader.elector.release()
        candidates.remove(leader)
        await until(lambda: any(one.elector.leading for one in candidates), "the next one leads")
        assert sum(one.elector.leading for one in candidates) == 1
    lease = await api.get(LEASE, "race", "default")
    assert lease is not None
    assert lease["spec"]["leaseTransitions"] == 4
    await candidates[0].elector.release()
    lease = await api.get(LEASE, "race", "default")
    assert lease is not None
    assert not lease["spec"].get("holderIdentity")


async def test_after_a_crash_the_other_takes_over_and_the_first_notices(api: KubeClient) -> None:
    first = Candidate(api, "crash", "first")
    await until(lambda: first.elector.leading, "the first leads")
    second = Candidate(api, "crash", "second")
    await first.crash()
    await until(lambda: second.elector.leading, "the second leads")
    assert not first.elector.leading
    # The first wakes up and goes on as if nothing had happened: it must notice, and not write.
    first.elector._renewed_at = first.elector._clock.monotonic()
    first.elector._loop = asyncio.create_task(first.elector._renew())
    await until(lambda: bool(first.lost), "the first has noticed")
    assert first.lost == ["the lease is now held by second"]
    assert second.elector.leading
    await first.elector.release()
    await second.elector.release()


async def test_idle_means_the_lease_is_the_only_write(control_plane: ControlPlane, api: KubeClient) -> None:
    mark = control_plane.audit_mark()
    leader, standby = Candidate(api, "idle", "leader"), Candidate(api, "idle", "standby")
    await until(lambda: leader.elector.leading or standby.elector.leading, "one leads")
    await until(lambda: len(control_plane.writes(mark, user="elector")) >= 6, "some renewals happened")
    writes = control_plane.writes(mark, user="elector")
    assert {(write.verb, write.resource) for write in writes} <= {("create", "leases"), ("update", "leases")}
    for one in (leader, standby):
        one.acquiring.cancel()
        await one.elector.release()
