"""What holds a deletion: protection, a confirmation, and the brake against mass deletion."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.builders import tenant, tenant_body
from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.config import Config
from unjucks_operator.config.deletion import MassDeletion
from unjucks_operator.database.usage import Size
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.errors import Unavailable, Waiting
from unjucks_operator.planning import Apply, Delete, DropDatabase, Hold, Outcome, Plan, RetireDatabase, SetFinalizers
from unjucks_operator.tenant.breaker import DeletionBreaker, Verdict, judge
from unjucks_operator.tenant.deletion_status import compute_deleting_status
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import ChildView, Observed, QuotaView
from unjucks_operator.tenant.teardown import plan_deletion

DELETED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NOW = DELETED + timedelta(seconds=60)
CONFIG = Config()
CHILDREN = {
    ("Namespace", "", "tenant-acme"): ChildView("n"),
    ("RoleBinding", "tenant-acme", names.BINDING_OWNERS): ChildView("b"),
    ("Deployment", "tenant-acme", names.RENDERER): ChildView("d"),
    ("NetworkPolicy", "tenant-acme", names.POLICY_DENY): ChildView("p"),
}
CONFIRMED = {names.ANNOTATION_CONFIRM_DELETE: "acme@2026-01-01"}
OWNERS = {"members": {"owners": [{"kind": "User", "name": "ada"}], "editors": [{"kind": "User", "name": "eve"}]}}


def scope(
    config: Config = CONFIG, status: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **metadata: Any
) -> Scope:
    metadata = {"finalizers": [names.FINALIZER_TENANT], "deletionTimestamp": DELETED.isoformat()} | metadata
    made = tenant(spec=OWNERS | (spec or {}), **metadata)
    return Scope(made.model_copy(update={"status": status or {}}), config.tiers["starter"], config)


def observed(now: datetime = NOW, **facts: Any) -> Observed:
    return Observed(**({"children": CHILDREN, "now": now} | facts))


def hold_of(plan: Plan) -> Hold | None:
    return next((action for action in plan.actions if isinstance(action, Hold)), None)


def takes_away(plan: Plan) -> bool:
    return any(isinstance(action, (Delete, RetireDatabase, DropDatabase, SetFinalizers)) for action in plan.actions)


def test_a_protected_tenant_keeps_everything_until_somebody_confirms() -> None:
    plan = plan_deletion(scope(spec={"protected": True}), observed(), Verdict())
    hold = hold_of(plan)
    assert hold is not None
    assert hold.reason is Reason.PROTECTED
    assert "unjucks.io/confirm-delete=acme@2026-01-01" in hold.message
    assert not takes_away(plan)
    confirmed = plan_deletion(scope(spec={"protected": True}, annotations=CONFIRMED), observed(), Verdict())
    assert takes_away(confirmed)
    other_day = {names.ANNOTATION_CONFIRM_DELETE: "acme@2025-12-31"}
    assert not takes_away(plan_deletion(scope(spec={"protected": True}, annotations=other_day), observed(), Verdict()))


def test_while_held_guards_are_repaired_and_nothing_new_is_given() -> None:
    plan = plan_deletion(scope(spec={"protected": True}), observed(), Verdict())
    applied = {
        (action.manifest["kind"], action.manifest["metadata"]["name"])
        for action in plan.actions
        if isinstance(action, Apply)
    }
    assert ("NetworkPolicy", names.POLICY_DENY) in applied
    assert ("ResourceQuota", names.QUOTA) in applied  # it is gone, and its namespace is not
    assert ("RoleBinding", names.BINDING_OWNERS) in applied
    assert (
        "RoleBinding",
        names.BINDING_EDITORS,
    ) not in applied  # it is gone, and nobody gets rights back in a deletion
    assert ("ServiceAccount", names.RENDERER) not in applied
    assert isinstance(plan.actions[-1], Hold)


def test_a_namespace_that_is_gone_is_not_made_again_while_held() -> None:
    plan = plan_deletion(scope(spec={"protected": True}), observed(children={}), Verdict())
    assert not any(isinstance(action, Apply) for action in plan.actions)


@pytest.mark.parametrize(
    ("deleted", "living", "tripped"),
    [(1, 0, False), (5, 0, False), (6, 0, True), (5, 100, False), (21, 84, False), (22, 84, True), (6, 94, False)],
)
def test_more_than_some_and_more_than_a_share_is_an_accident(deleted: int, living: int, tripped: bool) -> None:
    assert judge([DELETED] * deleted, living, DELETED, MassDeletion()).tripped is tripped


def test_deletions_far_apart_do_not_count_together() -> None:
    times = [DELETED + timedelta(minutes=11 * number) for number in range(20)]
    assert judge(times, 0, DELETED, MassDeletion()).deleted == 1
    assert judge(times, 0, DELETED + timedelta(minutes=11), MassDeletion(window=700)).deleted == 3


def body(number: int, *, version: int, deleted: datetime | None = None) -> dict[str, Any]:
    made = tenant_body(f"t{number}", uid=f"uid-{number}", resourceVersion=str(version))
    if deleted:
        made["metadata"]["deletionTimestamp"] = deleted.isoformat()
    return made


def test_the_breaker_counts_those_that_are_gone_already_and_not_those_it_lost_sight_of() -> None:
    store = ResourceStore()
    breaker = DeletionBreaker(store, MassDeletion(most=2, share=1), lambda: NOW)
    for number in range(6):
        store.put(body(number, version=number + 1))
    for number in range(2):
        store.put(body(number, version=10 + number, deleted=DELETED))
        store.remove(body(number, version=20 + number, deleted=DELETED))
    third = body(2, version=30, deleted=DELETED + timedelta(seconds=5))
    assert breaker.verdict(third) == Verdict(deleted=3, total=6, allowed=2)
    assert breaker.verdict(third).tripped
    store.reset()  # a watch that begins anew is no deletion
    assert breaker.verdict(third).deleted == 3


def test_one_of_many_is_held_until_confirmed_and_stays_held_when_others_were_confirmed() -> None:
    plan = plan_deletion(scope(), observed(), Verdict(deleted=9, total=10, allowed=5))
    hold = hold_of(plan)
    assert hold is not None
    assert hold.reason is Reason.MASS_DELETION
    assert "9 of 10 Tenants" in hold.message
    assert not takes_away(plan)
    before = {"conditions": [{"type": "DeletionHeld", "status": "True", "reason": "MassDeletion"}]}
    assert not takes_away(plan_deletion(scope(status=before), observed(), Verdict(deleted=1, total=2, allowed=5)))
    assert takes_away(plan_deletion(scope(annotations=CONFIRMED, status=before), observed(), Verdict(9, 10, 5)))


def test_a_held_deletion_goes_on_by_itself_only_when_configured() -> None:
    verdict = Verdict(deleted=9, total=10, allowed=5)
    assert not takes_away(plan_deletion(scope(), observed(NOW + timedelta(days=30)), verdict))
    mass = replace(CONFIG.deletion.mass, release_after=3600.0)
    config = replace(CONFIG, deletion=replace(CONFIG.deletion, mass=mass))
    early = hold_of(plan_deletion(scope(config), observed(), verdict))
    assert early is not None
    assert early.after == 300.0
    assert takes_away(plan_deletion(scope(config), observed(DELETED + timedelta(hours=1, seconds=1)), verdict))


def test_where_an_accident_is_possible_a_deletion_waits_for_more() -> None:
    crowded, few = Verdict(deleted=1, total=10, allowed=5), Verdict(deleted=1, total=5, allowed=5)
    just_now = observed(DELETED + timedelta(seconds=1))
    hold = hold_of(plan_deletion(scope(), just_now, crowded))
    assert hold is not None
    assert hold.after == pytest.approx(2.0)
    assert not takes_away(plan_deletion(scope(), just_now, crowded))
    assert takes_away(plan_deletion(scope(), just_now, few))
    assert takes_away(plan_deletion(scope(), observed(), crowded))


def status_of(stopped: Exception | None, **kwargs: Any) -> dict[str, Any]:
    outcome, facts = Outcome(errors={"x": stopped}), observed(**kwargs.pop("facts", {}))
    return compute_deleting_status(scope(spec={"deletionPolicy": "Delete"}), {}, outcome, facts, now=NOW, **kwargs)


def test_the_plan_tells_sizes_where_they_are_known_and_keeps_them() -> None:
    quota = {
        "tenant-acme": QuotaView(
            {"configmaps": "3", "count/generationjobs.unjucks.io": "4", "requests.cpu": "1", "resourcequotas": "1"}
        )
    }
    status = status_of(None, database=Size(12, 3456), facts={"quotas": quota})
    role = names.database_role(tenant().uid)
    assert status["deletion"]["plan"] == [
        {"what": "namespace", "name": "tenant-acme", "action": "Delete", "objects": 7},
        {"what": "database", "name": role, "action": "Tombstone", "objects": 12, "bytes": 3456},
    ]
    later = compute_deleting_status(scope(), status, Outcome(), observed(children={}), now=NOW)
    assert [row.get("objects") for row in later["deletion"]["plan"]] == [7, 12]


@pytest.mark.parametrize("reason", [Reason.PROTECTED, Reason.MASS_DELETION, Reason.DELETION_HELD])
def test_a_hold_that_needs_somebody_is_a_condition_of_its_own(reason: Reason) -> None:
    conditions = {item["type"]: item for item in status_of(Waiting("why", reason=reason))["conditions"]}
    assert conditions["DeletionHeld"]["reason"] == reason
    assert conditions["Ready"]["reason"] == reason
    assert "Reconciling" not in conditions
    moving = {item["type"] for item in status_of(Waiting("soon", reason=Reason.NAMESPACE_TERMINATING))["conditions"]}
    assert {"Deleting", "Reconciling"} <= moving
    assert "DeletionHeld" not in moving


def test_a_repair_that_fails_does_not_hide_that_the_deletion_is_held() -> None:
    plan = plan_deletion(scope(spec={"protected": True}), observed(), Verdict())
    assert not any(stage.blocking for stage in plan.stages[:-1])
    outcome = Outcome(errors={"isolation": Unavailable("down"), "held": Waiting("why", reason=Reason.PROTECTED)})
    status = compute_deleting_status(scope(), {}, outcome, observed(), now=NOW)
    assert {"DeletionHeld"} <= {item["type"] for item in status["conditions"]}


def test_what_blocks_a_namespace_is_named() -> None:
    blocked = status_of(Waiting("namespaces: waiting"), blockers=["namespace a: Some content remains"])["deletion"][
        "blockedBy"
    ]
    assert blocked == ["namespaces: waiting", "namespace a: Some content remains"]
