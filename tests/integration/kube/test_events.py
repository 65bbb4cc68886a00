"""The event recorder against a real API server, with a clock moved by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from support.clock import FakeClock
from support.kube import client, unique, until
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.events import EventRecorder, Pace
from unjucks_operator.kube.resources import EVENT, GENERATION_JOB, NAMESPACE, TENANT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

CRDS = Path(__file__).resolve().parents[3] / "crds"


class Recorded:
    """A recorder, an object to tell about, and the Events that the API server has about it."""

    def __init__(self, api: KubeApi, regarding: Manifest, **options: Any) -> None:
        self.api = api
        self.regarding = regarding
        self.clock = FakeClock()
        self.recorder = EventRecorder(api, self.clock, instance="unjucks-operator-0", **options)

    def record(self, note: str = "all is well", reason: str = "Reconciled", type_: Any = "Normal") -> None:
        self.recorder.record(self.regarding, type_, reason, note, action="ReconcileTenant")

    async def events(self) -> list[Manifest]:
        found, _ = await self.api.list_all(EVENT)
        uid = self.regarding["metadata"]["uid"]
        return [event for event in found if event["regarding"].get("uid") == uid]


@asynccontextmanager
async def _about(plane: ControlPlane, body: Manifest, **options: Any) -> AsyncIterator[Recorded]:
    async with client(plane) as api:
        made = await api.create(body, manager="kubectl")
        assert made is not None
        yield Recorded(api, made, **options)


def _namespace() -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": unique("events")}}


async def test_kubectl_describe_shows_events_of_cluster_scoped_and_namespaced_objects(bare_plane: ControlPlane) -> None:
    bare_plane.apply_crds(CRDS)
    tenant = {
        "apiVersion": TENANT.api_version,
        "kind": "Tenant",
        "metadata": {"name": unique("events")},
        "spec": {"tier": "starter"},
    }
    async with _about(bare_plane, tenant, runbooks="https://docs.example/runbooks/") as told:
        told.record("the tenant is ready")
        told.record("object x is in the way", "OwnershipConflict", "Warning")
        await told.recorder.flush()
        shown = bare_plane.kubectl("describe", "tenant", tenant["metadata"]["name"]).stdout
        assert "Reconciled" in shown
        assert "the tenant is ready" in shown
        assert "Warning" in shown
        assert "object x is in the way. See https://docs.example/runbooks/OwnershipConflict.md" in shown
        assert "unjucks.io/operator" in shown
        assert {event["metadata"]["namespace"] for event in await told.events()} == {"default"}
        (ready,) = [event for event in await told.events() if event["reason"] == "Reconciled"]
        assert "namespace" not in ready["regarding"]
        assert ready["action"] == "ReconcileTenant"
        assert ready["reportingInstance"] == "unjucks-operator-0"

    job: Manifest = {
        "apiVersion": GENERATION_JOB.api_version,
        "kind": "GenerationJob",
        "metadata": {"name": unique("events"), "namespace": "kube-public"},
        "spec": {
            "registryRef": {"name": "platform"},
            "template": {"generator": "service", "action": "new"},
            "output": {"configMap": {"name": "out"}},
        },
    }
    async with _about(bare_plane, job) as told:
        told.record("written", "Succeeded")
        await told.recorder.flush()
        shown = bare_plane.kubectl("-n", "kube-public", "describe", "ugj", job["metadata"]["name"]).stdout
        assert "Succeeded" in shown
        assert [event["metadata"]["namespace"] for event in await told.events()] == ["kube-public"]


async def test_repetitions_become_one_series(bare_plane: ControlPlane) -> None:
    async with _about(bare_plane, _namespace()) as told:
        for _ in range(3):
            told.record()
        await told.recorder.flush()
        (event,) = await told.events()
        assert event["series"]["count"] == 3
        running = asyncio.create_task(told.recorder.run())
        sent = told.recorder.sent
        await told.clock.advance(61)
        told.record()
        await until(lambda: told.recorder.sent == sent + 1, "the update")
        for _ in range(50):  # within the minute: counted, told at its end
            told.record()
        assert told.recorder.sent == sent + 1
        await told.clock.advance(61)
        await until(lambda: told.recorder.sent == sent + 2, "the count of the minute")
        (event,) = await told.events()
        assert event["series"]["count"] == 54
        assert event["series"]["lastObservedTime"] > event["eventTime"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        await told.clock.advance(601)  # long silence: a new one
        told.record()
        told.record("another note")
        await told.recorder.flush()
        assert len(await told.events()) == 3


async def test_an_event_that_the_server_forgot_starts_anew(bare_plane: ControlPlane) -> None:
    async with _about(bare_plane, _namespace()) as told:
        told.record()
        await told.recorder.flush()
        (event,) = await told.events()
        assert await told.api.delete(
            EVENT, event["metadata"]["name"], event["metadata"]["namespace"], uid=event["metadata"]["uid"]
        )
        await told.clock.advance(61)
        told.record()
        await told.recorder.flush()  # notices that it is gone
        told.record()
        await told.recorder.flush()
        (again,) = await told.events()
        assert again["metadata"]["name"] != event["metadata"]["name"]
        assert told.recorder.dropped == 0


async def test_notes_are_cut_to_what_the_server_takes(bare_plane: ControlPlane) -> None:
    async with _about(bare_plane, _namespace(), runbooks="https://docs.example") as told:
        told.record("ü" * 1000, "InvalidSpec", "Warning")
        told.record("x" * 1024)
        await told.recorder.flush()
        notes = {event["reason"]: event["note"] for event in await told.events()}
        assert len(notes["InvalidSpec"].encode()) <= 1024
        assert notes["InvalidSpec"].endswith("ü…. See https://docs.example/InvalidSpec.md")
        assert notes["Reconciled"] == "x" * 1024


async def test_one_object_cannot_flood_the_others_out(bare_plane: ControlPlane) -> None:
    async with _about(bare_plane, _namespace(), pace=Pace(object_burst=5, object_refill=100)) as told:
        other = await told.api.create(_namespace(), manager="kubectl")
        assert other is not None
        for number in range(20):
            told.record(f"note {number}")
        told.recorder.record(other, "Normal", "Reconciled", "calm", action="ReconcileTenant")
        await told.recorder.flush()
        assert len(await told.events()) == 5
        assert told.recorder.dropped == 15
        assert told.recorder.sent == 6
        await told.clock.advance(100)
        told.record("one more")
        told.record("but not two")
        await told.recorder.flush()
        assert len(await told.events()) == 6


async def test_memory_and_queue_are_bounded(bare_plane: ControlPlane) -> None:
    pace = Pace(queued=10, remembered=20, object_burst=1000)
    async with _about(bare_plane, _namespace(), pace=pace) as told:
        for number in range(100):
            told.record(f"note {number}")
            told.recorder.record(
                told.regarding | {"metadata": told.regarding["metadata"] | {"uid": f"uid-{number}"}},
                "Normal",
                "Reconciled",
                "x",
                action="ReconcileTenant",
            )
        assert told.recorder.dropped == 190
        assert len(told.recorder._series) <= 20
        assert len(told.recorder._budgets) <= 20
        await told.recorder.flush()
        assert told.recorder.sent == 10


async def test_nothing_escapes_into_the_reconcile(bare_plane: ControlPlane, caplog: pytest.LogCaptureFixture) -> None:
    async with _about(bare_plane, _namespace()) as told:
        told.recorder.record({"kind": "broken"}, "Normal", "Reconciled", "x", action="A")
        assert told.recorder.dropped == 1
        assert "could not be recorded" in caplog.text
        # Refused by the server: dropped, and the next one is told all the same.
        told.record(reason="")
        told.record()
        await told.recorder.flush()
        assert [event["reason"] for event in await told.events()] == ["Reconciled"]
        assert told.recorder.dropped == 2
    # Nobody there any more.
    told.record("into the void")
    flushing = asyncio.create_task(told.recorder.flush())
    while not flushing.done():
        await asyncio.sleep(0.01)
        await told.clock.advance(1)
    assert told.recorder.dropped == 3


async def test_no_right_to_write_events_is_no_reason_to_fail(bare_plane: ControlPlane) -> None:
    async with (
        client(bare_plane) as admin,
        client(bare_plane, kubeconfig=bare_plane.kubeconfig_for(unique("nobody"))) as api,
    ):
        made = await admin.create(_namespace(), manager="kubectl")
        assert made is not None
        assert made["kind"] == NAMESPACE.kind
        told = Recorded(api, made)
        told.record()
        await told.recorder.flush()
        assert told.recorder.dropped == 1
