"""Registries with fetched sources on a real API server: courier on demand, intervals, failures, history, pins, Flux.

The server has an address of 198.51.100.0/24 (for documentation) on the machine's loopback device for the time of the test: nothing
allows an operator to let couriers call loopback itself. That takes root.
"""

import base64
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from support.jobs import job_manifest, ready_of, wait_job
from support.operator_process import OperatorProcess, Site
from support.sources import FILES, HttpsServer, tar_gz
from support.tenants import tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.resources import CONFIG_MAP, DEPLOYMENT, TEMPLATE_REGISTRY, TENANT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        os.geteuid() != 0, reason="an address for the server is added to the loopback device: needs root"
    ),
]
ADDRESS, RANGE = "198.51.100.78", "198.51.100.0/24"
NS = "tenant-sources"
SECOND = FILES | {"_templates/greet/new/{{ name }}.txt.njk": "Good day {{ name }}!\n"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsServer]:
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    try:
        made = HttpsServer(tmp_path_factory.mktemp("https"), ADDRESS)
        made.routes["/t.tgz"] = (200, {}, tar_gz(FILES))
        yield made
        made.close()
    finally:
        subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site, server: HttpsServer) -> AsyncIterator[OperatorProcess]:
    """An operator that allows the stand-ins' range, and a starter tenant: its quota has to hold a courier too."""
    courier = {"egress": {"cidrs": [RANGE], "ports": [server.port]}, "minimumInterval": 1, "idleAfter": 600}
    network = {"probe": {"enabled": False}, "clusterCidrs": ["10.0.0.0/8"]}
    async with site.operator(courier=courier, network=network, renderer={"idleAfter": 600}) as running:
        await site.apply(tenant_manifest("sources", tier="starter"))
        await site.wait_for("tenant/sources", "condition=Ready", 60)
        await site.apply(secret("server", {"ca.crt": server.authority}))
        yield running


def secret(name: str, data: dict[str, bytes]) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NS}, "data": encoded}


def registry(server: HttpsServer, name: str, path: str = "/t.tgz", **spec: Any) -> dict[str, Any]:
    source = {"http": {"url": server.url + path, "certSecretRef": {"name": "server"}}, "interval": "10s"}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "TemplateRegistry",
        "metadata": {"name": name, "namespace": NS},
        "spec": source | spec,
    }


async def read(site: Site, name: str) -> dict[str, Any]:
    body = await site.api.get(TEMPLATE_REGISTRY, name, NS)
    assert body is not None
    return body


async def ask(site: Site, name: str, when: str) -> None:
    await site.kubectl("annotate", "utr", name, "-n", NS, f"{names.ANNOTATION_REQUESTED_AT}={when}", "--overwrite")
    await site.wait_for(f"templateregistry/{name}", f"jsonpath={{.status.lastHandledRequestedAt}}={when}", 60, NS)


async def test_a_tenant_has_no_courier_until_something_is_fetched(site: Site, operator: OperatorProcess) -> None:
    assert await site.api.get(DEPLOYMENT, names.COURIER, NS) is None


async def test_an_archive_is_fetched_rendered_updated_and_rolled_back(
    site: Site, operator: OperatorProcess, server: HttpsServer
) -> None:
    await site.apply(registry(server, "web"))
    await site.wait_for("templateregistry/web", "condition=Ready", 90, NS)
    first = (await read(site, "web"))["status"]
    assert first["artifact"]["revision"] == first["observedRevision"]
    assert first["history"][0] | {"lastUpdateTime": ""} == {
        "revision": first["artifact"]["revision"],
        "digest": first["artifact"]["digest"],
        "lastUpdateTime": "",
        "state": "Current",
    }
    await site.apply(job_manifest(NS, "one", {"name": "bob"}, registry="web"))
    await wait_job(site, NS, "one")
    made = await site.api.get(CONFIG_MAP, "one", NS)
    assert made is not None
    assert made["data"]["bob.txt"] == "Hello bob!\n"
    assert (await site.api.get(DEPLOYMENT, names.COURIER, NS)) is not None

    # Nothing new: nothing is written.
    before = (await read(site, "web"))["metadata"]["resourceVersion"]
    seen = len(server.seen)
    while len(server.seen) < seen + 2:
        await site.kubectl("get", "utr", "-n", NS)
    assert (await read(site, "web"))["metadata"]["resourceVersion"] == before

    server.routes["/t.tgz"] = (200, {}, tar_gz(SECOND))
    await ask(site, "web", "second")
    second = (await read(site, "web"))["status"]
    assert second["artifact"]["digest"] != first["artifact"]["digest"]
    assert [it["state"] for it in second["history"]] == ["Current", "Available"]

    await site.apply(registry(server, "web", pin=first["artifact"]["digest"]))
    await site.wait_for(
        "templateregistry/web", f"jsonpath={{.status.artifact.digest}}={first['artifact']['digest']}", 60, NS
    )
    pinned = (await read(site, "web"))["status"]
    assert [it["state"] for it in pinned["history"]] == ["Available", "Pinned"]
    assert ready_of(await read(site, "web"))["status"] == "True"
    await site.apply(registry(server, "web", pin="no-such-version"))
    await site.wait_for("templateregistry/web", "condition=Ready=False", 60, NS)
    assert ready_of(await read(site, "web"))["reason"] == "RevisionNotFound"
    assert (await read(site, "web"))["status"]["artifact"]["digest"] == first["artifact"]["digest"]
    await site.kubectl("patch", "utr", "web", "-n", NS, "--type=json", "-p", '[{"op": "remove", "path": "/spec/pin"}]')
    await site.wait_for(
        "templateregistry/web", f"jsonpath={{.status.artifact.digest}}={second['artifact']['digest']}", 60, NS
    )


