"""The tenant's courier as planned: nothing without demand, one pod with it, and what its NetworkPolicy opens."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from unjucks_api import names
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config, Courier
from unjucks_operator.config.courier import CourierEgress, CourierService
from unjucks_operator.network.ranges import cluster_ranges
from unjucks_operator.planning import Apply, IssueCertificate
from unjucks_operator.tenant.courier import plan_courier
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import ChildView, CourierView, Demand, NetworkView, Observed

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
HOME = "tenant-acme"


def scope(**egress: Any) -> Scope:
    tenant = Tenant.parse(
        {
            "apiVersion": "unjucks.io/v1alpha1",
            "kind": "Tenant",
            "metadata": {"name": "acme", "uid": "t-1", "generation": 1, "resourceVersion": "1"},
            "spec": {"tier": "starter"},
        }
    )
    config = Config(courier=Courier(egress=CourierEgress(**egress)))
    return Scope(tenant, config.tiers["starter"], config)


def observed(courier: CourierView, *, there: bool = False) -> Observed:
    annotations = {
        names.ANNOTATION_CERT_NOT_AFTER: (NOW + timedelta(days=60)).isoformat(),
        names.ANNOTATION_CERT_SERIAL: "a",
    }
    children = {
        ("Deployment", HOME, names.COURIER): ChildView("d"),
        ("Secret", HOME, names.COURIER): ChildView("s", annotations=annotations),
    }
    return Observed(
        children=children if there else {},
        now=NOW,
        courier=courier,
        certificate_serial="a",
        network=NetworkView(ranges=cluster_ranges([])),
    )


def manifests(scope: Scope, facts: Observed) -> dict[str, Any]:
    return {
        it.manifest["kind"]: it.manifest
        for stage in plan_courier(scope, facts).stages
        for it in stage.actions
        if isinstance(it, Apply | IssueCertificate)
    }


WANTED = CourierView(demand=Demand(1, None))
IDLE = CourierView(demand=Demand(0, NOW - timedelta(seconds=30)), planned=1)


def test_there_is_nothing_until_something_is_wanted() -> None:
    assert plan_courier(scope(), observed(CourierView())).stages == ()


def test_with_demand_there_is_one_pod_whose_stage_holds_up_nobody() -> None:
    plan = plan_courier(scope(), observed(WANTED))
    (stage,) = plan.stages
    assert (stage.blocking, stage.proves) == (False, ())
    made = manifests(scope(), observed(WANTED))
    assert set(made) == {"NetworkPolicy", "ServiceAccount", "Secret", "Deployment"}
    assert made["Deployment"]["spec"]["replicas"] == 1
    pod = made["Deployment"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert "Secret" not in manifests(scope(), observed(WANTED, there=True))  # its certificate is good
    assert "Secret" in manifests(scope(), observed(replace(WANTED, drifted=True), there=True))


def test_it_stays_a_while_and_goes() -> None:
    assert manifests(scope(), observed(IDLE, there=True))["Deployment"]["spec"]["replicas"] == 1
    look = plan_courier(scope(), observed(IDLE, there=True)).look_again
    assert look is not None
    assert 80 < look < 100
    long_idle = CourierView(demand=Demand(0, NOW - timedelta(hours=1)), planned=1)
    assert manifests(scope(), observed(long_idle, there=True))["Deployment"]["spec"]["replicas"] == 0


def test_the_policy_opens_what_the_platform_allows_and_never_the_cluster() -> None:
    closed = manifests(scope(), observed(WANTED))["NetworkPolicy"]["spec"]
    assert [list(rule["to"][0]) for rule in closed["egress"]] == [["namespaceSelector"]]  # Flux
    egress = {
        "hosts": ("github.com",),
        "cidrs": ("192.0.2.0/24",),
        "services": (CourierService(host="gitea.gitea.svc", port=443, namespace="gitea"),),
    }
    opened = manifests(scope(**egress), observed(WANTED))["NetworkPolicy"]["spec"]
    blocks = {
        rule["to"][0]["ipBlock"]["cidr"]: rule["to"][0]["ipBlock"]
        for rule in opened["egress"]
        if "ipBlock" in rule["to"][0]
    }
    assert set(blocks) == {"0.0.0.0/0", "::/0", "192.0.2.0/24"}
    assert {"10.0.0.0/8", "169.254.0.0/16", "127.0.0.0/8", "192.168.0.0/16"} <= set(blocks["0.0.0.0/0"]["except"])
    unknown = replace(observed(WANTED), network=NetworkView())
    assert not [
        rule
        for rule in manifests(scope(**egress), unknown)["NetworkPolicy"]["spec"]["egress"]
        if "ipBlock" in rule["to"][0]
    ]
    selector = opened["podSelector"]["matchLabels"]
    assert selector == {names.LABEL_COMPONENT: names.COMPONENT_COURIER, names.LABEL_TENANT_UID: "t-1"}
