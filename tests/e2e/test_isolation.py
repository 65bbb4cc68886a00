"""Two tenants on a real cluster: what one cannot reach, proven by packets, SQL and API calls, also with the operator stopped.

Every "cannot" has a control beside it that can, so that a dead target is not taken for a closed door.
"""

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from e2e.cluster import provider
from e2e.cluster.provider import AnyCluster
from e2e.install import NAMESPACE as PLATFORM
from e2e.install import install
from support.jobs import job_manifest, registry_manifest
from support.netns import ADDRESS, Internet, internet
from support.tenants import tenant_manifest
from unjucks_api import names

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
TENANTS = ("amber", "birch")
PLAIN = "plain"
"""A namespace of nobody's, for the controls."""


def apply(cluster: AnyCluster, *objects: dict[str, Any]) -> None:
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=items)


def space(tenant: str) -> str:
    return PLAIN if tenant == PLAIN else names.default_namespace(tenant)


def probe(tenant: str, image: str) -> dict[str, Any]:
    """A pod of the tenant's own that serves on 8080 and is used to try connections."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": space(tenant)},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": ["python3", "-m", "http.server", "8080", "--directory=/usr/share"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def site(cluster: AnyCluster, cluster_images: dict[str, str]) -> Iterator[AnyCluster]:
    """The operator, two tenants that have each generated something, and a probe pod in each and outside of them."""
    install(cluster)
    apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLAIN}})
    apply(cluster, *(tenant_manifest(name, renderers={"min": 0}) for name in TENANTS))
    cluster.kubectl("wait", "--for=condition=Ready", "tenant", "--all", "--timeout=120s")
    for name in TENANTS:
        apply(cluster, registry_manifest(space(name)), job_manifest(space(name), "made", {"name": name}))
    apply(cluster, *(probe(name, cluster_images["base"]) for name in (*TENANTS, PLAIN)))
    for name in TENANTS:
        cluster.kubectl("wait", "--for=condition=Ready", "generationjob/made", "-n", space(name), "--timeout=180s")
    for name in (*TENANTS, PLAIN):
        cluster.kubectl("wait", "--for=condition=Ready", "pod/probe", "-n", space(name), "--timeout=120s")
    yield cluster
    for name in TENANTS:
        cluster.kubectl(
            "patch", "tenant", name, "--type=merge", "-p", '{"spec":{"deletionPolicy":"Delete"}}', check=False
        )
    cluster.kubectl("delete", "tenant", *TENANTS, "--timeout=120s")
    cluster.kubectl("delete", "namespace", PLAIN, "--wait=false", check=False)


@pytest.fixture
def outside(site: AnyCluster, tmp_path: Path) -> Iterator[Internet]:
    with internet(provider.node_pid(site), tmp_path / "internet.log") as running:
        yield running


@pytest.fixture
def operator_stopped(site: AnyCluster) -> Iterator[None]:
    """The operator scaled to nothing, and back."""
    site.kubectl("-n", PLATFORM, "scale", "deployment/unjucks-operator", "--replicas=0")
    site.kubectl(
        "-n", PLATFORM, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=operator", "--timeout=60s"
    )
    yield
    site.kubectl("-n", PLATFORM, "scale", "deployment/unjucks-operator", "--replicas=1")
    site.kubectl("-n", PLATFORM, "rollout", "status", "deployment/unjucks-operator", "--timeout=120s")


def get(cluster: AnyCluster, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", *arguments, "-o", "json").stdout)
    return found


def reach(cluster: AnyCluster, tenant: str, host: str, port: int) -> str:
    """What a TCP connection from the tenant's probe comes to: "connected" or the error's name."""
    code = (
        "import socket\n"
        "try:\n"
        f"    socket.create_connection(({host!r}, {port}), 3).close(); print('connected')\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n"
    )
    done = cluster.kubectl("exec", "-n", space(tenant), "probe", "--", "python3", "-c", code)
    return done.stdout.strip()


def targets(cluster: AnyCluster) -> dict[str, tuple[str, int]]:
    """Everything that a tenant's pod has no business with."""
    node = get(cluster, "nodes")["items"][0]
    address = next(it["address"] for it in node["status"]["addresses"] if it["type"] == "InternalIP")
    renderers = get(cluster, "pods", "-n", space("birch"), "-l", "app.kubernetes.io/component=renderer")["items"]
    operator = get(cluster, "pods", "-n", PLATFORM, "-l", "app.kubernetes.io/component=operator")["items"]
    postgres = get(cluster, "pods", "-n", PLATFORM, "-l", "app.kubernetes.io/component=postgres")["items"]
    found = {
        "pod of the other tenant": (get(cluster, "pod", "probe", "-n", space("birch"))["status"]["podIP"], 8080),
        "apiserver": (get(cluster, "service", "kubernetes")["spec"]["clusterIP"], 443),
        "kubelet": (address, 10250),
        "internet": (ADDRESS, 80),
        "database": (postgres[0]["status"]["podIP"], 5432),
    }
    if renderers:
        found["renderer of the other tenant"] = (renderers[0]["status"]["podIP"], names.RENDERER_PORT)
    if operator:
        found["operator"] = (operator[0]["status"]["podIP"], 8080)
    return found


