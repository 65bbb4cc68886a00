"""Fixtures of the end-to-end tests about tenants: installed once for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import provider
from e2e.cluster.provider import AnyCluster
from e2e.install import install
from e2e.tenant_site import PLAIN, RULES, TENANTS, VALUES, apply, probe, service, space
from support.jobs import job_manifest, registry_manifest
from support.netns import Internet, internet
from support.tenants import tenant_manifest


@pytest.fixture(scope="session")
def site(cluster: AnyCluster, cluster_images: dict[str, str]) -> Iterator[AnyCluster]:
    """The operator; three tenants, two of which have generated something; a probe pod in each and outside of them."""
    install(cluster, VALUES)
    apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLAIN}})
    # One renderer stays although its work is long done: it is something to aim at until the last test.
    rules = {"birch": {"renderers": {"min": 1}}, "cedar": {"network": RULES}}
    apply(cluster, *(tenant_manifest(name, **rules.get(name, {})) for name in TENANTS))
    for name in TENANTS:
        cluster.kubectl("wait", "--for=condition=Ready", f"tenant/{name}", "--timeout=180s")
    for name in TENANTS[:2]:
        apply(cluster, registry_manifest(space(name)), job_manifest(space(name), "made", {"name": name}))
    apply(cluster, *(probe(name, cluster_images["renderer"]) for name in (*TENANTS, PLAIN)))
    apply(cluster, *(service(name) for name in ("birch", "cedar")))
    for name in TENANTS[:2]:
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
    """A stand-in for the internet."""
    with internet(provider.node_pid(site), tmp_path / "internet.log", ports=(80, 443, 8444)) as running:
        yield running
