"""Which namespaces a Tenant gets: too many, taken over, in the way; and that the others are kept up meanwhile."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from support.builders import tenant
from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.candidates import Candidate
from unjucks_operator.config import Config
from unjucks_operator.config.regions import Regions
from unjucks_operator.errors import OwnershipConflict
from unjucks_operator.planning import Apply, Hold, Outcome, Plan, Refuse, RequireEmpty, manifest_key
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import ChildView, Observed, QuotaView
from unjucks_operator.tenant.namespaces import check_spec, stuck_namespaces
from unjucks_operator.tenant.plan import plan_tenant
from unjucks_operator.tenant.status import compute_status

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CONFIG = Config()
CONSENT = {names.ANNOTATION_ADOPTION_CONSENT: "acme"}
LEGACY = [{"name": "acme-build"}, {"name": "acme-legacy", "adopt": True}]
Body = dict[str, Any]


def scope(spec: Body, *, tier: str = "professional", status: Body | None = None, config: Config = CONFIG) -> Scope:
    made = tenant(spec={"tier": tier} | spec)
    return Scope(made.model_copy(update={"status": status or {}}), config.tiers[tier], config)


def observed(*existing: str, **facts: Any) -> Observed:
    children = {("Namespace", "", name): ChildView(f"uid-{name}") for name in existing}
    quotas = {name: QuotaView(counted=True) for name in existing}
    return Observed(**({"children": children, "now": NOW, "quotas": quotas} | facts))


def stage(plan: Plan, name: str) -> tuple[Any, ...]:
    return next(item.actions for item in plan.stages if item.name == name)


def places(plan: Plan) -> set[str]:
    """Namespaces that the plan writes into."""
    return {
        manifest_key(it.manifest)[1] or it.manifest["metadata"]["name"] for it in plan.actions if isinstance(it, Apply)
    }


# --- too many -------------------------------------------------------------------------------------------------------------------


def test_a_smaller_tier_keeps_up_what_exists_and_makes_nothing_more() -> None:
    small = scope({"namespaces": [{"name": name} for name in ("a", "b", "c")]}, tier="starter")
    kept, problem = check_spec(small, observed("a", "b"))
    assert problem is not None
    assert "lists 3 namespaces; the tier starter has 1" in problem.message
    assert kept.namespaces == ("a", "b")
    plan = plan_tenant(kept, observed("a", "b"))
    assert places(plan) == {"a", "b"}
    policies = [it for it in stage(plan, "isolation") if it.manifest["kind"] == "NetworkPolicy"]
    assert len(policies) == 2
    status = compute_status(
        kept, {}, plan, Outcome({it.name: None for it in plan.stages}), observed("a", "b"), now=NOW, problem=problem
    )
    conditions = {item["type"]: item for item in status["conditions"]}
    assert conditions["Ready"]["reason"] == conditions["Stalled"]["reason"] == "InvalidSpec"
    assert conditions["QuotaEnforced"]["status"] == "True"
    assert [row["name"] for row in status["namespaces"]] == ["a", "b", "c"]
    assert status["summary"]["namespaces"] == "2/3"


def test_a_new_tenant_that_asks_for_too_many_gets_none() -> None:
    kept, problem = check_spec(scope({"namespaces": [{"name": "a"}, {"name": "b"}]}, tier="starter"), observed())
    assert problem is not None
    assert kept.namespaces == ()


def test_without_its_home_a_tenant_has_guards_and_rights_but_no_renderers() -> None:
    listed = scope({"namespaces": [{"name": "home"}, {"name": "other"}]})
    plan = plan_tenant(replace(listed, stuck=frozenset({"home"})), observed("other"))
    assert places(plan) == {"other"}
    assert not any(it.manifest["kind"] == "Deployment" for it in plan.actions if isinstance(it, Apply))


def test_the_platforms_own_namespace_is_nobodys_also_under_another_name() -> None:
    config = replace(CONFIG, platform_namespace="ops")
    _, problem = check_spec(scope({"namespaces": [{"name": "ops"}]}, config=config), observed())
    assert problem is not None
    assert "ops, which is the platform's own" in problem.message


# --- regions --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regions", "spec", "says"),
    [
        (Regions(), {}, "serves: none"),
        (Regions(served=("us-1",)), {}, "serves: us-1"),
        (Regions(served=("eu-1",)), {}, "no known region"),
        (Regions(served=("eu-1",), database="us-1"), {}, "is in us-1"),
        (Regions(served=("eu-1",), database="eu-1"), {}, ""),
        (Regions(served=("eu-1",)), {"database": {"mode": "None"}}, ""),
    ],
)
def test_a_region_that_cannot_be_kept_is_refused(regions: Regions, spec: Body, says: str) -> None:
    _, problem = check_spec(scope({"region": "eu-1"} | spec, config=replace(CONFIG, regions=regions)), observed())
    if says:
        assert problem is not None
        assert problem.reason is Reason.REGION_NOT_SERVED
        assert says in problem.message
    else:
        assert problem is None


# --- adoption -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "reason", "says"),
    [
        (
            Candidate("u"),
            Reason.ADOPTION_REFUSED,
            f"kubectl annotate namespace acme-legacy {names.ANNOTATION_ADOPTION_CONSENT}=acme",
        ),
        (
            Candidate("u", annotations={names.ANNOTATION_ADOPTION_CONSENT: "beta"}),
            Reason.ADOPTION_REFUSED,
            "another Tenant than acme",
        ),
        (Candidate("u", annotations=CONSENT, strangers=("Pod web-1",)), Reason.ADOPTION_REFUSED, "Pod web-1"),
        (
            Candidate("u", {names.LABEL_TENANT_UID: "old"}, CONSENT),
            Reason.OWNERSHIP_CONFLICT,
            "belongs to another Tenant",
        ),
        (
            Candidate("u", {names.LABEL_MANAGED_BY: names.MANAGED_BY}, CONSENT),
            Reason.OWNERSHIP_CONFLICT,
            "belongs to another",
        ),
    ],
    ids=["no consent", "consent for another", "pods run in it", "somebody else's", "labelled as ours"],
)
def test_a_namespace_is_taken_over_only_by_consent_of_both_sides(
    candidate: Candidate, reason: Reason, says: str
) -> None:
    plan = plan_tenant(scope({"namespaces": LEGACY}), observed(candidates={"acme-legacy": candidate}))
    refusal = next(action for action in stage(plan, "namespaces") if isinstance(action, Refuse))
    assert refusal.reason is reason
    assert says in refusal.message


def test_with_consent_it_is_taken_over_by_uid_locked_and_looked_at_again_before_anybody_gets_rights() -> None:
    wanted = scope({"namespaces": LEGACY, "members": {"owners": [{"kind": "User", "name": "ada"}]}})
    plan = plan_tenant(wanted, observed(candidates={"acme-legacy": Candidate("u-1", annotations=CONSENT)}))
    adopted = [action for action in stage(plan, "namespaces") if isinstance(action, Apply)]
    assert [(action.manifest["metadata"]["name"], action.adopt) for action in adopted] == [
        ("acme-build", None),
        ("acme-legacy", "u-1"),
    ]
    order = [item.name for item in plan.stages]
    assert order.index("isolation") < order.index("network") < order.index("adoption") < order.index("access")
    assert stage(plan, "adoption") == (RequireEmpty("acme-legacy", wanted.tenant.uid),)


def test_a_namespace_without_adopt_is_never_looked_at_twice_and_a_new_one_of_the_name_is() -> None:
    row = {"name": "acme-legacy", "uid": "uid-acme-legacy", "ready": True, "adopted": True}
    seen = scope({"namespaces": LEGACY}, status={"namespaces": [row]})
    assert stage(plan_tenant(seen, observed("acme-build", "acme-legacy")), "adoption") == ()
    other = scope({"namespaces": LEGACY}, status={"namespaces": [row | {"uid": "another"}]})
    assert len(stage(plan_tenant(other, observed("acme-build", "acme-legacy")), "adoption")) == 1
    assert stage(plan_tenant(scope({}), observed("tenant-acme")), "adoption") == ()


def test_a_namespace_to_be_taken_over_that_is_being_deleted_is_waited_for() -> None:
    plan = plan_tenant(
        scope({"namespaces": LEGACY}), observed(candidates={"acme-legacy": Candidate("u", deleting=True)})
    )
    assert any(isinstance(action, Hold) for action in stage(plan, "namespaces"))


def test_status_says_that_it_was_taken_over_only_after_the_second_look() -> None:
    wanted, there = scope({"namespaces": LEGACY}), observed("acme-build", "acme-legacy")
    plan = plan_tenant(wanted, there)
    good = Outcome({it.name: None for it in plan.stages})
    rows = compute_status(wanted, {}, plan, good, there, now=NOW)["namespaces"]
    assert [row.get("adopted") for row in rows] == [None, True]
    conflict = OwnershipConflict("Pod x", reason=Reason.ADOPTION_REFUSED)
    bad = Outcome({"finalizer": None, "namespaces": None, "isolation": None, "network": None, "adoption": conflict})
    status = compute_status(wanted, {}, plan, bad, there, now=NOW)
    assert [row.get("adopted") for row in status["namespaces"]] == [None, None]
    conditions = {item["type"]: item for item in status["conditions"]}
    assert conditions["Ready"]["reason"] == conditions["Conflicted"]["reason"] == "AdoptionRefused"


# --- in the way -----------------------------------------------------------------------------------------------------------------


def test_namespaces_that_cannot_be_had_do_not_hold_up_the_others() -> None:
    three = scope({"namespaces": [{"name": "a"}, {"name": "b"}, {"name": "c"}]})
    seen = observed("a", "c")
    plan = plan_tenant(three, seen)
    failed = next(it for it in plan.actions if isinstance(it, Apply) and it.manifest["metadata"]["name"] == "b")
    outcome = Outcome({"namespaces": OwnershipConflict("b")}, failed=[(failed, OwnershipConflict("b"))])
    assert stuck_namespaces(three, seen, outcome) == {"b"}
    rest = plan_tenant(replace(three, stuck=frozenset({"b"})), seen)
    assert places(rest) == {"a", "c"}
    whole = [it.manifest for it in stage(plan, "isolation") if it.manifest["kind"] == "ResourceQuota"]
    kept = [it.manifest for it in stage(rest, "isolation") if it.manifest["kind"] == "ResourceQuota"]
    assert kept == [item for item in whole if item["metadata"]["namespace"] in ("a", "c")]  # shares do not flap