async def test_the_last_good_version_stays_served_whatever_happens(
    site: Site, operator: OperatorProcess, server: HttpsServer
) -> None:
    server.routes["/good.tgz"] = (200, {}, tar_gz(FILES))
    await site.apply(registry(server, "steady", "/good.tgz", interval="1h"))
    await site.wait_for("templateregistry/steady", "condition=Ready", 90, NS)
    good = (await read(site, "steady"))["status"]["artifact"]
    for number, (answer, reason, stalled) in enumerate(
        [
            ((401, {}, b""), "AuthenticationFailed", False),
            ((500, {}, b""), "FetchFailed", False),
            ((404, {}, b""), "SourceNotFound", False),
            ((200, {}, b"no archive"), "ArchiveInvalid", True),
            ((302, {"Location": "https://169.254.169.254/x"}, b""), "EgressRefused", True),
        ]
    ):
        server.routes["/good.tgz"] = answer
        await ask(site, "steady", f"try-{number}")
        body = await read(site, "steady")
        conditions = {item["type"]: item for item in body["status"]["conditions"]}
        assert (conditions["Ready"]["status"], conditions["Ready"]["reason"]) == ("False", reason)
        assert conditions["FetchFailed"]["reason"] == reason
        assert conditions["ArtifactInStorage"]["status"] == "True"
        assert ("Stalled" in conditions) is stalled
        assert body["status"]["artifact"] == good
    await site.apply(job_manifest(NS, "during", {"name": "eve"}, registry="steady"))
    await wait_job(site, NS, "during")
    server.routes["/good.tgz"] = (200, {}, tar_gz(FILES))
    await ask(site, "steady", "again")
    assert ready_of(await read(site, "steady"))["status"] == "True"
    assert (await read(site, "steady"))["status"]["artifact"] == good


async def test_what_is_missing_is_told(site: Site, operator: OperatorProcess, server: HttpsServer) -> None:
    await site.apply(
        registry(server, "nosecret", http={"url": server.url + "/t.tgz", "secretRef": {"name": "later"}}),
        {
            "apiVersion": names.API_VERSION,
            "kind": "TemplateRegistry",
            "metadata": {"name": "flux", "namespace": NS},
            "spec": {"sourceRef": {"kind": "GitRepository", "name": "x"}, "interval": "10s"},
        },
        registry(server, "stolen", http={"url": server.url + "/t.tgz", "secretRef": {"name": names.RENDERER}}),
    )
    for name, reason, text in (
        ("nosecret", "DependencyNotReady", "Secret later does not exist"),
        ("flux", "DependencyNotReady", "no kind GitRepository"),
        ("stolen", "NotPermitted", "the operator's own"),
    ):
        await site.wait_for(f"templateregistry/{name}", f"jsonpath={{.status.conditions[0].reason}}={reason}", 60, NS)
        assert text in ready_of(await read(site, name))["message"]


async def test_the_tenant_is_ready_all_the_while(site: Site, operator: OperatorProcess) -> None:
    body = await site.api.get(TENANT, "sources")
    assert body is not None
    assert ready_of(body)["status"] == "True"
