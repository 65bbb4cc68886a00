"""The informer against a real API server: gaps, cuts, silence, compaction, missing rights and kinds, a restored etcd."""

import asyncio
import http.client
import json
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane
from support.kube import client, unique, until
from support.tcp_proxy import TcpProxy, tcp_proxy
from unjucks_operator.engine.clock import SystemClock
from unjucks_operator.engine.informer import Informer
from unjucks_operator.errors import NotPermitted, Unavailable
from unjucks_operator.kube.api import Manifest, PatchType
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.client import KubeClient
from unjucks_operator.kube.config import from_kubeconfig
from unjucks_operator.kube.resources import CONFIG_MAP, Resource
from unjucks_operator.kube.transport import Limits

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MANAGER = "unjucks-operator/test"


class Watched:
    """An informer of ConfigMaps with the label ``group=<own group>``, and what it told."""

    def __init__(self, api: KubeClient, resource: Resource = CONFIG_MAP, group: str = "") -> None:
        self.api = api
        self.group = group or unique("informer")
        self.told: list[tuple[str, str]] = []
        self.informer = Informer(
            api,
            resource,
            index=lambda child: child.labels.get("side"),
            on_event=self._on_event,
            clock=SystemClock(),
            rng=random.Random(1),
            selector=f"group={self.group}",
        )

    def _on_event(self, resource: Resource, old: Child | None, new: Child | None) -> None:
        assert resource is self.informer.resource
        assert old is not None or new is not None
        name = (new or old).name  # type: ignore[union-attr]
        self.told.append((name, "deleted" if new is None else "added" if old is None else "changed"))

    @property
    def names(self) -> list[str]:
        return sorted(child.name for child in self.informer.store)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.informer.run())
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def make(self, api: KubeClient, name: str, **labels: str) -> Manifest:
        made = await api.create(self.manifest(name, **labels), manager=MANAGER)
        assert made is not None
        return made

    def manifest(self, name: str, **labels: str) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{self.group}-{name}",
                "namespace": "default",
                "labels": {"group": self.group, **labels},
            },
            "data": {"x": "1"},
        }

    def name(self, name: str) -> str:
        return f"{self.group}-{name}"

    async def drop(self, api: KubeClient, made: Manifest) -> None:
        place = made["metadata"]
        assert await api.delete(CONFIG_MAP, place["name"], "default", uid=place["uid"])


def _through(plane: ControlPlane, proxy: TcpProxy, **limits: Any) -> KubeClient:
    endpoint, credentials = from_kubeconfig(plane.kubeconfig)
    endpoint = type(endpoint)(f"https://127.0.0.1:{proxy.port}", endpoint.tls)
    return KubeClient(endpoint, credentials, limits=Limits(qps=0, **limits))


def _port(plane: ControlPlane) -> int:
    port = urlsplit(plane.server).port
    assert port is not None
    return port


async def test_follows_what_happens(control_plane: ControlPlane) -> None:
    async with client(control_plane) as api:
        watched = Watched(api)
        first = await watched.make(api, "a", side="left")
        async with watched.running():
            await watched.informer.synced.wait()
            assert watched.told == [(watched.name("a"), "added")]
            second = await watched.make(api, "b", side="right")
            await until(lambda: watched.name("b") in watched.names, "b")
            await api.patch(
                CONFIG_MAP,
                watched.name("b"),
                "default",
                {"metadata": {"labels": {"side": "left"}}},
                patch_type=PatchType.MERGE,
                manager="somebody",
            )
            await until(lambda: len(watched.informer.store.indexed("left")) == 2, "b on the left")
            assert watched.informer.store.indexed("right") == ()
            assert [child.uid for child in watched.informer.store.in_namespace("default")] == [
                first["metadata"]["uid"],
                second["metadata"]["uid"],
            ]
            await watched.drop(api, first)
            await until(lambda: watched.names == [watched.name("b")], "a is gone")
            # A label taken away is a deletion for everybody who selects by it.
            await api.patch(
                CONFIG_MAP,
                watched.name("b"),
                "default",
                {"metadata": {"labels": {"group": None}}},
                patch_type=PatchType.MERGE,
                manager="somebody",
            )
            await until(lambda: watched.names == [], "b left")
        assert watched.told == [
            (watched.name("a"), "added"),
            (watched.name("b"), "added"),
            (watched.name("b"), "changed"),
            (watched.name("a"), "deleted"),
            (watched.name("b"), "deleted"),
        ]
        assert watched.informer.last_error is None
        assert watched.informer.age() < 60


