"""Two tenants on a real cluster: what one cannot reach, proven by packets, SQL and API calls, also with the operator stopped.

Every "cannot" has a control beside it that can, so that a dead target is not taken for a closed door.
"""

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from e2e.cluster.provider import AnyCluster
from e2e.install import NAMESPACE as PLATFORM
from e2e.tenant_site import PLAIN, TENANTS, apply, get, probe, reach, space
from support.jobs import job_manifest
from support.netns import ADDRESS, Internet
from unjucks_api import names

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
PAIR = TENANTS[:2]
"""Those that generate something."""


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


def test_both_tenants_got_their_files(site: AnyCluster) -> None:
    for name in PAIR:
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


@pytest.mark.isolation("T-operator-down", state="down")
def test_isolation_holds_while_the_operator_is_stopped(
    site: AnyCluster, cluster_images: dict[str, str], operator_stopped: None
) -> None:
    privileged = probe("amber", cluster_images["renderer"])
    privileged["metadata"]["name"] = "privileged"
    privileged["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    refused = site.kubectl("apply", "--filename=-", stdin=json.dumps(privileged), check=False)
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted' in refused.stderr
    # The control: the same pod without that one field is admitted.
    admitted = site.kubectl(
        "apply",
        "--dry-run=server",
        "--filename=-",
        stdin=json.dumps(probe("amber", cluster_images["renderer"], "fine")),
        check=False,
    )
    assert admitted.returncode == 0, admitted.stderr
    host = probe("amber", cluster_images["renderer"])
    host["metadata"]["name"] = "host"
    host["spec"]["hostNetwork"] = True
    assert "violates PodSecurity" in site.kubectl("apply", "--filename=-", stdin=json.dumps(host), check=False).stderr
    greedy = probe("amber", cluster_images["renderer"])
    greedy["metadata"]["name"] = "greedy"
    container = greedy["spec"]["containers"][0] | {
        "resources": {"limits": {"cpu": "2", "memory": "64Mi", "ephemeral-storage": "16Mi"}}
    }
    greedy["spec"]["containers"] = [container | {"name": name} for name in ("one", "two")]
    message = site.kubectl("apply", "--filename=-", stdin=json.dumps(greedy), check=False).stderr
    assert "exceeded quota: unjucks-quota" in message


@pytest.mark.isolation("T-net-internet", state="up")
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


@pytest.mark.isolation("T-rls-write", state="up")
def test_a_tenants_database_role_sees_only_its_own_rows(site: AnyCluster) -> None:
    roles = {name: get(site, "tenant", name)["status"]["database"]["role"] for name in PAIR}

    uids = {name: get(site, "tenant", name)["metadata"]["uid"] for name in PAIR}
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
    assert seen == {name: {uids[name]} for name in PAIR}


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
