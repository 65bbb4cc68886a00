"""The kopf event source against a real API server, through a proxy that breaks watches on purpose."""

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from e2e.cluster.controlplane import ControlPlane
from support.apiproxy import ApiProxy
from support.controlplane import CRD_FOLDER, ControlPlaneFactory
from unjucks_operator.engine.clock import SystemClock
from unjucks_operator.engine.kopf_glue import KopfSource, WatchMetrics
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.kube.client import KubeClient
from unjucks_operator.kube.config import from_kubeconfig
from unjucks_operator.kube.credentials import CertificateOnly, Endpoint
from unjucks_operator.kube.resources import GENERATION_JOB, TEMPLATE_REGISTRY, TENANT, Resource

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
TENANTS = TENANT.path()


class Seen(WatchMetrics):
    """Keeps what the source reports."""

    def __init__(self) -> None:
        self.restarts = 0
        self.repairs: list[tuple[str, str]] = []
        self.codes: set[str] = set()

    def watch_restarted(self) -> None:
        self.restarts += 1

    def repaired(self, plural: str, what: str) -> None:
        self.repairs.append((plural, what))

    def observe_request(self, verb: str, plural: str, code: str, seconds: float) -> None:
        self.codes.add(f"{verb} {plural} {code}")


@dataclass
class Bench:
    """A source that sees the API server through the proxy, with a user of its own for the audit log."""

    plane: ControlPlane
    proxy: ApiProxy
    source: KopfSource
    store: ResourceStore
    metrics: Seen
    user: str

    def create(self, name: str, **metadata: object) -> None:
        body = {
            "apiVersion": TENANT.api_version,
            "kind": TENANT.kind,
            "metadata": {"name": name, **metadata},
            "spec": {},
        }
        self.plane.admin.request("POST", TENANTS, body).require()

    def delete(self, name: str) -> None:
        self.plane.admin.request("DELETE", f"{TENANTS}/{name}").require()

    def label(self, name: str, value: str) -> None:
        patch = {"metadata": {"labels": {"test": value}}}
        self.plane.admin.request(
            "PATCH", f"{TENANTS}/{name}", patch, content_type="application/merge-patch+json"
        ).require()

    def has(self, name: str) -> bool:
        return ("", name) in self.store

    def label_of(self, name: str) -> str:
        body = self.store.get(("", name))
        return str((body or {}).get("metadata", {}).get("labels", {}).get("test", ""))


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; the limit only ends a test that would never end."""
    try:
        async with asyncio.timeout(80):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"never happened: {what}")


def make(
    plane: ControlPlane, proxy: ApiProxy, api: KubeClient, user: str, *watched: Resource, **options: float
) -> tuple[KopfSource, ResourceStore, Seen]:
    metrics, store = Seen(), ResourceStore()
    stores = [(resource, store if resource is TENANT else ResourceStore()) for resource in watched]
    source = KopfSource(
        api,
        Endpoint(proxy.url, None),
        CertificateOnly(),
        stores,
        prefix="unjucks.io",
        metrics=metrics,
        clock=SystemClock(),
        rng=random.Random(1),
        **options,  # type: ignore[arg-type]
    )
    return source, store, metrics


@asynccontextmanager
async def bench_on(plane: ControlPlane, user: str, *watched: Resource, **options: float) -> AsyncIterator[Bench]:
    endpoint, credentials = from_kubeconfig(plane.kubeconfig_for(user, ["system:masters"]))
    assert endpoint.tls is not None
    before = asyncio.all_tasks()
    async with ApiProxy(endpoint.server, endpoint.tls).running() as proxy, KubeClient(endpoint, credentials) as api:
        source, store, metrics = make(plane, proxy, api, user, *watched, **options)
        try:
            yield Bench(plane, proxy, source, store, metrics, user)
        finally:
            async with asyncio.timeout(3):  # the promise: SIGTERM ends the process within three seconds
                await source.stop()
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert [task.get_name() for task in left if not task.done()] == []


@pytest.fixture
async def bench(control_plane: ControlPlane, crds: list[str], request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """All three kinds, on the shared control plane, synced."""
    user = f"source-{request.node.name}".replace("_", "-")
    async with bench_on(control_plane, user, TENANT, TEMPLATE_REGISTRY, GENERATION_JOB) as made:
        await made.source.start()
        yield made


async def test_events_flow_and_managed_fields_are_dropped(bench: Bench) -> None:
    changes: list[tuple[str, bool, bool]] = []
    bench.store.subscribe(lambda key, before, after: changes.append((key[1], before is not None, after is not None)))
    bench.create("flow")
    await until(lambda: bench.has("flow"), "the created object is in the store")
    body = bench.store.get(("", "flow"))
    assert body is not None
    assert body["spec"]["tier"] == "starter"
    assert "managedFields" not in body["metadata"]
    bench.label("flow", "1")
    await until(lambda: bench.label_of("flow") == "1", "the change is in the store")
    bench.delete("flow")
    await until(lambda: not bench.has("flow"), "the deleted object is gone")
    assert [change for change in changes if change[0] == "flow"] == [
        ("flow", False, True),
        ("flow", True, True),
        ("flow", True, False),
    ]


async def test_nothing_is_written_into_anybodys_object(bench: Bench) -> None:
    mark = bench.plane.audit_mark()
    bench.create("untouched", finalizers=["example.com/hold"], annotations={"example.com/a": "b"})
    bench.label("untouched", "1")
    await until(lambda: bench.label_of("untouched") == "1", "the object is in the store")
    bench.delete("untouched")
    await until(
        lambda: "deletionTimestamp" in (bench.store.get(("", "untouched")) or {}).get("metadata", {}),
        "the deletion is seen",
    )
    stored = bench.plane.admin.get(f"{TENANTS}/untouched").require()
    assert "kopf" not in json.dumps(stored)
    assert stored["metadata"]["finalizers"] == ["example.com/hold"]
    assert bench.plane.writes(mark, user=bench.user) == []
    remove = [{"op": "remove", "path": "/metadata/finalizers"}]
    bench.plane.admin.request(
        "PATCH", f"{TENANTS}/untouched", remove, content_type="application/json-patch+json"
    ).require()
    await until(lambda: not bench.has("untouched"), "the object is gone")


async def test_the_first_list_is_complete_before_synced(control_plane: ControlPlane, crds: list[str]) -> None:
    async with bench_on(control_plane, "first-list", TENANT) as bench:
        for number in range(30):
            bench.create(f"early-{number}")
        assert bench.source.check_synced() == "not listed yet (is the CRD installed?): tenants.unjucks.io"
        await bench.source.start()
        assert bench.source.synced
        assert bench.source.check_synced() is None
        assert all(bench.has(f"early-{number}") for number in range(30))
        assert bench.metrics.repairs == []
        for number in range(30):
            bench.delete(f"early-{number}")


async def test_what_was_deleted_while_the_watch_was_cut_disappears(bench: Bench) -> None:
    bench.create("ghost")
    bench.create("stays")
    await until(lambda: bench.has("ghost") and bench.has("stays"), "both are in the store")
    lists = bench.proxy.count("tenants", watch=False)
    bench.proxy.cut()
    bench.delete("ghost")
    bench.label("stays", "changed")
    bench.create("born")
    bench.proxy.expire_next("tenants")
    bench.proxy.mend()
    await until(lambda: not bench.has("ghost"), "the ghost is gone")
    await until(lambda: bench.label_of("stays") == "changed" and bench.has("born"), "the rest is up to date")
    assert bench.proxy.count("tenants", watch=False) > lists, "kopf must have listed again, or this tested nothing"
    assert ("tenants", "ghost") in bench.metrics.repairs
    for name in ("stays", "born"):
        bench.delete(name)


async def test_a_short_cut_loses_nothing(bench: Bench) -> None:
    bench.create("blip")
    await until(lambda: bench.has("blip"), "it is in the store")
    bench.proxy.cut()
    bench.delete("blip")
    bench.proxy.mend()
    await until(lambda: not bench.has("blip"), "the deletion arrives from the resumed watch")
    assert bench.metrics.restarts == 0


async def test_an_audit_repairs_what_a_half_open_watch_hides(control_plane: ControlPlane, crds: list[str]) -> None:
    async with bench_on(control_plane, "half-open", TENANT, audit_period=0.5) as bench:
        bench.create("before")
        bench.proxy.swallow("tenants")
        await bench.source.start()
        bench.create("hidden")
        bench.delete("before")
        await until(lambda: bench.has("hidden") and not bench.has("before"), "the audit repaired both")
        assert ("tenants", "missing") in bench.metrics.repairs
        assert ("tenants", "ghost") in bench.metrics.repairs
        bench.delete("hidden")


async def test_an_error_inside_a_watch_does_not_end_it(bench: Bench) -> None:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500, "message": "storage is unwell"}
    await until(lambda: bench.proxy.watches("tenants") > 0, "the watch is open")
    await bench.proxy.inject("tenants", json.dumps({"type": "ERROR", "object": status}).encode())
    await until(lambda: bench.metrics.restarts == 1, "the watches were started again")
    bench.create("after-error")
    await until(lambda: bench.has("after-error"), "events flow again")
    bench.delete("after-error")


async def test_freshness_is_known_for_each_watch(bench: Bench) -> None:
    assert set(bench.source.ages()) == {"tenants", "templateregistries", "generationjobs"}
    assert bench.source.check_fresh() is None
    assert {"list tenants 200", "watch tenants 200"} <= bench.metrics.codes
    bench.source._silence = -1.0
    problem = bench.source.check_fresh()
    assert problem is not None
    assert "tenants for" in problem


async def test_kopf_does_not_keep_our_signals_nor_end_our_tasks(bench: Bench) -> None:
    ours = asyncio.create_task(asyncio.sleep(3600), name="a worker that is younger than kopf")
    await bench.source.stop()
    await asyncio.sleep(0)
    assert not ours.done()
    ours.cancel()


async def test_a_crd_that_comes_late_is_served_then(control_plane_factory: ControlPlaneFactory) -> None:
    plane = control_plane_factory(controllers=False, audit="")
    async with bench_on(plane, "late-crd", TENANT) as bench:
        starting = asyncio.create_task(bench.source.start())
        await until(lambda: bench.proxy.count("customresourcedefinitions", watch=True) > 0, "kopf watches for CRDs")
        assert not starting.done()
        assert bench.source.ages() == {}, "a kind that is not there is not silent"
        await asyncio.to_thread(plane.apply_crds, CRD_FOLDER)
        async with asyncio.timeout(80):
            await starting
        bench.create("late")
        await until(lambda: bench.has("late"), "events flow")


async def test_a_server_that_was_restored_from_a_backup_is_followed(control_plane_factory: ControlPlaneFactory) -> None:
    plane = control_plane_factory(controllers=False, audit="")
    plane.apply_crds(CRD_FOLDER)
    etcd, backup = plane.folder / "etcd", plane.folder / "etcd-backup"

    def restart(*, swap: bool) -> None:
        plane._stop_components()
        if swap:
            shutil.rmtree(etcd)
            shutil.copytree(backup, etcd)
        else:
            shutil.copytree(etcd, backup)
        plane.start_etcd()
        plane.start_apiserver()

    async with bench_on(plane, "restored", TENANT) as bench:
        bench.create("old")
        await asyncio.to_thread(restart, swap=False)
        await bench.source.start()
        bench.create("lost")
        for number in range(50):  # the lost future is longer than what comes after it
            bench.label("old", f"future-{number}")
        await until(lambda: bench.has("lost") and bench.label_of("old") == "future-49", "the future is in the store")
        await asyncio.to_thread(restart, swap=True)
        await until(lambda: not bench.has("lost") and bench.label_of("old") == "", "the store is in the past")
        bench.create("new")
        await until(lambda: bench.has("new"), "events flow")
        assert bench.metrics.restarts == 1
