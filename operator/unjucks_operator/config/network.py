"""Settings about the network: the cluster's own ranges, namespaces that tenants may name, the probe of policies. Pure."""

from dataclasses import field
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from unjucks_api.v1alpha1.common import DnsLabel
from unjucks_api.v1alpha1.tenant_network import parse_range
from unjucks_operator.config.base import STRICT, Positive


def _range(text: str) -> str:
    if parse_range(text) is None:
        raise ValueError(
            f"{text[:64]!r} is no address range; write its first address and its length, for example 10.244.0.0/16"
        )
    return text


Range = Annotated[str, AfterValidator(_range)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkProbe:
    """Now and then two small pods of the operator's own try what a NetworkPolicy forbids."""

    enabled: bool = True
    """Whether to try. Default true. False: the condition NetworkIsolated then only says that the policies exist."""

    interval: Annotated[Positive, Field(ge=10)] = 3600.0
    """Time between two probes, in seconds. Default 1 hour, at least 10 seconds. Each makes two pods that live for a few
    seconds."""

    patience: Annotated[Positive, Field(ge=5, le=600)] = 90.0
    """How long the pods of a probe may take to start, in seconds. Default 90."""

    settle: Annotated[Positive, Field(ge=1, le=300)] = 20.0
    """How long after a pod's start the network may still let forbidden packets through, in seconds. Default 20: plugins
    need a moment. Longer than that counts as not enforced."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Network:
    """What tenants may open of their network, and what stays closed."""

    cluster_cidrs: tuple[Range, ...] = ()
    """Address ranges of the cluster itself: pods, services, nodes, control plane. Default none: what the API server tells
    of them. Set them when the network plugin hands out addresses that nodes do not announce."""

    ingress_namespaces: tuple[DnsLabel, ...] = ()
    """Namespaces that a tenant may let in, besides its own, for example that of the ingress controller. Default none."""

    egress_namespaces: tuple[DnsLabel, ...] = ()
    """Namespaces that a tenant may call, besides its own. Default none. Name none that another tenant could speak
    through."""

    discovery_interval: Positive = 300.0
    """Time between two looks at nodes and service ranges, in seconds. Default 5 minutes."""

    pod_ip: str = ""
    """The operator's own address, which the known ranges have to contain. Default POD_IP, which the chart sets."""

    probe: NetworkProbe = field(default_factory=NetworkProbe)
    """Whether the network plugin enforces policies at all."""
