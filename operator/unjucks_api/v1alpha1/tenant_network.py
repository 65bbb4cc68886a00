"""The part of a Tenant about its network: ``spec.network``, and the evidence of isolation in its status.

Also the address ranges that no tenant ever reaches, whatever a spec says. Pure. Called by ``tenant``, by the operator's planner
and by the CRD generator.
"""

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, ClassVar, Final

from pydantic import Field

from unjucks_api.markers import Cel, ListAtomic, ListSet
from unjucks_api.v1alpha1.common import Count, DnsLabel, Line, Model, Ruled, Time

IpNetwork = IPv4Network | IPv6Network

NEVER: Final = (
    # this host, loopback, link-local with the metadata service, multicast, reserved
    *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
    # addresses at which other clouds serve instances: Oracle, Alibaba, Azure
    *("192.0.0.0/24", "100.100.100.200/32", "168.63.129.16/32"),
    # IPv6: unspecified, loopback and everything that only wraps an IPv4 address; link-local, site-local, multicast
    *("::/80", "fe80::/10", "fec0::/10", "ff00::/8"),
    # metadata over IPv6: Amazon, Google; what ends at an IPv4 address of the sender's choice: 6to4, Teredo, private NAT64
    *("fd00:ec2::/32", "fd20:ce::/32", "2002::/16", "2001::/32", "64:ff9b:1::/48"),
)
"""Ranges that are open to no tenant: what only the machine itself, its link or its cloud should be asked for."""

NEVER_NETWORKS: Final[tuple[IpNetwork, ...]] = tuple(ip_network(item) for item in NEVER)
MAX_PORTS = 16
MAX_INGRESS = 16
MAX_EGRESS = 32


def parse_range(text: str) -> IpNetwork | None:
    """The address range, or None unless it is written in its one canonical form."""
    try:
        network = ip_network(text)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        return None
    return network if str(network) == text and "%" not in text else None  # "%": an interface of one machine


def is_inside(inner: IpNetwork, outer: IpNetwork) -> bool:
    """Whether every address of ``inner`` is one of ``outer``; never across the two versions of IP."""
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _never(text: str) -> bool:
    network = parse_range(text)
    return network is not None and any(is_inside(network, item) for item in NEVER_NETWORKS)


class Protocol(StrEnum):
    """Of the ports of a rule."""

    TCP = "TCP"
    UDP = "UDP"


Port = Annotated[int, Field(ge=1, le=65535)]
Ports = Annotated[tuple[Port, ...], Field(min_length=1, max_length=MAX_PORTS), ListSet()]
Cidr = Annotated[
    str,
    Field(min_length=3, max_length=43),
    Cel(
        "isCIDR(self) && string(cidr(self).masked()) == self",
        "an address range is its first address and its length, in the shortest spelling: 203.0.113.0/24, 198.51.100.7/32, "
        "2001:db8::/32; not with host bits, leading zeros or an IPv4 address inside IPv6",
        check=lambda text: parse_range(text) is not None,
    ),
    Cel(
        "!isCIDR(self) || ['" + "', '".join(NEVER) + "'].all(range, !cidr(range).containsCIDR(self))",
        "this range is never open to tenants: it is loopback, link-local, a metadata service, multicast, reserved or a tunnel; "
        "name addresses outside of the cluster",
        reason="FieldValueForbidden",
        check=lambda text: not _never(text),
    ),
]


class IngressRule(Model):
    """Pods of one namespace that may call the tenant's pods."""

    atomic = True

    namespace: DnsLabel = Field(
        description="Namespace that may call: one of the tenant's own, or one that the platform allows, for example that of the "
        "ingress controller."
    )
    ports: Ports = Field(description="Ports of the tenant's pods that may be called.")
    protocol: Protocol | None = Field(default=None, description="Protocol of the ports: TCP or UDP. Absent: TCP.")


class EgressRule(Ruled):
    """A destination that the tenant's pods may call: addresses outside of the cluster, or pods of one namespace."""

    atomic = True
    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.cidr) != has(self.namespace)",
            "a destination is either a cidr or a namespace: write one of the two",
            check=lambda rule: (rule.cidr is None) != (rule.namespace is None),
        ),
    )

    cidr: Cidr | None = Field(
        default=None,
        description="Addresses that may be called, for example 203.0.113.0/24. The cluster's own addresses, metadata services, "
        "loopback, link-local and multicast inside it stay closed.",
    )
    namespace: DnsLabel | None = Field(
        default=None,
        description="Namespace whose pods may be called: one of the tenant's own, or one that the platform allows.",
    )
    ports: Ports = Field(description="Ports that may be called there.")
    protocol: Protocol | None = Field(default=None, description="Protocol of the ports: TCP or UDP. Absent: TCP.")


class Network(Model):
    """What may come in and go out. Without it: nothing comes in, and nothing goes out but questions to the cluster's DNS."""

    ingress_from: Annotated[tuple[IngressRule, ...], Field(max_length=MAX_INGRESS), ListAtomic()] = Field(
        default=(), description="Callers of the tenant's pods. Renderers are never among the called."
    )
    egress_to: Annotated[tuple[EgressRule, ...], Field(max_length=MAX_EGRESS), ListAtomic()] = Field(
        default=(), description="Destinations of the tenant's pods. Renderers never call anybody."
    )


class IsolationStatus(Model):
    """What was tried to prove the isolation, beyond that the objects for it exist."""

    last_verified: Time | None = Field(
        default=None,
        description="When all checks last passed. Told again at the latest after six hours, and at once when a result changes.",
    )
    checks: Count | None = Field(default=None, description="Number of checks of the last round.")
    failed: Count | None = Field(default=None, description="Number of those that found a hole.")
    failures: Annotated[tuple[Line, ...], Field(max_length=20), ListAtomic()] = Field(
        default=(), description="What the failed checks found, one sentence each."
    )
