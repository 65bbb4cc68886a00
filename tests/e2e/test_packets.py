"""Real packets between real pods, to the node, and to stand-ins for what is outside: what must not arrive does not, what is allowed
does. Each test runs twice: with everything up, and with operator and webhooks at zero. Every "cannot" has a control that can.

The metadata service is never dialled: its exclusion is proven on the rendered policy, and what an exclusion does to packets on a
stand-in range that is excluded in the same way.
"""

import ipaddress
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.provider import AnyCluster
from e2e.install import NAMESPACE as PLATFORM
from e2e.tenant_site import (
    PLAIN,
    STAND_IN_RANGE,
    apply,
    connected,
    get,
    pod_address,
    probe,
    reach_all,
    service_address,
    space,
    targets,
)
from support.netns import ADDRESS, DISTANT, NEIGHBOUR, Internet
from unjucks_api import names
from unjucks_api.conditions import ConditionType, find_condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
UP = "up"
LIAR = "liar"
"""A namespace that claims to be the platform's."""
MAY_LINGER = 20.0
"""Seconds after a pod's start in which a network plugin may not know it yet; the probe's own patience."""


@pytest.mark.isolation(
    "MTB-PL1-1201",
    "T-net-tenant",
    "T-net-renderer",
    "T-net-apiserver",
    "T-net-node",
    "T-net-internet",
    "T-net-platform",
    "T-net-in",
)
def test_no_packet_leaves_a_tenant_and_none_comes_in(site: AnyCluster, platform_state: str, outside: Internet) -> None:
    aims = targets(site)
    assert {"renderer of the other tenant", "database"} <= aims.keys()
    assert ("operator" in aims) == (platform_state == UP)
    # The controls: the targets are alive. A pod outside of tenants reaches what no policy of its own forbids.
    alive = connected(reach_all(site, PLAIN, aims))
    wanted = {"apiserver", "apiserver on its node", "kubelet", "internet", "metadata stand-in"}
    assert wanted | ({"operator"} & aims.keys()) <= alive
    assert connected(reach_all(site, "birch", {"own": ("127.0.0.1", 8080)})) == {"own"}
    heard = len(outside.requests())
    assert heard > 0
    assert connected(reach_all(site, "amber", aims)) == set()
    assert len(outside.requests()) == heard  # not only no answer: no packet came out
    # The other way round, and from outside of tenants.
    back = {"pod": (pod_address(site, "amber"), 8080), "with rules": (pod_address(site, "cedar"), 8080)}
    assert connected(reach_all(site, "birch", back)) == set()
    closed = {"pod of the other tenant", "service of the other tenant", "renderer of the other tenant", "database"}
    assert connected({name: result for name, result in reach_all(site, PLAIN, aims).items() if name in closed}) == set()


@pytest.mark.isolation(
    "T-net-allowed", "T-net-metadata", "T-net-apiserver", "T-net-node", "T-net-platform", "T-net-tenant"
)
def test_a_destination_is_open_and_its_neighbours_and_the_cluster_are_not(
    site: AnyCluster, platform_state: str, outside: Internet
) -> None:
    aims = {
        "allowed": (ADDRESS, 80),
        "other port": (ADDRESS, 8444),
        "neighbour": (NEIGHBOUR, 80),
        "in the range": (NEIGHBOUR, 443),
        "range's other port": (NEIGHBOUR, 8444),
        "excluded": (DISTANT, 443),
    }
    assert connected(reach_all(site, PLAIN, aims)) == aims.keys()  # the control: all of them answer
    assert connected(reach_all(site, "cedar", aims)) == {"allowed", "in the range"}
    # Cedar may call these ports of every address there is, but not where the cluster has it.
    ports = {rule["port"] for rule in _ports(site) if rule["protocol"] == "TCP"}
    inside = {name: aim for name, aim in targets(site).items() if name not in ("internet", "metadata stand-in")}
    assert {"apiserver on its node", "kubelet", "pod of the other tenant"} <= inside.keys()
    assert {aim[1] for name, aim in inside.items() if "service" not in name and name != "apiserver"} <= ports
    assert connected(reach_all(site, "cedar", inside)) == set()


def _ports(site: AnyCluster) -> list[dict[str, Any]]:
    policy = get(site, "networkpolicy", names.POLICY_EGRESS, "-n", space("cedar"))
    return [port for rule in policy["spec"]["egress"] for port in rule["ports"]]


