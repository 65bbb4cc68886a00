"""Address ranges that are closed to tenants, and what is left of a destination when they are cut out. Pure.

Two ranges are either disjoint or one lies in the other, so cutting out means naming those that lie inside. Called by
``discovery`` and by the planner of tenants.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses
from typing import Final

from unjucks_api.v1alpha1.tenant_network import NEVER_NETWORKS, IpNetwork, is_inside

MOST_SINGLE: Final = 64
"""How many single addresses (of nodes) are named one by one; beyond it their neighbourhoods are."""

_NAT64: Final = int(IPv6Address("64:ff9b::"))
_NAT64_LENGTH: Final = 96


@dataclass(frozen=True, slots=True)
class ClusterRanges:
    """What the cluster itself uses. ``missing`` says which part could not be found out; empty when all of it is known.

    As long as something is missing no address range can be opened to a tenant: it might hold pods or nodes.
    """

    closed: tuple[IpNetwork, ...] = NEVER_NETWORKS
    missing: str = "the cluster's address ranges are not known yet"


NOTHING_KNOWN: Final = ClusterRanges()


def cluster_ranges(found: Iterable[IpNetwork], missing: str = "") -> ClusterRanges:
    """The ranges in ``found`` together with those that are never open, as few as possible and in a fixed order."""
    everything = {*found, *NEVER_NETWORKS}
    everything |= {nat64_twin(item) for item in everything if isinstance(item, IPv4Network)}
    return ClusterRanges(closed=merged(everything), missing=missing)


def merged(ranges: Iterable[IpNetwork]) -> tuple[IpNetwork, ...]:
    """The same addresses in as few ranges as possible, IPv4 first."""
    everything = set(ranges)
    four = collapse_addresses(item for item in everything if isinstance(item, IPv4Network))
    six = collapse_addresses(item for item in everything if isinstance(item, IPv6Network))
    return (*four, *six)


def nat64_twin(network: IPv4Network) -> IPv6Network:
    """The IPv6 addresses under which a translator (NAT64) reaches these: what is closed must not open by another name."""
    return IPv6Network((_NAT64 | int(network.network_address), _NAT64_LENGTH + network.prefixlen))


def carve(destination: IpNetwork, closed: Iterable[IpNetwork]) -> tuple[IpNetwork, ...] | IpNetwork:
    """The closed ranges strictly inside ``destination``; or the one that holds all of it, when nothing is left to open.

    ``closed`` is what ``merged`` returned: without overlaps, and two halves of the destination appear as one range.
    """
    inside: list[IpNetwork] = []
    for item in closed:
        if is_inside(destination, item):
            return item
        if is_inside(item, destination):
            inside.append(item)
    return tuple(inside)


def neighbourhoods(addresses: Iterable[IpNetwork], most: int = MOST_SINGLE) -> tuple[IpNetwork, ...]:
    """At most ``most`` ranges for each version of IP that hold all the addresses: a policy must not grow with the number of nodes.

    Too many are rounded to ever larger blocks. That closes neighbours too: the safe direction.
    """
    everything = set(addresses)
    four: list[IPv4Network] = sorted(item for item in everything if isinstance(item, IPv4Network))
    six: list[IPv6Network] = sorted(item for item in everything if isinstance(item, IPv6Network))
    length = 32
    while len(four) > most:
        length -= 1
        four = sorted({it.supernet(new_prefix=length) if it.prefixlen > length else it for it in four})
    length = 128
    while len(six) > most:
        length -= 1
        six = sorted({it.supernet(new_prefix=length) if it.prefixlen > length else it for it in six})
    return merged((*four, *six))
