"""What may never be open is never open: properties of the ranges, and of whole policies made from random specs."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import tenant
from unjucks_api import names
from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.tenant_network import NEVER_NETWORKS, IpNetwork, is_inside, parse_range
from unjucks_operator.config import Config
from unjucks_operator.network.ranges import carve, cluster_ranges, merged, nat64_twin, neighbourhoods
from unjucks_operator.tenant.desired import Manifest, Scope
from unjucks_operator.tenant.facts import NetworkView
from unjucks_operator.tenant.network import build_allowances, grant

METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "127.0.0.1",
    "::1",
    "fe80::1",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "0.0.0.0",
)


def networks(most_specific_four: int = 32, most_specific_six: int = 128) -> st.SearchStrategy[IpNetwork]:
    """Canonical ranges of both versions, near the closed ones as often as anywhere else."""
    near = st.sampled_from([int(item.network_address) for item in NEVER_NETWORKS if item.version == 4])
    far = st.integers(0, 2**32 - 1)
    four = st.builds(
        lambda address, length: IPv4Network((address, length), strict=False),
        near | far | near.map(lambda it: max(it - 1, 0)),
        st.integers(0, most_specific_four),
    )
    near_six = st.sampled_from([int(item.network_address) for item in NEVER_NETWORKS if item.version == 6])
    six = st.builds(
        lambda address, length: IPv6Network((address, length), strict=False),
        near_six | st.integers(0, 2**128 - 1) | near_six.map(lambda it: max(it - 1, 0)),
        st.integers(0, most_specific_six),
    )
    return four | six


def admits(policy: Manifest, address: IPv4Address | IPv6Address) -> bool:
    """Whether any rule of the policy lets a packet to that address out, read as Kubernetes does."""
    for rule in policy["spec"]["egress"]:
        for peer in rule["to"]:
            block = peer.get("ipBlock")
            if (
                block is not None
                and address in ip_network(block["cidr"])
                and not any(address in ip_network(item) for item in block.get("except", ()))
            ):
                return True
    return False


def scope_of(rules: list[dict[str, Any]], cidrs: list[str] | None = None) -> Scope:
    config = Config(network={"cluster_cidrs": cidrs or []})  # type: ignore[arg-type]  pydantic makes it
    return Scope(tenant(spec={"network": {"egressTo": rules}}), config.tiers["starter"], config)


@settings(max_examples=300)
@given(st.lists(networks(), min_size=1, max_size=4), st.lists(networks(), max_size=6))
def test_no_policy_admits_a_closed_address_whatever_is_asked_for(
    wanted: list[IpNetwork], cluster: list[IpNetwork]
) -> None:
    rules = [{"cidr": str(item), "ports": [443]} for item in wanted]
    try:
        scope = scope_of(rules)
    except InvalidObjectError:
        assert any(
            any(is_inside(it, never) for never in NEVER_NETWORKS) or parse_range(str(it)) is None for it in wanted
        )
        return
    view = NetworkView(cluster_ranges(cluster))
    policies = list(build_allowances(scope, view))
    edges = [address for item in (*cluster, *NEVER_NETWORKS) for address in (item[0], item[-1])]
    edges += [nat64_twin(item)[0] for item in cluster if isinstance(item, IPv4Network)]
    for policy in policies:
        for address in (*edges, *map(ip_address, METADATA)):
            assert not admits(policy, address), (policy, address)
    # Nothing more is cut out than has to be: the first free address of each granted range is open.
    for item in wanted:
        inside = carve(item, view.ranges.closed)
        if isinstance(inside, tuple):
            free = next(
                (it for it in (item[0], item[-1]) if not any(it in closed for closed in view.ranges.closed)), None
            )
            assert free is None or any(admits(policy, free) for policy in policies)
    assert policies == list(build_allowances(scope, view))


@given(networks(), st.lists(networks(), max_size=8))
def test_exceptions_lie_strictly_inside_as_kubernetes_demands(destination: IpNetwork, closed: list[IpNetwork]) -> None:
    inside = carve(destination, merged(closed))
    if not isinstance(inside, tuple):
        assert is_inside(destination, inside)
        return
    for item in inside:
        assert is_inside(item, destination)
        assert item.prefixlen > destination.prefixlen


def test_two_halves_close_the_whole() -> None:
    halves = merged([IPv4Network("198.18.0.0/16"), IPv4Network("198.19.0.0/16")])
    assert carve(IPv4Network("198.18.0.0/15"), halves) == IPv4Network("198.18.0.0/15")


@given(st.lists(networks(), max_size=40), st.integers(1, 8))
def test_neighbourhoods_hold_every_address_and_stay_few(addresses: list[IpNetwork], most: int) -> None:
    found = neighbourhoods(addresses, most)
    assert all(any(is_inside(item, outer) for outer in found) for item in addresses)
    for version in (4, 6):
        assert sum(item.version == version for item in found) <= most


@pytest.mark.parametrize("address", METADATA)
def test_the_whole_internet_is_without_metadata_and_loopback(address: str) -> None:
    scope = scope_of([{"cidr": "0.0.0.0/0", "ports": [80]}, {"cidr": "::/0", "ports": [80]}])
    (policy,) = build_allowances(scope, NetworkView(cluster_ranges([IPv4Network("10.244.0.0/16")])))
    assert not admits(policy, ip_address(address))
    assert admits(policy, ip_address("198.51.100.7"))
    assert admits(policy, ip_address("2a00::7"))
    assert admits(policy, ip_address("64:ff9b::c633:6407"))  # 198.51.100.7 through a translator
    assert not admits(policy, ip_address("10.244.3.4"))
    assert not admits(policy, ip_address("64:ff9b::af4:304"))  # 10.244.3.4 through a translator


@pytest.mark.parametrize(
    "spelling",
    [
        "1.2.3.4",
        "1.2.3.4/24",
        "01.2.3.0/24",
        "1.2.3.0/024",
        "::ffff:1.2.3.0/120",
        "2001:DB8::/32",
        "::/0 ",
        "fe80::%1/64",
        "",
    ],
)
def test_only_one_spelling_is_read(spelling: str) -> None:
    assert parse_range(spelling) is None


def test_a_range_of_the_cluster_is_refused_and_the_others_stand() -> None:
    scope = scope_of([{"cidr": "10.244.7.0/24", "ports": [80]}, {"cidr": "198.51.100.0/24", "ports": [443]}])
    granted = grant(scope, NetworkView(cluster_ranges([IPv4Network("10.244.0.0/16")])))
    (refusal,) = granted.refused
    assert str(refusal).startswith("spec.network.egressTo[0]: 10.244.7.0/24 lies in 10.244.0.0/16")
    (policy,) = build_allowances(scope, NetworkView(cluster_ranges([IPv4Network("10.244.0.0/16")])))
    assert policy["metadata"]["name"] == names.POLICY_EGRESS
    assert policy["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 443, "protocol": "TCP"}]}
    ]


def test_nothing_is_opened_while_the_clusters_ranges_are_not_known() -> None:
    scope = scope_of([{"cidr": "198.51.100.0/24", "ports": [443]}, {"namespace": "tenant-acme", "ports": [80]}])
    granted = grant(scope, NetworkView())
    assert [str(item.reason) for item in granted.refused] == ["ClusterRangesUnknown"]
    assert len(granted.egress) == 1  # the namespace