@pytest.mark.isolation("T-net-metadata")
def test_the_written_policy_excludes_metadata_and_every_address_of_the_cluster(
    site: AnyCluster, platform_state: str
) -> None:
    policy = get(site, "networkpolicy", names.POLICY_EGRESS, "-n", space("cedar"))
    blocks = [peer["ipBlock"] for rule in policy["spec"]["egress"] for peer in rule["to"]]
    pods = get(site, "pods", "--all-namespaces")["items"]
    addresses = {pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")}
    addresses |= {aim[0] for name, aim in targets(site).items() if name != "internet"}
    addresses |= {service_address(site, "kube-system", "kube-dns"), "169.254.169.254", "169.254.170.2", "127.0.0.1"}
    assert len(addresses) > 8
    for address in map(ipaddress.ip_address, addresses):
        for block in blocks:
            inside = address in ipaddress.ip_network(block["cidr"])
            assert not inside or any(address in ipaddress.ip_network(item) for item in block.get("except", ()))
    # The control: the same reading finds what is allowed.
    assert any(ipaddress.ip_address(ADDRESS) in ipaddress.ip_network(block["cidr"]) for block in blocks)
    assert any(STAND_IN_RANGE in block.get("except", ()) for block in blocks)


@pytest.fixture
def liar(site: AnyCluster, cluster_images: dict[str, str]) -> Iterator[str]:
    """A namespace and a pod that carry whatever labels the platform's have."""
    labels = {"kubernetes.io/metadata.name": PLATFORM, names.LABEL_PART_OF: names.PART_OF, "name": PLATFORM}
    manifest: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LIAR, "labels": labels}}
    apply(site, manifest)
    operator = {names.LABEL_NAME: names.PART_OF, names.LABEL_COMPONENT: names.COMPONENT_OPERATOR}
    apply(site, probe(LIAR, cluster_images["renderer"], **operator))
    site.kubectl("wait", "--for=condition=Ready", "pod/probe", "-n", LIAR, "--timeout=120s")
    yield LIAR
    site.kubectl("delete", "namespace", LIAR, "--wait=false")


@pytest.mark.isolation("T-net-in", "T-net-label-spoof", "T-net-renderer")
def test_callers_are_let_in_by_the_name_of_their_namespace_and_to_the_named_port(
    site: AnyCluster, platform_state: str, liar: str
) -> None:
    address = pod_address(site, "cedar")
    aims = {
        "allowed": (address, 8080),
        "through the service": (service_address(site, space("cedar"), "probe"), 80),
        "other port": (address, 8081),
    }
    own = {"other port": ("127.0.0.1", 8081)}
    assert connected(reach_all(site, "cedar", own)) == {"other port"}  # the control: it listens
    assert connected(reach_all(site, PLAIN, aims)) == {"allowed", "through the service"}
    assert connected(reach_all(site, "birch", aims)) == set()
    # Who wears the operator's labels in a namespace with the platform's labels is still somebody else.
    own_name = get(site, "namespace", liar)["metadata"]["labels"]["kubernetes.io/metadata.name"]
    assert own_name == liar
    all_aims = targets(site)
    aims["renderer"] = all_aims["renderer of the other tenant"]
    aims["database"] = all_aims["database"]
    assert connected(reach_all(site, liar, aims)) == set()
    assert connected(reach_all(site, liar, {"control": (pod_address(site, PLAIN), 8080)})) == {"control"}


def _dns(site: AnyCluster) -> dict[str, tuple[str, int]]:
    pods = get(site, "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"]
    running = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and pod["status"].get("podIP")]
    return {
        "the service": (service_address(site, "kube-system", "kube-dns"), 53),
        "the pod": (running[0]["status"]["podIP"], 53),
    }


@pytest.mark.isolation("T-net-dns")
def test_names_are_asked_of_the_clusters_dns_only(site: AnyCluster, platform_state: str, outside: Internet) -> None:
    dns = _dns(site)
    other = {"another server": (ADDRESS, 53)}
    assert connected(reach_all(site, PLAIN, dns | other, kind="udp")) == {*dns, *other}  # the control
    side_doors = {"its metrics": (dns["the pod"][0], 8181), "its health": (dns["the pod"][0], 8080)}
    assert connected(reach_all(site, PLAIN, side_doors)) == side_doors.keys()
    heard = len(outside.requests())
    for tenant in ("amber", "cedar"):
        assert connected(reach_all(site, tenant, dns | other, kind="udp")) == dns.keys()
        assert connected(reach_all(site, tenant, dns | side_doors)) == dns.keys()
    assert len(outside.requests()) == heard


