"""A registry that reads a Git server outside of the cluster: the tenant's courier pod fetches, a renderer reads, a job generates.

The server is the real ``git http-backend`` behind TLS in the stand-in for the internet; the tenant's own rule opens the way to it,
and to nothing beside it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.provider import AnyCluster
from e2e.tenant_site import apply, get
from support.jobs import job_manifest
from support.netns import ADDRESS, NEIGHBOUR, Internet
from support.tenants import tenant_manifest
from unjucks_api import names

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
TENANT = "dogwood"
SPACE = names.default_namespace(TENANT)
TESTS = Path(__file__).resolve().parents[1]
_SERVER = """
import json, sys
from pathlib import Path
from support.git_host import GitHost
host = GitHost(Path(sys.argv[1]), sys.argv[2])
host.create("acme/templates", {"_templates/greet/new/{{ name }}.txt.njk": "Hello {{ name }}!"})
print(json.dumps({"url": host.url, "port": host.port, "secret": host.secret}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def git_server(outside: Internet, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Git over https at ADDRESS, inside the stand-in's network namespace."""
    process = subprocess.Popen(
        [
            *("nsenter", f"--net=/proc/{outside.pid}/ns/net", "--"),
            *(sys.executable, "-c", _SERVER, str(tmp_path / "git"), ADDRESS),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def registry(name: str, url: str) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "TemplateRegistry",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {"git": {"url": url, "ref": {"branch": "main"}, "secretRef": {"name": "git"}}, "interval": "10m"},
    }


def test_a_registry_from_git_outside_of_the_cluster(site: AnyCluster, git_server: dict[str, Any]) -> None:
    rule = {"egressTo": [{"cidr": f"{ADDRESS}/32", "ports": [git_server["port"]]}]}
    apply(site, tenant_manifest(TENANT, network=rule))
    try:
        site.kubectl("wait", "--for=condition=Ready", f"tenant/{TENANT}", "--timeout=180s")
        secret = {"name": "git", "namespace": SPACE}
        apply(site, {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": git_server["secret"]})
        near = git_server["url"].replace(ADDRESS, NEIGHBOUR)
        apply(
            site,
            registry("remote", f"{git_server['url']}/acme/templates.git"),
            registry("neighbour", f"{near}/acme/templates.git"),
            job_manifest(SPACE, "made", {"name": "bob"}, registry="remote"),
        )
        where = ("-n", SPACE)
        site.kubectl("wait", "--for=condition=Ready", "templateregistry/remote", *where, "--timeout=180s")
        site.kubectl("wait", "--for=condition=Ready", "generationjob/made", *where, "--timeout=120s")
        status = get(site, "templateregistry", "remote", *where)["status"]
        assert status["artifact"]["revision"].startswith("main@sha1:")
        assert get(site, "configmap", "made", *where)["data"]["bob.txt"] == "Hello bob!"
        site.kubectl("wait", "--for=condition=Stalled", "templateregistry/neighbour", *where, "--timeout=120s")
        refused = get(site, "templateregistry", "neighbour", *where)["status"]["conditions"]
        assert {item["reason"] for item in refused if item["type"] == "FetchFailed"} == {"EgressRefused"}
    finally:
        patch = '{"spec":{"deletionPolicy":"Delete"}}'
        site.kubectl("patch", "tenant", TENANT, "--type=merge", "-p", patch, check=False)
        site.kubectl("delete", "tenant", TENANT, "--timeout=120s", check=False)