def test_both_tenants_got_their_files(site: AnyCluster) -> None:
    for name in TENANTS:
        found = get(site, "configmap", "made", "-n", space(name))
        assert found["data"][f"{name}.txt"] == f"Hello {name}!\n0\n"


def test_an_isolated_job_runs_in_a_pod_of_its_own(site: AnyCluster) -> None:
    apply(site, job_manifest(space("amber"), "alone", {"name": "zoe"}, execution="Isolated"))
    site.kubectl("wait", "--for=condition=Ready", "generationjob/alone", "-n", space("amber"), "--timeout=180s")
    assert get(site, "configmap", "alone", "-n", space("amber"))["data"]["zoe.txt"] == "Hello zoe!\n0\n"
    pods = get(site, "pods", "-n", space("amber"), "-l", names.LABEL_JOB_UID)["items"]
    job = get(site, "generationjob", "alone", "-n", space("amber"))["metadata"]["uid"]
    left = [pod for pod in pods if pod["metadata"]["labels"][names.LABEL_JOB_UID] == job]
    assert [pod for pod in left if not pod["metadata"].get("deletionTimestamp")] == []


def test_no_packet_leaves_a_tenant(site: AnyCluster, outside: Internet) -> None:
    aims = targets(site)
    assert {"renderer of the other tenant", "operator"} <= aims.keys()
    # The controls: the targets are alive. A pod outside of tenants reaches what no policy of its own forbids.
    for name in ("apiserver", "internet", "kubelet", "operator"):
        assert reach(site, PLAIN, *aims[name]) == "connected", name
    assert reach(site, "birch", "127.0.0.1", 8080) == "connected"
    heard = len(outside.requests())
    assert heard > 0
    reached = {name: reach(site, "amber", *aim) for name, aim in aims.items()}
    assert {name: result for name, result in reached.items() if result == "connected"} == {}
    assert len(outside.requests()) == heard  # not only no answer: no packet came out
    # And nobody from outside comes in, the plain namespace included.
    assert reach(site, PLAIN, *aims["pod of the other tenant"]) != "connected"
    assert reach(site, PLAIN, *aims["renderer of the other tenant"]) != "connected"
    assert reach(site, PLAIN, *aims["database"]) != "connected"


def test_names_still_resolve(site: AnyCluster) -> None:
    code = "import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))"
    address = site.kubectl("exec", "-n", space("amber"), "probe", "--", "python3", "-c", code).stdout.strip()
    assert address == get(site, "service", "kubernetes")["spec"]["clusterIP"]


