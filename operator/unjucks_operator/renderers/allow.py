"""Where a tenant's courier may connect to: the platform's list and what the Tenant's own rules are granted. Pure.

Called by whoever asks a courier for something: registries for sources, jobs for outputs.
"""

from collections.abc import Iterable
from ipaddress import ip_network

from unjucks_api.courier_protocol import Allow, Service
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config
from unjucks_operator.errors import Waiting
from unjucks_operator.network.ranges import ClusterRanges, carve


def allow_list(tenant: Tenant, ranges: ClusterRanges, config: Config, services: Iterable[Service] = ()) -> Allow:
    """The list. ``services``: single hosts of this request's own that may lie in the cluster.

    Raises Waiting (ClusterRangesUnknown) while nobody knows which addresses are the cluster's own.
    """
    if ranges.missing:
        raise Waiting(
            f"no address outside of the cluster can be called: {ranges.missing}",
            reason=Reason.CLUSTER_RANGES_UNKNOWN,
            after=30.0,
        )
    egress = config.courier.egress
    granted = [rule.cidr for rule in tenant.spec.network.egress_to if rule.cidr]
    opened = [text for text in granted if isinstance(carve(ip_network(text), ranges.closed), tuple)]
    return Allow(
        cidrs=list(dict.fromkeys((*egress.cidrs, *opened))),
        hosts=list(egress.hosts),
        closed=[str(item) for item in ranges.closed],
        services=[*(Service(host=item.host, port=item.port) for item in egress.services), *services],
    )