async def test_own_writes_are_in_the_store_at_once_and_are_not_told(control_plane: ControlPlane) -> None:
    async with client(control_plane) as api:
        watched = Watched(api)
        async with watched.running():
            await watched.informer.synced.wait()
            made = await watched.make(api, "a")
            before = len(watched.told)
            child = watched.informer.upsert(made)
            assert watched.informer.store.get("default", child.name) is child or before == 1
            deleted = made | {"metadata": made["metadata"] | {"labels": {"group": watched.group}}}
            await watched.drop(api, made)
            await until(lambda: watched.names == [], "the deletion")
            # The answer of a write that was delayed until after the deletion does not bring the object back.
            watched.informer.upsert(deleted)
            assert watched.names == []


async def test_what_happened_while_the_connection_was_cut_is_told(control_plane: ControlPlane) -> None:
    async with (
        tcp_proxy("127.0.0.1", _port(control_plane)) as proxy,
        client(control_plane) as direct,
        _through(control_plane, proxy) as api,
    ):
        watched = Watched(api)
        gone, again = await watched.make(direct, "gone"), await watched.make(direct, "again")
        async with watched.running():
            await watched.informer.synced.wait()
            proxy.cut(refuse=True)
            await watched.drop(direct, gone)
            await watched.drop(direct, again)
            made = await watched.make(direct, "again")
            await watched.make(direct, "new")
            await until(lambda: isinstance(watched.informer.last_error, Unavailable), "the cut was noticed")
            watched.told.clear()
            proxy.mend()
            await until(lambda: watched.names == [watched.name("again"), watched.name("new")], "caught up")
            assert watched.told.count((watched.name("gone"), "deleted")) == 1
            assert watched.told.count((watched.name("again"), "deleted")) == 1
            assert watched.told.count((watched.name("again"), "added")) == 1
            assert watched.informer.store.get("default", watched.name("again")).uid == made["metadata"]["uid"]  # type: ignore[union-attr]
            assert watched.informer.last_error is None


async def test_a_silent_connection_is_given_up(control_plane: ControlPlane) -> None:
    async with (
        tcp_proxy("127.0.0.1", _port(control_plane)) as proxy,
        client(control_plane) as direct,
        _through(control_plane, proxy, watch_inactivity=0.5, connect=1.0, request=2.0) as api,
    ):
        watched = Watched(api)
        async with watched.running():
            await watched.informer.synced.wait()
            proxy.freeze()
            await watched.make(direct, "a")
            await until(
                lambda: watched.informer.last_error is not None and "silent" in watched.informer.last_error.message,
                "the silence was noticed",
            )
            assert watched.names == []
            proxy.mend()
            await until(lambda: watched.names == [watched.name("a")], "it works again")


async def test_a_missing_right_is_reported_and_its_grant_is_noticed(control_plane: ControlPlane) -> None:
    user = unique("informer-user")
    async with client(control_plane, kubeconfig=control_plane.kubeconfig_for(user)) as api:
        watched = Watched(api)
        async with watched.running():
            await until(lambda: isinstance(watched.informer.last_error, NotPermitted), "the refusal")
            error = watched.informer.last_error
            assert error is not None
            assert "list configmaps" in error.message
            assert user in error.message
            assert not watched.informer.synced.is_set()
            control_plane.kubectl("create", "clusterrolebinding", user, "--clusterrole=cluster-admin", f"--user={user}")
            await asyncio.wait_for(watched.informer.synced.wait(), 60)