def test_isolation_holds_while_the_operator_is_stopped(
    site: AnyCluster, cluster_images: dict[str, str], outside: Internet, operator_stopped: None
) -> None:
    assert reach(site, PLAIN, ADDRESS, 80) == "connected"  # the control: there is an outside
    privileged = probe("amber", cluster_images["base"])
    privileged["metadata"]["name"] = "privileged"
    privileged["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    refused = site.kubectl("apply", "--filename=-", stdin=json.dumps(privileged), check=False)
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted' in refused.stderr
    # The control: the same pod without that one field is admitted.
    admitted = site.kubectl(
        "apply", "--dry-run=server", "--filename=-", stdin=json.dumps(probe("amber", "x")), check=False
    )
    assert admitted.returncode == 0, admitted.stderr
    host = probe("amber", cluster_images["base"])
    host["metadata"]["name"] = "host"
    host["spec"]["hostNetwork"] = True
    assert "violates PodSecurity" in site.kubectl("apply", "--filename=-", stdin=json.dumps(host), check=False).stderr
    heard = len(outside.requests())
    for name, aim in targets(site).items():
        assert reach(site, "amber", *aim) != "connected", name
    assert len(outside.requests()) == heard
    greedy = probe("amber", cluster_images["base"])
    greedy["metadata"]["name"] = "greedy"
    container = greedy["spec"]["containers"][0] | {"resources": {"limits": {"cpu": "2", "memory": "64Mi"}}}
    greedy["spec"]["containers"] = [container | {"name": name} for name in ("one", "two")]
    message = site.kubectl("apply", "--filename=-", stdin=json.dumps(greedy), check=False).stderr
    assert "exceeded quota: unjucks-quota" in message


def test_a_renderer_holds_no_token_and_reaches_nothing(site: AnyCluster, outside: Internet) -> None:
    pods = get(site, "pods", "-n", space("birch"), "-l", "app.kubernetes.io/component=renderer")["items"]
    running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
    assert running
    name = running[0]["metadata"]["name"]
    code = (
        "import os, socket\n"
        "print(os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount/token'))\n"
        "try:\n"
        f"    socket.create_connection(({ADDRESS!r}, 80), 3); print('connected')\n"
        "except OSError:\n"
        "    print('refused')\n"
    )
    assert reach(site, PLAIN, ADDRESS, 80) == "connected"  # the control: there is an outside
    done = site.kubectl("exec", "-n", space("birch"), name, "--", "python3", "-c", code)
    assert done.stdout.split() == ["False", "refused"]


def test_a_viewer_cannot_create_a_job(site: AnyCluster) -> None:
    def may(user: str, verb: str, what: str, namespace: str) -> bool:
        answer = site.kubectl("auth", "can-i", verb, what, "-n", namespace, "--as", user, check=False)
        return answer.stdout.strip() == "yes"

    jobs = "generationjobs.unjucks.io"
    assert may("ada@acme.example", "create", jobs, space("amber"))
    assert may("grace@acme.example", "get", jobs, space("amber"))
    assert not may("grace@acme.example", "create", jobs, space("amber"))
    assert not may("ada@acme.example", "create", jobs, PLAIN)
    assert not may("ada@acme.example", "create", "networkpolicies.networking.k8s.io", space("amber"))


def test_a_tenants_database_role_sees_only_its_own_rows(site: AnyCluster) -> None:
    roles = {name: get(site, "tenant", name)["status"]["database"]["role"] for name in TENANTS}

    uids = {name: get(site, "tenant", name)["metadata"]["uid"] for name in TENANTS}
    secret = get(site, "secret", "unjucks-database", "-n", PLATFORM)["data"]
    login = urlsplit(base64.b64decode(secret["dsn"]).decode())
    command = [str(site.kubectl_program), f"--kubeconfig={site.kubeconfig}", "-n", PLATFORM]
    command += ["port-forward", "service/unjucks-postgres", ":5432"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            port = int(forward.stdout.readline().split(":")[1].split()[0])
            address = f"postgresql://{login.username}:{login.password}@127.0.0.1:{port}{login.path}"
            seen = asyncio.run(_rows(address, roles))
        finally:
            forward.terminate()
    # Each role sees its own tenant's artifacts, so there are some of both; and nothing else.
    assert seen == {name: {uids[name]} for name in TENANTS}


async def _rows(address: str, roles: dict[str, str]) -> dict[str, set[str]]:
    connection = await asyncpg.connect(address, ssl=False)
    try:
        seen = {}
        for name, role in roles.items():
            async with connection.transaction():
                await connection.execute(f'SET LOCAL ROLE "{role}"')
                found = await connection.fetch("SELECT DISTINCT tenant_id::text FROM unjucks.artifact")
                seen[name] = {row[0] for row in found}
        return seen
    finally:
        await connection.close()


def test_the_operator_comes_back_and_changes_nothing(site: AnyCluster) -> None:
    def versions() -> dict[str, str]:
        kinds = "resourcequotas,limitranges,networkpolicies,rolebindings,serviceaccounts,deployments"
        items = get(site, kinds, "-n", space("amber"))["items"]
        return {
            f"{it['kind']}/{it['metadata']['name']}": f"{it.get('spec')} {it['metadata'].get('labels')}" for it in items
        }

    before = versions()
    site.kubectl(
        "-n", PLATFORM, "delete", "pod", "-l", "app.kubernetes.io/component=operator", "--grace-period=0", "--force"
    )
    site.kubectl("-n", PLATFORM, "rollout", "status", "deployment/unjucks-operator", "--timeout=120s")
    time.sleep(5)
    assert versions() == before
    for kind in ("tenants", "templateregistries", "generationjobs"):
        for item in get(site, kind, "--all-namespaces")["items"]:
            metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
            assert "kopf" not in json.dumps(metadata)
