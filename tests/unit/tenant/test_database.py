"""What is planned for a tenant's part of PostgreSQL, and what its status says: tables of values, no server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.builders import tenant_body
from unjucks_api import names
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config
from unjucks_operator.planning import Delete, DropLogin, EnsureDatabase, MoveDatabase, RenewLogin
from unjucks_operator.tenant.database import (
    DatabaseMemory,
    check_database,
    database_conditions,
    database_facts,
    database_word,
    plan_database,
)
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import ChildView, DatabaseView

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROLE = "ut_0123456789ab"
SECRET = ("Secret", "tenant-acme", "acme-database")
HOME = DatabaseView(home="Shared", database="unjucks")
LOGIN = replace(HOME, login_version="v1", rotated_at=NOW - timedelta(days=1))


def scope(tier: str = "professional", **database: Any) -> Scope:
    config = Config()
    tenant = Tenant.parse(tenant_body(spec={"tier": tier, "database": database}))
    return Scope(tenant, config.tiers[tier], config)


def actions(it: Scope, view: DatabaseView | None = HOME, version: str | None = None) -> list[Any]:
    children = (
        {} if version is None else {SECRET: ChildView("s", annotations={names.ANNOTATION_CREDENTIAL_VERSION: version})}
    )
    plan = plan_database(it, children, ROLE if view else None, view, NOW)
    return [action for stage in plan.stages for action in stage.actions]


def test_nothing_is_asked_of_the_server_when_all_is_known_and_right() -> None:
    assert actions(scope()) == []
    assert actions(scope(mode="Shared")) == []
    assert actions(scope(directAccess=True), LOGIN, "v1") == []


@pytest.mark.parametrize(
    ("tier", "first"), [("starter", "Shared"), ("professional", "Shared"), ("enterprise", "Dedicated")]
)
def test_where_a_new_tenant_begins_follows_its_tier(tier: str, first: str) -> None:
    ensure = next(it for it in actions(scope(tier), None) if isinstance(it, EnsureDatabase))
    assert (ensure.wanted, ensure.first) == ("", first)


def test_rows_move_only_when_the_spec_names_another_home() -> None:
    own = replace(HOME, home="Dedicated", database=ROLE)
    assert actions(scope("enterprise")) == []  # the default is for new tenants
    assert actions(scope(), own) == []  # and a smaller tier does not take a database away
    (move,) = actions(scope(mode="Dedicated"))
    assert (move.target, type(move)) == ("Dedicated", MoveDatabase)
    (back,) = actions(scope(mode="Shared"), own)
    assert back.target == "Shared"


def test_a_move_that_is_not_asked_for_any_more_is_taken_back() -> None:
    moving = replace(HOME, move_to="Dedicated", move_phase="copying")
    assert [it.target for it in actions(scope(mode="Shared"), moving)] == ["Shared"]
    assert [it.target for it in actions(scope(), moving)] == [""]


@pytest.mark.parametrize(
    ("view", "version"),
    [
        (HOME, None),  # there is none yet
        (LOGIN, None),  # the Secret is gone
        (LOGIN, "v0"),  # another one is in the Secret
        (replace(LOGIN, login_drifted=True), "v1"),  # the Secret was edited
        (replace(LOGIN, rotated_at=NOW - timedelta(days=31)), "v1"),
        (replace(LOGIN, retire_at=NOW - timedelta(seconds=1)), "v1"),
        (replace(LOGIN, home="Dedicated", database=ROLE), "v1"),  # moved: it leads to where the rows were
    ],
)
def test_when_a_login_is_looked_at(view: DatabaseView, version: str | None) -> None:
    (renew,) = actions(scope(directAccess=True), view, version)
    assert isinstance(renew, RenewLogin)
    assert renew.there == ("" if view.login_drifted else version or "")
    assert renew.manifest["metadata"]["name"] == "acme-database"
    assert "data" not in renew.manifest


def test_a_rotation_is_waited_for_and_no_longer() -> None:
    it = scope(directAccess=True, rotation={"every": "48h"})
    children = {SECRET: ChildView("s", annotations={names.ANNOTATION_CREDENTIAL_VERSION: "v1"})}
    assert plan_database(it, children, ROLE, LOGIN, NOW).look_again == pytest.approx(24 * 3600 + 1)
    ending = replace(LOGIN, retire_at=NOW + timedelta(minutes=5))
    assert plan_database(it, children, ROLE, ending, NOW).look_again == pytest.approx(301)


def test_without_direct_access_login_and_secret_go() -> None:
    assert actions(scope(), LOGIN, "v1") == [DropLogin(scope().tenant.uid), Delete(*SECRET, "s")]
    assert actions(scope(), replace(HOME, login_pending="v1")) == [DropLogin(scope().tenant.uid)]


def test_what_the_tier_does_not_have_is_refused_and_nothing_is_touched() -> None:
    refused = scope("starter", mode="Dedicated")
    assert "tier starter" in (check_database(refused) or "")
    assert actions(refused) == []
    assert check_database(scope("professional", mode="Dedicated")) is None
    assert "nothing to log in to" in (check_database(scope(mode="None", directAccess=True)) or "")
    assert actions(scope(mode="None"), None) == []


def test_status_tells_where_the_rows_are_and_of_a_move() -> None:
    assert database_facts(scope(), None, None) == {"state": "Pending"}
    assert database_facts(scope(mode="None"), None, None) == {"mode": "None", "state": "Disabled"}
    facts = database_facts(scope(directAccess=True), ROLE, LOGIN)
    assert facts == {
        "mode": "Shared", "name": "unjucks", "role": ROLE, "state": "Ready", "secret": "tenant-acme/acme-database",
        "rotatedAt": "2025-12-31T12:00:00Z",
    }  # fmt: skip
    moving = replace(HOME, move_to="Dedicated", move_phase="rolling-back", move_started_at=NOW)
    assert database_facts(scope(), ROLE, moving)["migration"] == {
        "to": "Dedicated", "phase": "RollingBack", "startedAt": "2026-01-01T12:00:00Z",
    }  # fmt: skip
    words = [database_word(scope(), view) for view in (moving, HOME, None)]
    assert words == ["moving", "shared", "pending"]
    (condition,) = database_conditions(moving)
    assert (condition.type, condition.status, condition.reason) == ("Migrating", "True", "Migrating")
    assert database_conditions(HOME) == []


def test_what_is_remembered_can_be_lost() -> None:
    memory = DatabaseMemory()
    memory.views["uid"] = LOGIN
    assert memory.view("uid", True, None) == LOGIN
    assert memory.view("uid", False, None) is None  # the sweep found something
    memory._signatures["uid"] = "ours"
    assert memory.view("uid", True, "ours") == LOGIN
    drifted = memory.view("uid", True, "theirs")
    assert drifted is not None
    assert drifted.login_drifted
    memory.forget("uid")
    assert memory.view("uid", True, "ours") is None
