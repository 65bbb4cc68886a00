"""The tenant's courier as planned: nothing until something has to be fetched or published, then one pod on demand. Pure.

Its objects are made with the first demand and stay, without pods, afterwards. The stage blocks nothing and proves nothing: a
tenant is Ready whether or not its courier is; the registry or job that waits for it tells of it. Called by ``tenant.plan``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network

from unjucks_api import names
from unjucks_operator.network.ranges import carve, merged
from unjucks_operator.planning import Action, Apply, IssueCertificate, Stage, manifest_key
from unjucks_operator.tenant.desired import Manifest, Scope
from unjucks_operator.tenant.desired.network import build_courier, cidr_peer, namespace_peer, rule_ports
from unjucks_operator.tenant.desired.renderer import (
    COURIER,
    build_certificate_secret,
    build_deployment,
    build_service_account,
)
from unjucks_operator.tenant.expiry import seconds_left
from unjucks_operator.tenant.facts import NetworkView, Observed

STAGE = "courier"
_EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_PRIVATE = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)


@dataclass(frozen=True, slots=True)
class CourierPlan:
    """The stage, and after how many seconds time alone changes it."""

    stages: tuple[Stage, ...] = ()
    look_again: float | None = None


def plan_courier(scope: Scope, observed: Observed) -> CourierPlan:
    """The courier's objects, if they are needed or there already."""
    there = ("Deployment", scope.home, names.COURIER) in observed.children
    if not there and not observed.courier.demand.active:
        return CourierPlan()
    replicas = courier_replicas(scope, observed)
    certificate, renewal = _plan_certificate(scope, observed)
    actions: tuple[Action, ...] = (
        Apply(build_courier(scope, courier_egress(scope, observed.network)), names.MANAGER_COURIER),
        Apply(build_service_account(scope, COURIER), names.MANAGER_COURIER),
        *([certificate] if certificate else []),
        Apply(build_deployment(scope, replicas, COURIER), names.MANAGER_COURIER),
    )
    waits = [renewal] if renewal is not None else []
    demand = observed.courier.demand
    if replicas and not demand.active and demand.last_active:
        idle = demand.last_active + timedelta(seconds=scope.config.courier.idle_after) - observed.now
        if idle.total_seconds() > 0:
            waits.append(idle.total_seconds() + 1.0)
    return CourierPlan((Stage(STAGE, actions, blocking=False),), min(waits, default=None))


def courier_replicas(scope: Scope, observed: Observed) -> int:
    """One while something waits for it and for ``courier.idleAfter`` afterwards, else none."""
    view = observed.courier
    if view.demand.active:
        return 1
    if scope.tenant.spec.suspend:
        return 0
    idle = timedelta(seconds=scope.config.courier.idle_after)
    if view.demand.last_active and observed.now < view.demand.last_active + idle:
        return min(view.pods.desired if view.planned is None else view.planned, 1)
    return 0


def courier_egress(scope: Scope, view: NetworkView) -> Iterator[Manifest]:
    """The rules of the platform's allow-list. Names cannot stand in a policy: where there are any, public addresses are open on the
    configured ports, and the courier, which only we can make, checks the names."""
    egress = scope.config.courier.egress
    ports = rule_ports(egress.ports, None)
    if not view.ranges.missing:
        for peer in _peers(egress.cidrs, view):
            yield {"to": [peer], "ports": ports}
        if egress.hosts:
            shut = merged((*view.ranges.closed, *_PRIVATE))
            for network in _EVERYTHING:
                closed = [item for item in shut if item.version == network.version]
                yield {"to": [cidr_peer(network, closed)], "ports": ports}
    for service in egress.services:
        yield {"to": [namespace_peer(service.namespace)]}
    if scope.config.courier.flux_host:
        yield {"to": [namespace_peer(scope.config.courier.flux_namespace)]}


def _peers(cidrs: Iterable[str], view: NetworkView) -> Iterator[Manifest]:
    for text in cidrs:
        destination = ip_network(text)
        closed = carve(destination, view.ranges.closed)
        if isinstance(closed, tuple):
            yield cidr_peer(destination, closed)


def _plan_certificate(scope: Scope, observed: Observed) -> tuple[Action | None, float | None]:
    """A new certificate when there is none, it ends soon, another authority made it, or somebody changed the Secret."""
    manifest = build_certificate_secret(scope, COURIER)
    view = observed.children.get(manifest_key(manifest))
    before = scope.config.renderer.certificate_renew_before
    if view is not None and not observed.courier.drifted:
        left = seconds_left(view.annotations.get(names.ANNOTATION_CERT_NOT_AFTER, ""), observed.now)
        same = view.annotations.get(names.ANNOTATION_CERT_SERIAL) == observed.certificate_serial
        if same and left > before:
            return None, left - before + 1.0
    identity = names.courier_identity(scope.tenant.uid)
    return IssueCertificate(manifest, identity, names.MANAGER_COURIER, "courier certificate"), None
