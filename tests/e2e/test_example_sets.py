"""The five example sets as jobs on the real cluster: fetched from a Git server outside, each to an output of another kind.

What comes out is what the golden tests of the sets expect, byte for byte; two of them change files that the output holds already.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.provider import AnyCluster
from e2e.tenant_site import apply, get
from support.netns import ADDRESS, Internet
from support.outside_servers import EXAMPLES, GOLDEN, texts
from support.tenants import tenant_manifest
from unjucks_api import names

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]
TENANT = "elm"
SPACE = names.default_namespace(TENANT)
TESTS = Path(__file__).resolve().parents[1]
ACTIONS = {
    "service": ("service", "new"),
    "terraform": ("terraform", "module"),
    "chart": ("chart", "new"),
    "api": ("api", "crud"),
    "monorepo": ("monorepo", "package"),
}
Ask = Callable[..., dict[str, str]]


@pytest.fixture
def servers(outside: Internet, tmp_path: Path) -> Iterator[tuple[dict[str, Any], Ask]]:
    """What the servers at ADDRESS are called, and a way to look into them."""
    process = subprocess.Popen(
        [
            *("nsenter", f"--net=/proc/{outside.pid}/ns/net", "--"),
            *(sys.executable, "-m", "support.outside_servers", str(tmp_path / "outside"), ADDRESS),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    tell, hear = process.stdin, process.stdout

    def ask(**question: str) -> dict[str, str]:
        tell.write(json.dumps(question) + "\n")
        tell.flush()
        answer: dict[str, str] = json.loads(hear.readline())
        return answer

    try:
        yield json.loads(hear.readline()), ask
    finally:
        tell.close()
        process.wait(20)
        hear.close()


def outputs(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Where each set's files go."""
    s3 = {
        "endpoint": told["s3"]["endpoint"],
        "bucketName": told["s3"]["bucket"],
        "prefix": "workspace",
        "region": "us-east-1",
    }
    return {
        "service": {"configMap": {"name": "service"}},
        "terraform": {"secret": {"name": "terraform"}},
        "chart": {"oci": {"url": f"{told['oci']['url']}/acme/chart", "tag": "v1", "secretRef": {"name": "oci"}}},
        "api": {
            "git": {
                "url": f"{told['git']['url']}/acme/shop.git",
                "base": "main",
                "branch": "unjucks/order",
                "secretRef": {"name": "git"},
            }
        },
        "monorepo": {"bucket": {**s3, "secretRef": {"name": "s3"}}},
    }


def job(name: str, output: dict[str, Any]) -> dict[str, Any]:
    generator, action = ACTIONS[name]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "GenerationJob",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {
            "registryRef": {"name": name},
            "template": {"generator": generator, "action": action},
            "variables": yaml.safe_load((EXAMPLES / GOLDEN[name] / "variables.yaml").read_text()),
            "output": output,
        },
    }


def registry(name: str, url: str) -> dict[str, Any]:
    source = {"url": f"{url}/acme/templates.git", "ref": {"branch": "main"}, "secretRef": {"name": "git"}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "TemplateRegistry",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {"git": source, "path": name, "interval": "10m"},
    }


def downloaded(site: AnyCluster, name: str, folder: Path) -> dict[str, str]:
    """With the plugin, as its users do it."""
    command = [sys.executable, "-m", "unjucks_runtime.kubectl", "download", name, "--dest", str(folder)]
    command += ["-n", SPACE, "--kubeconfig", str(site.kubeconfig)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return texts(folder)


def test_each_set_arrives_where_it_should(
    site: AnyCluster, servers: tuple[dict[str, Any], Ask], tmp_path: Path
) -> None:
    told, ask = servers
    rules = [{"cidr": f"{ADDRESS}/32", "ports": [told[kind]["port"] for kind in ("git", "oci", "s3")]}]
    apply(site, tenant_manifest(TENANT, tier="professional", network={"egressTo": rules}))
    try:
        site.kubectl("wait", "--for=condition=Ready", f"tenant/{TENANT}", "--timeout=180s")
        for kind in ("git", "oci", "s3"):
            about = {"name": kind, "namespace": SPACE}
            apply(site, {"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": told[kind]["secret"]})
        apply(site, *(registry(name, told["git"]["url"]) for name in ACTIONS))
        apply(site, *(job(name, output) for name, output in outputs(told).items()))
        for name in ACTIONS:
            done = site.kubectl(
                "wait", "--for=condition=Ready", f"generationjob/{name}", "-n", SPACE, "--timeout=150s", check=False
            )
            assert done.returncode == 0, get(site, "generationjob", name, "-n", SPACE).get("status")
        found = {
            "service": downloaded(site, "service", tmp_path / "service"),
            "terraform": downloaded(site, "terraform", tmp_path / "terraform"),
            "chart": ask(artifact="acme/chart", tag="v1"),
            "api": ask(repository="acme/shop", branch="unjucks/order"),
            "monorepo": ask(objects="workspace"),
        }
        for name, files in found.items():
            expected = texts(EXAMPLES / GOLDEN[name] / "expected")
            assert expected
            assert {path: files.get(path) for path in expected} == expected, name
            status = get(site, "generationjob", name, "-n", SPACE)["status"]
            assert status["phase"] == "Succeeded"
            assert status["output"]["digest"].startswith("sha256:")
            assert status["provenance"]["digest"].startswith("sha256:")
        for name in ACTIONS:  # run again: nothing changes
            mark = f"{names.ANNOTATION_REQUESTED_AT}=again"
            site.kubectl("annotate", "generationjob", name, "-n", SPACE, mark)
        for name in ACTIONS:
            again = "jsonpath={.status.lastHandledRequestedAt}=again"
            site.kubectl("wait", f"--for={again}", f"generationjob/{name}", "-n", SPACE, "--timeout=120s")
            summary = get(site, "generationjob", name, "-n", SPACE)["status"]["summary"]
            assert summary.get("updated", 0) == summary.get("created", 0) == 0, (name, summary)
    finally:
        patch = '{"spec":{"deletionPolicy":"Delete"}}'
        site.kubectl("patch", "tenant", TENANT, "--type=merge", "-p", patch, check=False)
        site.kubectl("delete", "tenant", TENANT, "--timeout=120s", check=False)
