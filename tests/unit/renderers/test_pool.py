"""Choosing a renderer: which pods count, the least loaded one, waiting in order, accounting that survives every way out."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.errors import Waiting
from unjucks_operator.renderers.ca import new_authority
from unjucks_operator.renderers.certificates import client_context
from unjucks_operator.renderers.client import Endpoint
from unjucks_operator.renderers.pool import RendererPool, choose, endpoint_of, ready_endpoints

UID = "tenant-uid"
AUTHORITY = new_authority(datetime.now(UTC))


def pod(name: str, *, uid: str = UID, ip: str = "127.0.0.1", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": names.tenant_labels("acme", uid, names.COMPONENT_RENDERER) | labels,
        },
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def new_pool(capacity: int = 1) -> RendererPool:
    return RendererPool(client_context(AUTHORITY.issue_client(datetime.now(UTC))), capacity=capacity)


def endpoint(name: str) -> Endpoint:
    return Endpoint(pod_uid=f"uid-{name}", pod=name, ip="127.0.0.1", tenant_uid=UID)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda it: it["status"].update(conditions=[{"type": "Ready", "status": "False"}]),
        lambda it: it["status"].update(conditions=[]),
        lambda it: it["status"].update(phase="Pending"),
        lambda it: it["status"].pop("podIP"),
        lambda it: it["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"),
        lambda it: it["metadata"]["labels"].update({names.LABEL_TENANT_UID: "other"}),
        lambda it: it["metadata"]["labels"].update({names.LABEL_COMPONENT: "courier"}),
        lambda it: it["metadata"].pop("labels"),
        lambda it: it.pop("status"),
    ],
)
def test_only_ready_renderers_of_the_tenant_count(spoil: Any) -> None:
    good, bad = pod("a"), pod("b")
    spoil(bad)
    assert [it.pod for it in ready_endpoints([bad, good], UID)] == ["a"]


def test_the_pod_of_an_isolated_job_is_no_pool_member_but_has_an_endpoint() -> None:
    isolated = pod("x", **{names.LABEL_JOB_UID: "job"})
    assert ready_endpoints([isolated], UID) == []
    found = endpoint_of(isolated, UID)
    assert found is not None
    assert (found.ip, found.port) == ("127.0.0.1", names.RENDERER_PORT)


def test_choose_takes_the_least_loaded_and_among_equals_the_warm_one() -> None:
    ends = [endpoint("a"), endpoint("b"), endpoint("c")]
    assert choose(ends, {"uid-a": 1, "uid-b": 1}, 2) == ends[2]
    assert choose(ends, {}, 2) == ends[0]
    assert choose(ends, {}, 2, {"uid-b"}) == ends[1]
    assert choose(ends, {"uid-b": 1}, 2, {"uid-b"}) == ends[0]
    assert choose(ends, dict.fromkeys(("uid-a", "uid-b", "uid-c"), 2), 2) is None
    assert choose([], {}, 2) is None


async def test_without_a_ready_pod_a_task_waits_and_says_for_what() -> None:
    pool = new_pool()
    with pytest.raises(Waiting) as caught:
        async with pool.lease(UID, wait_seconds=0.01):
            pytest.fail("there is no renderer")
    assert caught.value.reason is Reason.RENDERER_STARTING
    assert pool.load(UID) == (0, 0)
    await pool.close()


async def test_a_pod_that_becomes_ready_serves_the_waiting_in_order() -> None:
    pool = new_pool(capacity=1)
    order: list[int] = []

    async def work(number: int) -> None:
        async with pool.lease(UID, wait_seconds=20):
            order.append(number)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(work(number)) for number in range(5)]
    await asyncio.sleep(0.01)
    assert pool.load(UID) == (0, 5)
    pool.observe(UID, [pod("a")])
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert pool.load(UID) == (0, 0)
    await pool.close()


async def test_without_patience_a_free_place_is_still_taken() -> None:
    pool = new_pool(capacity=1)
    pool.observe(UID, [pod("a")])
    async with pool.lease(UID, wait_seconds=0) as client:
        assert client.endpoint.pod == "a"
    await pool.close()


async def test_busy_is_another_reason_than_starting() -> None:
    pool = new_pool(capacity=1)
    pool.observe(UID, [pod("a")])
    async with pool.lease(UID, wait_seconds=1):
        assert pool.load(UID) == (1, 0)
        with pytest.raises(Waiting) as caught:
            async with pool.lease(UID, wait_seconds=0.01):
                pytest.fail("it is busy")
        assert caught.value.reason is Reason.QUEUED
    await pool.close()


async def test_places_come_back_after_errors_and_cancellation() -> None:
    pool = new_pool(capacity=1)
    pool.observe(UID, [pod("a")])
    with pytest.raises(ValueError, match="mine"):
        async with pool.lease(UID, wait_seconds=1):
            raise ValueError("mine")

    async def hold() -> None:
        async with pool.lease(UID, wait_seconds=20):
            await asyncio.sleep(1000)

    holder, waiter = asyncio.create_task(hold()), asyncio.create_task(hold())
    await asyncio.sleep(0.01)
    assert pool.load(UID) == (1, 1)
    waiter.cancel()
    holder.cancel()
    await asyncio.gather(holder, waiter, return_exceptions=True)
    assert pool.load(UID) == (0, 0)
    async with pool.lease(UID, wait_seconds=1) as client:
        assert client.endpoint.pod == "a"
    await pool.close()


async def test_a_place_handed_out_in_the_moment_of_cancellation_is_not_lost() -> None:
    pool = new_pool(capacity=1)

    async def hold() -> None:
        async with pool.lease(UID, wait_seconds=20):
            pytest.fail("it was cancelled before")

    waiter = asyncio.create_task(hold())
    await asyncio.sleep(0)
    pool.observe(UID, [pod("a")])  # the future is set now; the task runs only afterwards
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert pool.load(UID) == (0, 0)
    await pool.close()


async def test_one_client_for_each_pod_and_none_for_a_gone_one() -> None:
    pool = new_pool(capacity=2)
    pool.observe(UID, [pod("a")])
    async with pool.lease(UID, wait_seconds=1) as first, pool.lease(UID, wait_seconds=1) as second:
        assert first is second
        pool.observe(UID, [pod("b")])
        assert not first._session.closed  # its calls still run
    await asyncio.sleep(0)
    assert first._session.closed
    async with pool.lease(UID, wait_seconds=1) as third:
        assert third.endpoint.pod == "b"
    await pool.close()


async def test_the_same_pod_with_another_address_gets_another_client() -> None:
    pool = new_pool()
    pool.observe(UID, [pod("a")])
    async with pool.lease(UID, wait_seconds=1) as first:
        pass
    pool.observe(UID, [pod("a", ip="127.0.0.2")])
    async with pool.lease(UID, wait_seconds=1) as second:
        assert second.endpoint.ip == "127.0.0.2"
    await asyncio.sleep(0)
    assert first._session.closed
    await pool.close()


async def test_new_certificates_are_used_from_the_next_call_on() -> None:
    pool = new_pool(capacity=2)
    pool.observe(UID, [pod("a")])
    async with pool.lease(UID, wait_seconds=1) as first:
        pool.use(client_context(AUTHORITY.issue_client(datetime.now(UTC))))
        async with pool.lease(UID, wait_seconds=1) as second:
            assert second is not first
            assert not first._session.closed
    await asyncio.sleep(0)
    assert first._session.closed
    await pool.close()


async def test_tenants_do_not_share_renderers() -> None:
    pool = new_pool()
    pool.observe(UID, [pod("a")])
    assert pool.ready(UID) == 1
    with pytest.raises(Waiting):
        async with pool.lease("other", wait_seconds=0.01):
            pytest.fail("that is another tenant's renderer")
    pool.observe(UID, [])
    assert pool.ready(UID) == 0
    await pool.close()
