"""The planner of the tenant's part at Redis: when there is a user, when a password is made, replaced, forgotten."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.builders import TENANT_UID, tenant
from unjucks_api import names
from unjucks_api.conditions import timestamp
from unjucks_api.reasons import Reason
from unjucks_operator.config import Config
from unjucks_operator.planning import (
    Action,
    CacheUser,
    Delete,
    EnsureCacheUser,
    IssueCacheCredential,
    Outcome,
    PurgeCache,
)
from unjucks_operator.tenant.cache import (
    NO_USER,
    CacheMemory,
    cache_condition,
    cache_facts,
    plan_cache,
    plan_cache_removal,
    secret_key,
)
from unjucks_operator.tenant.deletion_status import compute_deleting_status
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import CacheView, ChildKey, ChildView, Observed

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CONFIG = Config()
OLD, NEW = "a" * 64, "b" * 64
OVERLAP = CONFIG.cache.rotation_overlap
WITH_REDIS = CacheView(available=True)
DIRECT = {"directAccess": True, "rotation": {"every": "24h"}}
DAY = 24 * 3600


def scope(cache: dict[str, Any] | None = None) -> Scope:
    return Scope(tenant(spec={"cache": cache or {}}), CONFIG.tiers["starter"], CONFIG)


def secret(age: float, previous: str = "", **more: str) -> dict[ChildKey, ChildView]:
    annotations = {
        names.ANNOTATION_CACHE_HASH: NEW,
        names.ANNOTATION_CACHE_ROTATED_AT: timestamp(NOW - timedelta(seconds=age)),
    }
    if previous:
        annotations[names.ANNOTATION_CACHE_PREVIOUS_HASH] = previous
    return {secret_key(scope()): ChildView("u1", annotations=annotations | more)}


def actions(cache: dict[str, Any] | None, children: dict[ChildKey, ChildView], view: CacheView) -> tuple[Action, ...]:
    return plan_cache(scope(cache), children, view, NOW).stage.actions


def test_a_platform_without_redis_has_no_cache_and_is_ready() -> None:
    assert actions(None, {}, CacheView()) == ()
    condition = cache_condition(scope(), CacheView())
    assert (condition.status, condition.reason) == ("True", Reason.CACHE_DISABLED)
    assert cache_facts(scope(), {}, CacheView(), NOW) == {"state": "Disabled"}


def test_asking_for_a_cache_without_redis_is_tried_and_so_reported() -> None:
    assert actions({"enabled": True}, {}, CacheView()) == (EnsureCacheUser(TENANT_UID, CacheUser()),)


def test_with_redis_there_is_a_user_without_a_password() -> None:
    assert actions(None, {}, WITH_REDIS) == (EnsureCacheUser(TENANT_UID, CacheUser()),)
    settled = CacheView(available=True, known=CacheUser())
    assert actions(None, {}, settled) == (), "at rest there is nothing to do"


def test_switched_off_the_user_goes() -> None:
    assert actions({"enabled": False}, {}, CacheView(True, CacheUser())) == (EnsureCacheUser(TENANT_UID, NO_USER),)
    assert actions({"enabled": False}, {}, CacheView(True, NO_USER)) == ()


def test_direct_access_makes_a_password_once() -> None:
    plan = plan_cache(scope(DIRECT), {}, WITH_REDIS, NOW)
    (action,) = plan.stage.actions
    assert isinstance(action, IssueCacheCredential)
    assert action.previous == ""
    assert action.manifest["metadata"]["name"] == "acme-cache"
    assert action.manifest["metadata"]["namespace"] == "tenant-acme"
    assert action.manifest["type"] == "Opaque"
    assert "data" not in action.manifest
    known = CacheView(True, CacheUser(frozenset({NEW})))
    assert actions(DIRECT, secret(60), known) == ()


@pytest.mark.parametrize(("age", "hashes"), [(OVERLAP - 1, {OLD, NEW}), (OVERLAP, {NEW}), (DAY - 1, {NEW})])
def test_the_old_password_is_good_for_the_overlap_and_no_longer(age: float, hashes: set[str]) -> None:
    assert actions(DIRECT, secret(age, OLD), WITH_REDIS) == (EnsureCacheUser(TENANT_UID, CacheUser(frozenset(hashes))),)


def test_the_plan_looks_again_when_time_changes_it() -> None:
    first = plan_cache(scope(DIRECT), secret(0, OLD), WITH_REDIS, NOW).look_again
    assert first == pytest.approx(OVERLAP + 1)
    later = plan_cache(scope(DIRECT), secret(OVERLAP, OLD), WITH_REDIS, NOW).look_again
    assert later == pytest.approx(DAY - OVERLAP + 1)


def test_an_aged_password_is_replaced_and_stays_good_for_a_while() -> None:
    (action,) = actions(DIRECT, secret(DAY), WITH_REDIS)
    assert isinstance(action, IssueCacheCredential)
    assert action.previous == NEW
    assert action.manifest["metadata"]["annotations"][names.ANNOTATION_CACHE_PREVIOUS_HASH] == NEW


@pytest.mark.parametrize(
    "annotations",
    [
        {names.ANNOTATION_CACHE_HASH: "allkeys"},
        {names.ANNOTATION_CACHE_HASH: NEW + " +@all"},
        {names.ANNOTATION_CACHE_PREVIOUS_HASH: "nopass"},
        {names.ANNOTATION_CACHE_ROTATED_AT: "tomorrow"},
        {names.ANNOTATION_CACHE_ROTATED_AT: "2999-01-01T00:00:00Z"},
        {names.ANNOTATION_CACHE_ROTATED_AT: "2026-01-01T00:00:00"},
    ],
)
def test_forged_annotations_make_a_new_password_and_nothing_of_them_is_used(annotations: dict[str, str]) -> None:
    (action,) = actions(DIRECT, secret(60, **annotations), WITH_REDIS)
    assert isinstance(action, IssueCacheCredential)
    assert action.previous == ""


def test_an_edited_secret_is_a_leaked_one() -> None:
    (action,) = actions(DIRECT, secret(60), CacheView(True, CacheUser(frozenset({NEW})), drifted=True))
    assert isinstance(action, IssueCacheCredential)
    assert action.previous == ""


def test_without_direct_access_or_in_another_namespace_the_secret_goes() -> None:
    found = actions(None, secret(60), WITH_REDIS)
    assert Delete("Secret", "tenant-acme", "acme-cache", "u1") in found
    assert EnsureCacheUser(TENANT_UID, CacheUser()) in found
    former = {("Secret", "elsewhere", "acme-cache"): ChildView("u2")}
    found = actions(DIRECT, secret(60) | former, WITH_REDIS)
    assert [action for action in found if isinstance(action, Delete)] == [
        Delete("Secret", "elsewhere", "acme-cache", "u2")
    ]
    other = {("Secret", "tenant-acme", "something"): ChildView("u3")}
    assert not [action for action in actions(None, other, WITH_REDIS) if isinstance(action, Delete)]


def test_removal_closes_the_door_early_and_takes_the_keys_at_the_end() -> None:
    early, late = plan_cache_removal(scope(DIRECT), secret(60), WITH_REDIS)
    assert Delete("Secret", "tenant-acme", "acme-cache", "u1") in early.actions
    assert EnsureCacheUser(TENANT_UID, NO_USER) in early.actions
    assert not early.blocking, "a Redis that is down must not keep pods and rights alive"
    assert late.actions == (PurgeCache(TENANT_UID),)
    assert late.blocking, "but the Tenant stays until its keys are gone"
    early, late = plan_cache_removal(scope(), {}, CacheView())
    assert early.actions == late.actions == ()


def test_the_plan_of_a_deletion_names_the_cache() -> None:
    def rows(view: CacheView) -> list[dict[str, Any]]:
        observed = Observed(children={}, now=NOW, cache=view)
        found: list[dict[str, Any]] = compute_deleting_status(scope(), {}, Outcome(), observed, now=NOW)["deletion"][
            "plan"
        ]
        return [row for row in found if row["what"] == "cache"]

    assert rows(WITH_REDIS) == [{"what": "cache", "name": names.cache_user(TENANT_UID), "action": "Delete"}]
    assert rows(CacheView()) == []


def test_memory_knows_what_it_wrote() -> None:
    memory = CacheMemory(available=True)
    assert memory.view("u", "sig") == CacheView(True, None, drifted=False), (
        "after a restart the Secret is taken as it is"
    )
    user = CacheUser(frozenset({NEW}))
    memory.remember("u", Outcome(results={"cache": user, "cache credential": True}), "sig")
    assert memory.view("u", "sig") == CacheView(True, user, drifted=False)
    assert memory.view("u", "other").drifted
    assert not memory.view("u", None).drifted, "gone is not edited"
    memory.forget("u")
    assert memory.view("u", "other") == CacheView(True, None, drifted=False)


def test_status_tells_where_the_credential_is_and_how_old() -> None:
    view = CacheView(True, CacheUser(frozenset({NEW})))
    assert cache_facts(scope(DIRECT), secret(60), view, NOW) == {
        "state": "Ready",
        "user": names.cache_user(TENANT_UID),
        "prefix": names.cache_prefix(TENANT_UID),
        "secret": "tenant-acme/acme-cache",
        "rotatedAt": "2026-01-01T11:59:00Z",
    }
    assert cache_facts(scope(), {}, WITH_REDIS, NOW)["state"] == "Pending"