def test_names_resolve_after_the_dns_has_moved(site: AnyCluster, platform_state: str) -> None:
    before = _dns(site)["the pod"]
    site.kubectl("-n", "kube-system", "rollout", "restart", "deployment/coredns")
    site.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=90s")
    deadline = time.monotonic() + 60
    while (dns := _dns(site))["the pod"] == before:
        assert time.monotonic() < deadline, "the DNS has not moved"
        time.sleep(0.5)
    while connected(reach_all(site, "amber", dns, kind="udp")) != dns.keys():
        assert time.monotonic() < deadline, "the tenant does not reach the DNS where it is now"
    code = "import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))"
    found = site.kubectl("exec", "-n", space("amber"), "probe", "--", "python3", "-c", code).stdout.strip()
    assert found == service_address(site, "default", "kubernetes")


_FROM_THE_FIRST_MOMENT = """
import json, socket, sys, time
begun, got = time.time(), []
while time.time() - begun < float(sys.argv[3]):
    at = time.time() - begun
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
        got.append(round(at, 3))
    except OSError:
        time.sleep(0.02)
print(json.dumps(got), flush=True)
time.sleep(3600)
"""


@pytest.mark.isolation("T-net-window")
def test_a_pod_that_starts_gets_nothing_out_once_the_plugin_knows_it(
    site: AnyCluster, platform_state: str, cluster_images: dict[str, str], outside: Internet
) -> None:
    """How soon a plugin enforces what concerns a new pod is its own affair; that it does, and within what time, is asked here."""
    seconds = 5.0
    for tenant in (PLAIN, "amber"):  # the first is the control: it gets out from its first moment to its last
        manifest = probe(tenant, cluster_images["renderer"], "early")
        command = ["python3", "-c", _FROM_THE_FIRST_MOMENT, ADDRESS, "80", str(seconds)]
        manifest["spec"]["containers"][0]["command"] = command
        apply(site, manifest)
    try:
        for tenant in (PLAIN, "amber"):
            site.kubectl("wait", "--for=condition=Ready", "pod/early", "-n", space(tenant), "--timeout=120s")
        times = {}
        for tenant in (PLAIN, "amber"):
            deadline = time.monotonic() + 60
            while not (log := site.kubectl("logs", "early", "-n", space(tenant)).stdout.strip()):
                assert time.monotonic() < deadline, "the pod reports nothing"
                time.sleep(0.3)
            times[tenant] = json.loads(log)
        assert times[PLAIN]
        assert max(times[PLAIN]) > seconds - 2
        last = max(times["amber"], default=0.0)
        print(f"a new pod got out for {last:.3f} s ({len(times['amber'])} connections)")
        assert last < min(MAY_LINGER, seconds - 1), f"it still got out after {last} s"
        assert connected(reach_all(site, "amber", {"later": (ADDRESS, 80)}, pod="early")) == set()
    finally:
        for tenant in (PLAIN, "amber"):
            site.kubectl("delete", "pod", "early", "-n", space(tenant), "--wait=false", check=False)


def test_the_operator_saw_it_too(site: AnyCluster, platform_state: str) -> None:
    """The tenants say that their isolation was tried, and which node it was tried on."""
    for tenant in ("amber", "cedar"):
        status = get(site, "tenant", tenant)["status"]
        condition = find_condition(status, ConditionType.NETWORK_ISOLATED)
        assert condition is not None
        assert (condition["status"], condition["reason"]) == ("True", "Reconciled")
        assert "did not get through" in condition["message"]
        assert status["isolation"]["failed"] == 0
        assert status["isolation"]["checks"] >= 2
        assert status["isolation"]["lastVerified"]
    kept = get(site, "configmap", names.PROBE, "-n", PLATFORM)["data"]
    assert kept["verdict"] == "Enforced"
    assert kept["nodes"].split()
    left = get(
        site, "pods", "-n", PLATFORM, "-l", f"{names.LABEL_COMPONENT} in (network-probe-server, network-probe-client)"
    )
    assert left["items"] == []
