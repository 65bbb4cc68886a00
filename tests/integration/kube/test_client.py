"""The client against a real API server; and, for what a real one does not do on demand, against a scripted HTTP server."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from e2e.cluster.controlplane import ControlPlane
from support.clock import FakeClock
from support.kube import FAST, client, sample, unique, until
from unjucks_operator.engine.clock import SystemClock
from unjucks_operator.errors import Conflict, InvalidSpec, NotPermitted, Throttled, Unavailable, Waiting
from unjucks_operator.kube.api import Gone, Manifest, NotFound, PatchType
from unjucks_operator.kube.client import KubeClient
from unjucks_operator.kube.config import from_kubeconfig, in_cluster, load
from unjucks_operator.kube.credentials import CertificateOnly, Credentials, Endpoint, TokenFile
from unjucks_operator.kube.resources import CONFIG_MAP, GENERATION_JOB, LEASE, NAMESPACE, POD, SECRET, TENANT
from unjucks_operator.kube.transport import Limits

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

CRDS = Path(__file__).resolve().parents[3] / "crds"


def _config_map(name: str, namespace: str = "default", **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


async def test_reads_and_writes_answer_in_plain_dicts(bare_plane: ControlPlane) -> None:
    async with client(bare_plane) as api:
        name = unique("plain")
        assert await api.get(CONFIG_MAP, name, "default") is None
        made = await api.create(_config_map(name, a="1"), manager="m")
        assert made is not None
        assert made["data"] == {"a": "1"}
        assert await api.create(_config_map(name, a="2"), manager="m") is None
        part = await api.get(CONFIG_MAP, name, "default", metadata_only=True)
        assert part is not None
        assert (part["kind"], "data" in part) == ("PartialObjectMetadata", False)
        assert part["metadata"]["uid"] == made["metadata"]["uid"]

        applied = await api.apply(_config_map(name, b="2"), manager="n")
        assert applied["data"] == {"a": "1", "b": "2"}
        with pytest.raises(Conflict, match=f"apply ConfigMap default/{name}: Apply failed with 1 conflict"):
            await api.apply(_config_map(name, b="3"), manager="other", force=False)

        stale = applied | {"metadata": applied["metadata"] | {"resourceVersion": made["metadata"]["resourceVersion"]}}
        with pytest.raises(Conflict, match="the object has been modified"):
            await api.replace(stale, manager="m")
        replaced = await api.replace(applied | {"data": {"c": "3"}}, manager="m")
        assert replaced["data"] == {"c": "3"}

        uid = made["metadata"]["uid"]
        assert not await api.delete(CONFIG_MAP, name, "default", uid="somebody-else")
        assert await api.delete(CONFIG_MAP, name, "default", uid=uid)
        assert not await api.delete(CONFIG_MAP, name, "default", uid=uid)


async def test_refusals_name_verb_kind_name_and_cause(bare_plane: ControlPlane) -> None:
    user = unique("nobody")
    async with client(bare_plane, kubeconfig=bare_plane.kubeconfig_for(user)) as powerless:
        with pytest.raises(NotPermitted) as refused:
            await powerless.create(_config_map("x"), manager="m")
        assert refused.value.message.startswith("create ConfigMap default/x: configmaps is forbidden")
        assert user in refused.value.message
        assert "grant" in refused.value.message
        with pytest.raises(NotPermitted, match=r"list tenants: tenants.unjucks.io is forbidden"):
            await powerless.list_all(TENANT)
    async with client(bare_plane) as api:
        with pytest.raises(NotFound, match='create ConfigMap nowhere/x: namespaces "nowhere" not found'):
            await api.create(_config_map("x", "nowhere"), manager="m")
        with pytest.raises(InvalidSpec, match=r"create ConfigMap default/Not_Valid: .*RFC 1123"):
            await api.create(_config_map("Not_Valid"), manager="m")
        with pytest.raises(NotFound, match='patch ConfigMap default/x: configmaps "x" not found'):
            await api.patch(CONFIG_MAP, "x", "default", {}, patch_type=PatchType.MERGE, manager="m")
        with pytest.raises(InvalidSpec, match=r"Too long|too large|limit") as large:
            await api.create(_config_map("large", a="x" * 2_000_000), manager="m")
        assert len(large.value.message) < 1000
        absent = type(POD)("nowhere.example", "v1", "Thing", "things")
        with pytest.raises(Unavailable, match=r"does not serve things of nowhere.example/v1"):
            await api.list_all(absent)


async def test_a_full_quota_is_waited_for(control_plane: ControlPlane) -> None:
    namespace = unique("quota")
    async with client(control_plane) as api:
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, manager="m")
        quota: Manifest = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": namespace},
            "spec": {"hard": {"secrets": "0"}},
        }
        await api.create(quota, manager="m")
        control_plane.admin.wait(
            f"/api/v1/namespaces/{namespace}/resourcequotas/q",
            lambda answer: "hard" in answer.body.get("status", {}),
            timeout=20,
            what="the quota counts",
        )
        with pytest.raises(Waiting, match="exceeded quota: q"):
            await api.create(sample(SECRET, namespace, "u"), manager="m")


async def test_status_is_replaced_whole_and_nothing_else_changes(bare_plane: ControlPlane) -> None:
    bare_plane.apply_crds(CRDS)
    name = unique("status")
    job: Manifest = {
        "apiVersion": "unjucks.io/v1alpha1",
        "kind": "GenerationJob",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"a": "b"},
            "annotations": {"c": "d"},
            "finalizers": ["unjucks.io/hold"],
        },
        "spec": {
            "registryRef": {"name": "platform"},
            "template": {"generator": "service", "action": "new"},
            "output": {"configMap": {"name": "out"}},
        },
    }
    async with client(bare_plane) as api:
        made = await api.create(job, manager="kubectl")
        assert made is not None

        async def write(status: Manifest, version: str) -> Manifest:
            return await api.patch_status(GENERATION_JOB, name, "default", status, resource_version=version)

        condition = {
            "type": "Ready",
            "status": "False",
            "reason": "Queued",
            "message": "waits",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }
        first = await write({"observedGeneration": 1, "conditions": [condition]}, made["metadata"]["resourceVersion"])
        assert first["status"]["conditions"] == [condition]
        second = await write({"observedGeneration": 1}, first["metadata"]["resourceVersion"])
        assert second["status"] == {"observedGeneration": 1}
        for part in ("labels", "annotations", "finalizers", "generation", "uid"):
            assert second["metadata"][part] == made["metadata"][part]
        assert second["spec"] == made["spec"]
        entries = {(entry["manager"], entry.get("subresource")) for entry in second["metadata"]["managedFields"]}
        assert entries == {("kubectl", None), ("unjucks-operator/status", "status")}

        same = await write({"observedGeneration": 1}, second["metadata"]["resourceVersion"])
        assert same["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
        with pytest.raises(Conflict, match=f"update GenerationJob default/{name} \\(status\\)"):
            await write({"observedGeneration": 2}, made["metadata"]["resourceVersion"])
        with pytest.raises(InvalidSpec, match="observedGeneration"):
            await write({"observedGeneration": "x"}, second["metadata"]["resourceVersion"])

        with pytest.raises(Conflict, match="modified"):
            await api.set_finalizers(
                GENERATION_JOB, name, "default", [], resource_version=made["metadata"]["resourceVersion"]
            )
        await api.delete(GENERATION_JOB, name, "default", uid=made["metadata"]["uid"])
        going = await api.get(GENERATION_JOB, name, "default")
        assert going is not None
        await api.set_finalizers(
            GENERATION_JOB, name, "default", [], resource_version=going["metadata"]["resourceVersion"]
        )
        assert await api.get(GENERATION_JOB, name, "default") is None
        with pytest.raises(NotFound):
            await write({"observedGeneration": 2}, going["metadata"]["resourceVersion"])


async def test_lists_come_in_pages_of_one_snapshot(bare_plane: ControlPlane) -> None:
    calls: list[str] = []
    group = unique("pages")
    async with client(bare_plane, observe=lambda verb, plural, code, seconds: calls.append(f"{verb} {code}")) as api:
        for number in range(25):
            manifest = _config_map(f"{group}-{number:02}")
            manifest["metadata"]["labels"] = {"group": group}
            await api.create(manifest, manager="m")
        calls.clear()
        seen: list[str] = []
        versions = set()
        async for page, version in api.list_pages(CONFIG_MAP, label_selector=f"group={group}", chunk=10):
            assert len(page) <= 10
            seen += [item["metadata"]["name"] for item in page]
            versions.add(version)
            if len(seen) == 10:  # what happens between pages is not in this list
                manifest = _config_map(f"{group}-99")
                manifest["metadata"]["labels"] = {"group": group}
                await api.create(manifest, manager="m")
        assert seen == [f"{group}-{number:02}" for number in range(25)]
        assert len(versions) == 1
        assert calls.count("list 200") == 3
        whole, _ = await api.list_all(CONFIG_MAP, namespace="default", label_selector=f"group={group}")
        assert [item["kind"] for item in whole] == ["ConfigMap"] * 26


async def test_a_watch_tells_from_its_version_on(bare_plane: ControlPlane) -> None:
    name = unique("watch")
    async with client(bare_plane) as api:
        _, version = await api.list_all(NAMESPACE)
        told: list[tuple[str, str]] = []

        async def follow() -> None:
            async for event in api.watch(CONFIG_MAP, resource_version=version, metadata_only=True):
                if event.object["metadata"]["name"] == name:
                    told.append((event.type, event.object["kind"]))

        watching = asyncio.create_task(follow())
        made = await api.create(_config_map(name, a="x" * 500_000), manager="m")  # longer than a line may be
        assert made is not None
        await api.apply(_config_map(name, b="1"), manager="n")
        await api.delete(CONFIG_MAP, name, "default", uid=made["metadata"]["uid"])
        await until(lambda: len(told) == 3, "three events")
        assert [kind for kind, _ in told] == ["ADDED", "MODIFIED", "DELETED"]
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

        whole = api.watch(CONFIG_MAP, resource_version=version)
        event = await anext(whole)
        while event.object["metadata"]["name"] != name:
            event = await anext(whole)
        assert len(event.object["data"]["a"]) == 500_000
        await whole.aclose()


async def test_a_silent_watch_is_unavailable(bare_plane: ControlPlane) -> None:
    async with client(bare_plane, limits=Limits(qps=0, watch_inactivity=0.3)) as api:
        _, version = await api.list_all(LEASE, namespace="default")
        with pytest.raises(Unavailable, match=r"watch leases in default: the API server was silent for 0.3 s"):
            async for _ in api.watch(LEASE, resource_version=version, namespace="default"):
                pass


def _token(plane: ControlPlane, account: str) -> str:
    plane.admin.request(
        "POST",
        "/api/v1/namespaces/default/serviceaccounts",
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}},
    ).require()
    plane.kubectl(
        "create", "clusterrolebinding", account, "--clusterrole=cluster-admin", f"--serviceaccount=default:{account}"
    )
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = plane.admin.request("POST", f"/api/v1/namespaces/default/serviceaccounts/{account}/token", review)
    return str(answer.require()["status"]["token"])


async def test_a_renewed_token_is_read_again(bare_plane: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(bare_plane.ca.read_bytes())
    token = tmp_path / "token"
    token.write_text("expired")
    host, port = bare_plane.server.removeprefix("https://").split(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    clock = FakeClock()
    endpoint, credentials = in_cluster(clock, environ=environ, folder=tmp_path)
    assert endpoint.server == bare_plane.server
    codes: list[str] = []
    async with KubeClient(
        endpoint, credentials, limits=FAST, observe=lambda verb, plural, code, seconds: codes.append(code)
    ) as api:
        with pytest.raises(Unavailable, match="refused the operator's credentials"):
            await api.list_all(CONFIG_MAP, namespace="default")
        assert codes == ["401"]  # the file still says the same, so no second try
        # The server says 401, the file has a new token: one more try at once.
        token.write_text(_token(bare_plane, unique("first")))
        codes.clear()
        await api.list_all(CONFIG_MAP, namespace="default")
        assert codes == ["401", "200"]
        watch = api.watch(CONFIG_MAP, resource_version="0")
        assert (await anext(watch)).type == "ADDED"
        await watch.aclose()
        # Without a 401 the file is read again after a minute.
        second = _token(bare_plane, unique("second"))
        token.write_text(second)
        await clock.advance(59)
        assert credentials.authorization() != f"Bearer {second}"
        await clock.advance(2)
        assert credentials.authorization() == f"Bearer {second}"
        await api.list_all(CONFIG_MAP, namespace="default")
        # A file that is being replaced is no reason to stop.
        token.unlink()
        await clock.advance(61)
        await api.list_all(CONFIG_MAP, namespace="default")


async def test_kubeconfigs_with_tokens_exec_plugins_and_passwords(bare_plane: ControlPlane, tmp_path: Path) -> None:
    token = _token(bare_plane, unique("user"))
    plugin = tmp_path / "plugin.sh"
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "@TOKEN@"},
    }
    plugin.write_text(f"#!/bin/sh\nsed \"s/@TOKEN@/$(cat {tmp_path}/now)/\" <<'END'\n{json.dumps(answer)}\nEND\n")
    plugin.chmod(0o755)
    (tmp_path / "now").write_text("stale")

    def write(user: Manifest) -> Path:
        path = tmp_path / f"{unique('kubeconfig')}.yaml"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "c",
                    "cluster": {
                        "server": bare_plane.server,
                        "certificate-authority-data": base64.b64encode(bare_plane.ca.read_bytes()).decode(),
                    },
                }
            ],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    endpoint, credentials = load(SystemClock(), environ={"KUBECONFIG": str(write({"token": token}))})
    async with KubeClient(endpoint, credentials, limits=FAST) as api:
        await api.list_all(CONFIG_MAP, namespace="default")

    exec_user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    endpoint, credentials = from_kubeconfig(write(exec_user))
    (tmp_path / "now").write_text(token)
    async with KubeClient(endpoint, credentials, limits=FAST) as api:  # 401, the plug-in runs again, success
        await asyncio.gather(*(api.list_all(CONFIG_MAP, namespace="default") for _ in range(5)))

    _, credentials = from_kubeconfig(write({"username": "ada", "password": "x"}))
    assert credentials.authorization() == "Basic " + base64.b64encode(b"ada:x").decode()
    _, credentials = from_kubeconfig(bare_plane.kubeconfig)
    assert isinstance(credentials, CertificateOnly)


@pytest.mark.parametrize("broken", ["missing file", "no such context", "failing plug-in"])
def test_a_kubeconfig_that_cannot_work_says_so(bare_plane: ControlPlane, tmp_path: Path, broken: str) -> None:
    path, context = bare_plane.kubeconfig, None
    if broken == "missing file":
        path = tmp_path / "none"
    elif broken == "no such context":
        context = "other"
    else:
        config = yaml.safe_load(path.read_text())
        plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false", "interactiveMode": "Never"}
        config["users"][0]["user"] = {"exec": plugin}
        path = tmp_path / "exec"
        path.write_text(yaml.safe_dump(config))
    with pytest.raises(InvalidSpec, match=f"the kubeconfig {path}"):
        from_kubeconfig(path, context=context)


def test_outside_a_cluster_there_is_no_service_account(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    with pytest.raises(InvalidSpec, match="no service account"):
        in_cluster(FakeClock(), environ=environ, folder=tmp_path)


# --- what a real API server does not do on demand: a scripted HTTP server stands in --------------------------------------

Script = list[Callable[[web.Request], Awaitable[web.StreamResponse]]]


@asynccontextmanager
async def _scripted(script: Script, clock: FakeClock | None = None, **limits: Any) -> AsyncIterator[KubeClient]:
    """A client of a server that answers one request after the other from the script."""
    answers = iter(script)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await next(answers)(request)

    application = web.Application(client_max_size=1 << 24)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    endpoint = Endpoint(f"http://127.0.0.1:{port}", None)
    credentials: Credentials = CertificateOnly()
    try:
        async with KubeClient(
            endpoint, credentials, limits=Limits(**{"qps": 0, **limits}), clock=clock or SystemClock()
        ) as api:
            yield api
    finally:
        await runner.cleanup()


def _says(code: int, body: Any = None, **headers: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(
            status=code,
            body=body if isinstance(body, bytes) else json.dumps(body or {}).encode(),
            headers={key.replace("_", "-"): value for key, value in headers.items()},
        )

    return answer


async def _with_time(clock: FakeClock, call: Awaitable[Any], seconds: float) -> Any:
    """Run the call, moving the clock a tenth of a second again and again until it is done."""
    task = asyncio.ensure_future(call)
    start = clock.monotonic()
    while not task.done() and clock.monotonic() - start < seconds:
        await asyncio.sleep(0.002)
        if clock.pending():
            await clock.advance(0.1)
    await asyncio.wait([task], timeout=10)
    return task.result()


async def test_throttling_is_waited_out() -> None:
    clock = FakeClock()
    found = {"metadata": {"name": "x"}}
    script: Script = [_says(429, Retry_After="3"), _says(503, Retry_After="2"), _says(429), _says(200, found)]
    async with _scripted(script, clock) as api:
        assert await _with_time(clock, api.get(CONFIG_MAP, "x", "default"), 60) == found
    assert clock.monotonic() >= 3 + 2 + 4  # two that were told, one guessed (1 s, doubled twice)


@pytest.mark.parametrize(
    ("answer", "after"),
    [(_says(429, Retry_After="1"), 1.0), (_says(429, {"details": {"retryAfterSeconds": 60}}), 60.0)],
    ids=["too often", "too long"],
)
async def test_endless_throttling_is_handed_on(
    answer: Callable[[web.Request], Awaitable[web.Response]], after: float
) -> None:
    clock = FakeClock()
    async with _scripted([answer] * 20, clock) as api:
        with pytest.raises(Throttled, match="get ConfigMap default/x") as caught:
            await _with_time(clock, api.get(CONFIG_MAP, "x", "default"), 60)
    assert caught.value.after == after
    assert clock.monotonic() < 15


async def test_a_failed_write_is_not_repeated() -> None:
    script: Script = [_says(500, {"message": "etcd is slow"}), _says(200, {"metadata": {"name": "x"}})]
    async with _scripted(script) as api:
        with pytest.raises(Unavailable, match=r"create ConfigMap default/x: etcd is slow \(HTTP 500\)"):
            await api.create(_config_map("x"), manager="m")
        assert await api.get(CONFIG_MAP, "x", "default") is not None


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"<html>bad gateway</html>", "bad gateway"), (b"", "no explanation given"), (b"[1]", r"\[1\]")],
)
async def test_answers_that_are_no_status_are_shown_shortened(body: bytes, text: str) -> None:
    async with _scripted([_says(502, body)]) as api:
        with pytest.raises(Unavailable, match=text):
            await api.get(CONFIG_MAP, "x", "default")


@pytest.mark.parametrize("body", [b'{"metadata": {"na', b"[]"])
async def test_a_cut_or_strange_answer_is_unavailable(body: bytes) -> None:
    async with _scripted([_says(200, body)]) as api:
        with pytest.raises(Unavailable, match="the API server's answer is not"):
            await api.create(_config_map("x"), manager="m")


async def test_a_server_that_does_not_answer_or_is_not_there_is_unavailable() -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError("the client waited too long")

    async with _scripted([hang], request=0.2) as api:
        with pytest.raises(Unavailable, match="create ConfigMap default/x: no answer"):
            await api.create(_config_map("x"), manager="m")
    async with KubeClient(Endpoint("http://127.0.0.1:9", None), CertificateOnly(), limits=FAST) as api:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await api.get(CONFIG_MAP, "x", "default")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"type": "ERROR", "object": {"code": 410, "message": "too old"}}, Gone),
        ({"type": "ERROR", "object": {"code": 500, "message": "etcd"}}, Unavailable),
        ({"type": "ERROR", "object": {}}, Unavailable),
        ({"type": "SURPRISE", "object": {}}, Unavailable),
    ],
)
async def test_errors_inside_a_watch(line: Manifest, error: type[Exception]) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        good = {"type": "ADDED", "object": {"metadata": {"name": "x"}}}
        payload = json.dumps(good).encode() + b"\n" + json.dumps(line).encode() + b"\n"
        for start in range(0, len(payload), 7):  # in pieces that do not end where lines do
            await response.write(payload[start : start + 7])
        return response

    async with _scripted([stream]) as api:
        watch = api.watch(CONFIG_MAP, resource_version="1")
        assert (await anext(watch)).object["metadata"]["name"] == "x"
        with pytest.raises(error):
            await anext(watch)


async def test_an_expired_version_is_gone() -> None:
    gone = _says(410, {"code": 410, "reason": "Expired", "message": "too old resource version"})
    page = {"items": [{"metadata": {"name": "a"}}], "metadata": {"resourceVersion": "7", "continue": "more"}}
    whole = {"items": [{"metadata": {"name": "b"}}], "metadata": {"resourceVersion": "9"}}
    async with _scripted([gone, _says(200, page), gone, _says(200, whole), gone]) as api:
        with pytest.raises(Gone, match="watch configmaps: too old"):
            await anext(api.watch(CONFIG_MAP, resource_version="1"))
        # A page's snapshot may expire in the middle of a list: then everything comes again, in one piece.
        items, version = await api.list_all(CONFIG_MAP, metadata_only=True)
        assert ([item["metadata"]["name"] for item in items], version) == (["b"], "9")
        with pytest.raises(Gone):
            await anext(api.list_pages(CONFIG_MAP))


async def test_what_the_server_sees() -> None:
    seen: list[tuple[str, str, dict[str, str]]] = []

    async def note(request: web.Request) -> web.StreamResponse:
        await request.read()
        seen.append((request.method, str(request.rel_url), dict(request.headers)))
        return web.json_response({"metadata": {"name": "x"}})

    async with _scripted([note] * 4) as api:
        await api.apply(_config_map("x"), manager="unjucks-operator/tenant", metadata_only=True)
        await api.create(_config_map("y", a="x" * (1 << 21)), manager="a b")  # as a stream, without a warning
        await api.patch(CONFIG_MAP, "x", "default", [], patch_type=PatchType.JSON, manager="m", subresource="status")
        await api.delete(CONFIG_MAP, "x", "default", uid="u")
    assert [(method, url) for method, url, _ in seen] == [
        ("PATCH", "/api/v1/namespaces/default/configmaps/x?fieldManager=unjucks-operator%2Ftenant&force=true"),
        ("POST", "/api/v1/namespaces/default/configmaps?fieldManager=a%20b"),
        ("PATCH", "/api/v1/namespaces/default/configmaps/x/status?fieldManager=m"),
        ("DELETE", "/api/v1/namespaces/default/configmaps/x"),
    ]
    headers = seen[0][2]
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert headers["Accept"] == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    assert headers["User-Agent"].startswith("unjucks-operator/")
    assert "Authorization" not in headers
    assert seen[2][2]["Content-Type"] == "application/json-patch+json"


async def test_the_rate_limit_holds_requests_back_but_never_the_lease() -> None:
    clock = FakeClock()
    script: Script = [_says(200, {"metadata": {"name": "x"}})] * 10
    async with _scripted(script, clock, qps=1.0, burst=2) as api:
        for _ in range(2):
            await api.get(CONFIG_MAP, "x", "default")
        third = asyncio.create_task(api.get(CONFIG_MAP, "x", "default"))
        await api.get(LEASE, "x", "default")
        assert not third.done()
        assert await _with_time(clock, third, 5) is not None
        assert clock.monotonic() >= 1.0


def test_a_token_file_that_never_was_is_unavailable(tmp_path: Path) -> None:
    credentials = TokenFile(tmp_path / "token", FakeClock())
    with pytest.raises(Unavailable, match="cannot be read: No such file"):
        credentials.authorization()
    (tmp_path / "token").write_text(" \n")
    with pytest.raises(Unavailable, match="is empty"):
        credentials.authorization()