async def test_a_kind_that_is_not_served_yet_is_waited_for(control_plane: ControlPlane) -> None:
    group = unique("late") + ".example"
    widget = Resource(group, "v1", "Widget", "widgets")
    async with client(control_plane) as api:
        watched = Watched(api, widget)
        async with watched.running():
            await until(lambda: isinstance(watched.informer.last_error, Unavailable), "the refusal")
            assert f"does not serve widgets of {group}/v1" in watched.informer.last_error.message  # type: ignore[union-attr]
            schema = {"openAPIV3Schema": {"type": "object"}}
            crd = {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"widgets.{group}"},
                "spec": {
                    "group": group,
                    "scope": "Namespaced",
                    "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
                    "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
                },
            }
            control_plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(crd))
            await asyncio.wait_for(watched.informer.synced.wait(), 60)


def _compact(plane: ControlPlane) -> None:
    """Make etcd forget all history, through its JSON gateway."""
    parts = urlsplit(plane._etcd_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    try:
        connection.request("POST", "/v3/kv/range", json.dumps({"key": "eA=="}))
        revision = json.loads(connection.getresponse().read())["header"]["revision"]
        connection.request("POST", "/v3/kv/compaction", json.dumps({"revision": revision, "physical": True}))
        assert connection.getresponse().status == 200
    finally:
        connection.close()


async def test_after_410_everything_is_listed_again_and_there_are_no_ghosts(fresh_control_plane: ControlPlane) -> None:
    plane = fresh_control_plane
    async with tcp_proxy("127.0.0.1", _port(plane)) as proxy, _through(plane, proxy) as api:
        watched = Watched(api)
        async with client(plane) as direct:
            gone, kept = await watched.make(direct, "gone"), await watched.make(direct, "kept")
        async with watched.running():
            await watched.informer.synced.wait()
            proxy.cut(refuse=True)
            async with client(plane) as direct:
                await watched.drop(direct, gone)
                await watched.make(direct, "new")
            _compact(plane)
            assert plane.apiserver is not None
            plane.apiserver.stop()
            plane.start_apiserver()  # with an empty watch cache, so that it cannot serve the old version either
            watched.told.clear()
            proxy.mend()
            await until(lambda: watched.names == [watched.name("kept"), watched.name("new")], "listed again")
            assert sorted(watched.told) == [(watched.name("gone"), "deleted"), (watched.name("new"), "added")]
            assert watched.informer.relists == 1
            assert watched.informer.store.get("default", watched.name("kept")).uid == kept["metadata"]["uid"]  # type: ignore[union-attr]
            async with client(plane) as direct:
                await watched.make(direct, "later")
            await until(lambda: watched.name("later") in watched.names, "it watches again")


async def test_a_restored_etcd_whose_history_went_back_is_believed(fresh_control_plane: ControlPlane) -> None:
    plane = fresh_control_plane
    async with tcp_proxy("127.0.0.1", _port(plane)) as proxy, _through(plane, proxy) as api:
        watched = Watched(api)
        async with client(plane) as direct:
            for number in range(600):  # far beyond the versions that a new cluster uses for itself
                made = await watched.make(direct, f"old-{number}")
        async with watched.running():
            await watched.informer.synced.wait()
            high = watched.informer.store.newest
            assert high >= int(made["metadata"]["resourceVersion"])
            proxy.cut(refuse=True)
            plane._stop_components()
            shutil.rmtree(plane.folder / "etcd")
            plane.start_etcd()
            plane.start_apiserver()
            async with client(plane) as direct:
                made = await watched.make(direct, "restored")
            assert int(made["metadata"]["resourceVersion"]) < high
            proxy.mend()
            await until(lambda: watched.names == [watched.name("restored")], "the new truth", timeout=60)
            assert watched.informer.store.newest < high
