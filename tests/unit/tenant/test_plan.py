"""The Tenant planner: order of stages, what is repaired, what is pruned, sizes of the pool, teardown."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.builders import tenant
from unjucks_api import names
from unjucks_operator.config import Config
from unjucks_operator.planning import (
    Apply,
    Delete,
    DropDatabase,
    EnsureDatabase,
    Hold,
    IssueCertificate,
    Plan,
    RetireDatabase,
    SetFinalizers,
    manifest_key,
)
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import DatabaseView
from unjucks_operator.tenant.plan import (
    ChildView,
    Demand,
    Observed,
    RendererView,
    plan_replicas,
    plan_tenant,
)
from unjucks_operator.tenant.teardown import plan_teardown

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CONFIG = Config()


def scope(tier: str = "starter", **kwargs: Any) -> Scope:
    spec = {"tier": tier} | (kwargs.pop("spec", None) or {})
    return Scope(tenant(spec=spec, **kwargs), CONFIG.tiers[tier], CONFIG)


def observed(**kwargs: Any) -> Observed:
    return Observed(**({"children": {}, "now": NOW} | kwargs))


def stage_of(plan: Plan, kind: str, name: str) -> int:
    for number, stage in enumerate(plan.stages):
        for action in stage.actions:
            if isinstance(action, Apply) and manifest_key(action.manifest)[::2] == (kind, name):
                return number
    raise AssertionError(f"{kind} {name} is not in the plan")


def test_isolation_comes_before_anything_that_lets_pods_in() -> None:
    members = {"members": {"owners": [{"kind": "User", "name": "ada"}]}}
    plan = plan_tenant(scope(spec=members), observed())
    namespace = stage_of(plan, "Namespace", "tenant-acme")
    guards = [
        stage_of(plan, "NetworkPolicy", names.POLICY_DENY),
        stage_of(plan, "ResourceQuota", names.QUOTA),
        stage_of(plan, "LimitRange", names.LIMITS),
    ]
    doors = [stage_of(plan, "RoleBinding", names.BINDING_OWNERS), stage_of(plan, "Deployment", names.RENDERER)]
    assert namespace < min(guards)
    assert max(guards) < min(doors)


def test_the_finalizer_is_set_before_the_first_effect() -> None:
    plan = plan_tenant(scope(finalizers=["example.com/other"]), observed())
    assert plan.actions[0] == SetFinalizers(("example.com/other", names.FINALIZER_TENANT))
    again = plan_tenant(scope(finalizers=[names.FINALIZER_TENANT]), observed())
    assert not any(isinstance(action, SetFinalizers) for action in again.actions)


def test_every_manifest_carries_the_tenants_uid_and_no_user_label_unprefixed() -> None:
    plan = plan_tenant(scope(spec={"labels": {"team": "x"}, "costCenter": "CC-1"}), observed())
    manifests = [action.manifest for action in plan.actions if isinstance(action, Apply)]
    assert manifests
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert labels[names.LABEL_TENANT_UID] == tenant().uid
        assert labels[names.LABEL_MANAGED_BY] == names.MANAGED_BY
        assert labels["labels.unjucks.io/team"] == "x"
        assert labels["labels.unjucks.io/cost-center"] == "CC-1"
        assert "team" not in labels


def test_default_deny_selects_every_pod_and_allows_nothing() -> None:
    plan = plan_tenant(scope(), observed())
    deny = next(
        action.manifest
        for action in plan.actions
        if isinstance(action, Apply) and action.manifest["metadata"]["name"] == names.POLICY_DENY
    )
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_pod_security_is_restricted_in_all_three_modes_and_pinned() -> None:
    plan = plan_tenant(scope(), observed())
    namespace = next(a.manifest for a in plan.actions if isinstance(a, Apply) and a.manifest["kind"] == "Namespace")
    labels = namespace["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert labels[f"pod-security.kubernetes.io/{mode}-version"] == CONFIG.pod_security_version


def test_the_quota_of_several_namespaces_never_exceeds_the_tier() -> None:
    spec = {"namespaces": [{"name": "a-1"}, {"name": "a-2"}, {"name": "a-3"}]}
    plan = plan_tenant(scope("professional", spec=spec), observed())
    quotas = [a.manifest for a in plan.actions if isinstance(a, Apply) and a.manifest["kind"] == "ResourceQuota"]
    assert len(quotas) == 3
    total = sum(int(quota["spec"]["hard"]["limits.cpu"].removesuffix("m")) for quota in quotas)
    assert 15990 <= total <= 16000
    for quota in quotas:
        hard = quota["spec"]["hard"]
        assert hard["services.nodeports"] == hard["services.loadbalancers"] == "0"
        counted = {
            "configmaps",
            "persistentvolumeclaims",
            "pods",
            "replicationcontrollers",
            "resourcequotas",
            "secrets",
        }
        assert counted | {"services", "services.nodeports", "services.loadbalancers"} <= hard.keys()


@pytest.mark.parametrize(("asked", "expected"), [("500m", "500m"), ("2", "2000m"), ("64", "4000m")])
def test_a_tenant_may_go_below_its_tier_but_not_above(asked: str, expected: str) -> None:
    plan = plan_tenant(scope(spec={"quota": {"cpu": asked}}), observed())
    quota = next(a.manifest for a in plan.actions if isinstance(a, Apply) and a.manifest["kind"] == "ResourceQuota")
    assert quota["spec"]["hard"]["limits.cpu"] == expected


def test_a_namespace_that_is_being_deleted_is_waited_for() -> None:
    children = {("Namespace", "", "tenant-acme"): ChildView("u1", deleting=True)}
    plan = plan_tenant(scope(), observed(children=children))
    namespaces = next(stage for stage in plan.stages if stage.name == "namespaces")
    assert [type(action) for action in namespaces.actions] == [Hold]


def test_members_without_a_role_lose_their_binding_before_others_get_one() -> None:
    children = {("RoleBinding", "tenant-acme", names.BINDING_EDITORS): ChildView("u2")}
    plan = plan_tenant(
        scope(spec={"members": {"owners": [{"kind": "User", "name": "ada"}]}}), observed(children=children)
    )
    access = next(stage for stage in plan.stages if stage.name == "access")
    assert access.actions[0] == Delete("RoleBinding", "tenant-acme", names.BINDING_EDITORS, "u2")


def test_a_namespace_taken_from_the_list_is_locked_but_never_deleted() -> None:
    children = {
        ("Namespace", "", "old"): ChildView("n"),
        ("RoleBinding", "old", names.BINDING_OWNERS): ChildView("b"),
        ("Deployment", "old", names.RENDERER): ChildView("d"),
        ("NetworkPolicy", "old", names.POLICY_DENY): ChildView("p"),
        ("ResourceQuota", "old", names.QUOTA): ChildView("q"),
        ("ConfigMap", "old", "output"): ChildView("c"),
    }
    plan = plan_tenant(scope(), observed(children=children))
    deleted = {(action.kind, action.name) for action in plan.actions if isinstance(action, Delete)}
    assert deleted == {("RoleBinding", names.BINDING_OWNERS), ("Deployment", names.RENDERER)}


def test_the_database_is_touched_only_when_something_is_unknown() -> None:
    assert EnsureDatabase(tenant().uid, "acme") in plan_tenant(scope(), observed()).actions
    view = DatabaseView(home="Shared", database="unjucks")
    known = plan_tenant(scope(), observed(database_role="ut_0123456789ab", database=view))
    assert not any(isinstance(action, EnsureDatabase) for action in known.actions)
    none = plan_tenant(scope(spec={"database": {"mode": "None"}}), observed())
    assert not any(isinstance(action, EnsureDatabase) for action in none.actions)


def secret(until: datetime, serial: str = "ca1") -> dict[Any, ChildView]:
    annotations = {names.ANNOTATION_CERT_NOT_AFTER: until.isoformat(), names.ANNOTATION_CERT_SERIAL: serial}
    return {("Secret", "tenant-acme", names.RENDERER): ChildView("s", annotations=annotations)}


@pytest.mark.parametrize(
    ("children", "drifted", "issued"),
    [
        ({}, False, True),
        (secret(NOW + timedelta(days=29)), False, False),
        (secret(NOW + timedelta(days=9)), False, True),
        (secret(NOW + timedelta(days=29), "older"), False, True),
        (secret(NOW + timedelta(days=29)), True, True),
        ({("Secret", "tenant-acme", names.RENDERER): ChildView("s")}, False, True),
    ],
    ids=["missing", "fresh", "ends soon", "other authority", "edited", "without annotations"],
)
def test_certificates_are_issued_when_needed(children: Any, drifted: bool, issued: bool) -> None:
    keys = frozenset(children) if drifted else frozenset()
    plan = plan_tenant(scope(), observed(children=children, certificate_serial="ca1", drifted_secrets=keys))
    assert any(isinstance(action, IssueCertificate) for action in plan.actions) is issued
    if not issued:
        assert plan.requeue_after == pytest.approx(19 * 86400 + 1)


@pytest.mark.parametrize(
    ("tier", "demand", "desired", "expected"),
    [
        ("starter", Demand(), 0, 0),
        ("starter", Demand(active=1), 0, 1),
        ("starter", Demand(active=50), 1, 1),
        ("professional", Demand(), 0, 1),
        ("professional", Demand(active=7), 1, 4),
        ("professional", Demand(active=100), 1, 5),
        ("professional", Demand(active=1), 4, 4),
        ("starter", Demand(last_active=NOW - timedelta(seconds=10)), 1, 1),
        ("starter", Demand(last_active=NOW - timedelta(seconds=301)), 1, 0),
    ],
)
def test_the_pool_follows_the_demand(tier: str, demand: Demand, desired: int, expected: int) -> None:
    view = observed(demand=demand, renderer=RendererView(desired=desired))
    assert plan_replicas(scope(tier), view) == expected


def test_a_suspended_tenant_has_no_renderers() -> None:
    assert plan_replicas(scope("professional", spec={"suspend": True}), observed(demand=Demand(active=9))) == 0


def deleting(**kwargs: Any) -> Scope:
    spec = kwargs.pop("spec", {})
    return scope(
        spec=spec,
        finalizers=[names.FINALIZER_TENANT, "other"],
        deletionTimestamp="2026-01-01T11:59:00Z",
        **kwargs,
    )


CHILDREN = {
    ("Namespace", "", "tenant-acme"): ChildView("n"),
    ("RoleBinding", "tenant-acme", names.BINDING_OWNERS): ChildView("b"),
    ("Deployment", "tenant-acme", names.RENDERER): ChildView("d"),
    ("Secret", "tenant-acme", names.RENDERER): ChildView("s"),
    ("NetworkPolicy", "tenant-acme", names.POLICY_DENY): ChildView("p"),
}


def test_teardown_takes_rights_and_pods_before_data_and_ends_with_the_finalizer() -> None:
    pods = {("Pod", "tenant-acme", "r-1"): ChildView("pod")}
    plan = plan_teardown(deleting(), observed(children=CHILDREN | pods))
    order = [stage.name for stage in plan.stages]
    assert order[:2] == ["rights", "pods"]
    assert order.index("pods") < order.index("database") < order.index("release") < order.index("finalizer")
    assert any(isinstance(action, Hold) for action in plan.stages[1].actions)
    assert plan.stages[-1].actions == (SetFinalizers(("other",)),)


def test_retain_keeps_namespaces_isolation_and_rows() -> None:
    plan = plan_teardown(deleting(), observed(children=CHILDREN))
    deleted = {action.kind for action in plan.actions if isinstance(action, Delete)}
    assert deleted == {"RoleBinding", "Deployment", "Secret"}
    assert RetireDatabase(tenant().uid, "acme") in plan.actions
    assert not any(isinstance(action, DropDatabase) for action in plan.actions)


def test_delete_removes_namespaces_but_rows_only_after_confirmation() -> None:
    spec = {"deletionPolicy": "Delete", "database": {"reclaimPolicy": "Delete"}}
    held = plan_teardown(deleting(spec=spec), observed(children={}))
    assert not any(isinstance(action, DropDatabase) for action in held.actions)
    hold = next(action for action in held.actions if isinstance(action, Hold))
    assert "unjucks.io/confirm-delete=acme@2026-01-01" in hold.message
    day_later = NOW + timedelta(days=1)

    def drops(now: datetime, backup: str | None) -> bool:
        annotations = {names.ANNOTATION_CONFIRM_DELETE: "acme@2026-01-01"}
        if backup is not None:
            annotations[names.ANNOTATION_BACKUP_CONFIRMED] = backup
        plan = plan_teardown(deleting(spec=spec, annotations=annotations), observed(children={}, now=now))
        assert any(isinstance(action, Hold | DropDatabase) for action in plan.actions)
        return DropDatabase(tenant().uid) in plan.actions

    assert drops(day_later, "2026-01-01T12:00:00Z")
    assert not drops(NOW, "2026-01-01T12:00:00Z")  # the time of grace
    for worthless in (None, "", "yes", "2026-01-01T12:00:00", "2026-01-01T11:58:59Z", "2026-01-03T00:00:00Z"):
        assert not drops(day_later, worthless), worthless
    yesterday = deleting(spec=spec, annotations={names.ANNOTATION_CONFIRM_DELETE: "acme@2025-12-31"})
    assert not any(isinstance(a, DropDatabase) for a in plan_teardown(yesterday, observed(children={})).actions)


def test_planning_is_deterministic_and_changes_nothing_it_was_given() -> None:
    one, two = plan_tenant(scope(), observed(children=CHILDREN)), plan_tenant(scope(), observed(children=CHILDREN))
    assert one == two


def test_renderers_at_their_minimum_are_not_looked_at_again_and_again() -> None:
    idle = Demand(0, NOW - timedelta(days=1))
    state = observed(
        children=secret(NOW + timedelta(days=29)),
        certificate_serial="ca1",
        demand=idle,
        renderer=RendererView(desired=1, ready=1),
    )
    assert plan_tenant(scope("professional"), state).requeue_after == pytest.approx(19 * 86400 + 1)


def test_renderers_of_a_namespace_that_was_the_home_before_are_removed() -> None:
    two = scope("professional", spec={"namespaces": [{"name": "acme-new"}, {"name": "acme-old"}]})
    kinds = ("Deployment", "Secret", "ServiceAccount")
    children = {(kind, place, names.RENDERER): ChildView(kind) for kind in kinds for place in ("acme-new", "acme-old")}
    removed = {
        (action.kind, action.namespace)
        for action in plan_tenant(two, observed(children=children)).actions
        if isinstance(action, Delete)
    }
    assert removed == {(kind, "acme-old") for kind in kinds}
