"""What nodes, ServiceCIDRs and the operator's own address say about the cluster's ranges, and when that is not enough."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from unjucks_api.v1alpha1.tenant_network import NEVER_NETWORKS, is_inside
from unjucks_operator.config import Config
from unjucks_operator.network.discovery import Found, conclude, read_nodes


def config(*cidrs: str, pod_ip: str = "") -> Config:
    return Config(network={"cluster_cidrs": cidrs, "pod_ip": pod_ip})  # type: ignore[arg-type]  pydantic makes it


def node(address: str = "192.0.2.10", **spec: Any) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": "node-1"}]
    return {"metadata": {"name": "node-1"}, "spec": spec, "status": {"addresses": addresses}}


def found(*nodes: dict[str, Any], services: str = "10.96.0.0/16", unknown: tuple[str, ...] = ()) -> Found:
    result = Found(unknown=list(unknown))
    read_nodes(nodes, result)
    result.ranges.add(ip_network(services))
    return result


def closed(address: str, ranges: Any) -> bool:
    return any(ip_address(address) in item for item in ranges.closed)


def test_everything_that_the_cluster_tells_is_closed() -> None:
    nodes = (
        node(podCIDR="10.244.0.0/24", podCIDRs=["10.244.0.0/24", "fd00:10:244::/64"]),
        node("2001:db8::5", podCIDR="10.244.1.0/24"),
    )
    ranges = conclude(found(*nodes), config(pod_ip="10.244.1.9"))
    assert ranges.missing == ""
    for address in ("10.244.0.7", "10.244.1.7", "fd00:10:244::7", "10.96.0.1", "192.0.2.10", "2001:db8::5"):
        assert closed(address, ranges), address
    for address in ("10.244.2.7", "192.0.2.11", "2001:db8::6", "198.51.100.1"):
        assert not closed(address, ranges), address
    assert all(any(is_inside(item, outer) for outer in ranges.closed) for item in NEVER_NETWORKS)


@pytest.mark.parametrize(
    ("what", "settings", "words"),
    [
        (found(node()), config(), "the nodes announce no ranges of pods"),
        (found(), config(), "the nodes announce no ranges of pods"),
        (found(node(podCIDR="10.244.0.0/24")), config(pod_ip="10.0.5.6"), "own address 10.0.5.6 lies in none"),
        (found(node(podCIDR="10.244.0.0/24"), unknown=("nodes cannot be listed",)), config(), "nodes cannot be listed"),
        (found(node()), config("10.0.0.0/16", pod_ip="10.1.5.6"), "own address 10.1.5.6 lies in none"),
    ],
)
def test_what_is_missing_is_said_and_keeps_everything_closed(what: Found, settings: Config, words: str) -> None:
    assert words in conclude(what, settings).missing


@pytest.mark.parametrize(
    ("what", "settings"),
    [
        (found(node()), config("10.0.0.0/16", pod_ip="10.0.5.6")),
        (found(unknown=("nodes cannot be listed",)), config("10.0.0.0/16")),
        (found(node(podCIDR="10.244.0.0/24")), config(pod_ip="192.0.2.10")),  # the operator on its node's own network
        (found(node(podCIDR="10.244.0.0/24")), config(pod_ip="not an address")),
    ],
)
def test_what_the_platform_says_itself_is_enough(what: Found, settings: Config) -> None:
    assert conclude(what, settings).missing == ""


def test_many_nodes_do_not_make_a_long_policy() -> None:
    nodes = [node(f"192.0.{number // 250 + 3}.{number % 250 + 1}", podCIDR="10.244.0.0/16") for number in range(900)]
    ranges = conclude(found(*nodes), config())
    assert all(closed(item["status"]["addresses"][0]["address"], ranges) for item in nodes)
    assert sum(item.version == 4 for item in ranges.closed) < 64 + 20


def test_the_same_cluster_gives_the_same_ranges() -> None:
    nodes = [node(f"192.0.2.{number}", podCIDR=f"10.244.{number}.0/24") for number in range(1, 30)]
    assert conclude(found(*nodes), config()) == conclude(found(*reversed(nodes)), config())
