"""What counts as destructive, and records of approvals that nobody can make up, change or carry over."""

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjucks_api import approvals, names
from unjucks_api.approvals import Change
from unjucks_api.v1alpha1.tenant import Tier

KEY = bytes(range(32))
CONFIRM = names.ANNOTATION_CONFIRM_DELETE


def tenant(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **annotations: str
) -> dict[str, Any]:
    """A Tenant; annotations of our group by their short names."""
    found = {f"{names.GROUP}/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {
        "metadata": {"name": "acme", "uid": "u-1", "generation": 4, "annotations": found},
        "spec": spec or {},
        "status": status or {},
    }


def paths(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [change.path for change in approvals.destructive_changes(old, new)]


DEDICATED = {"tier": "enterprise", "database": {"mode": "Dedicated", "reclaimPolicy": "Delete"}}
BY_TIER = {"tier": "enterprise", "database": {"reclaimPolicy": "Delete"}}
SEEN = {"database": {"mode": "Dedicated"}}


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ({"protected": True}, {"protected": False}, [approvals.PROTECTED]),
        ({"protected": True}, {}, [approvals.PROTECTED]),
        ({"protected": False}, {"protected": True}, []),
        ({}, {"deletionPolicy": "Delete"}, [approvals.DELETION_POLICY]),
        ({"deletionPolicy": "Snapshot"}, {"deletionPolicy": "Delete"}, [approvals.DELETION_POLICY]),
        ({"deletionPolicy": "Delete"}, {"deletionPolicy": "Retain"}, []),
        ({}, {"database": {"reclaimPolicy": "Delete"}}, [approvals.RECLAIM_POLICY]),
        ({"database": {"reclaimPolicy": "Delete"}}, {"database": {"reclaimPolicy": "Delete"}, "suspend": True}, []),
        (
            DEDICATED,
            {**DEDICATED, "database": {"mode": "Shared", "reclaimPolicy": "Delete"}},
            [approvals.DATABASE_MODE],
        ),
        (DEDICATED, {**DEDICATED, "database": {"mode": "Shared", "reclaimPolicy": "Retain"}}, []),
        (DEDICATED, {**DEDICATED, "database": {"reclaimPolicy": "Delete"}}, [approvals.DATABASE_MODE]),
        (DEDICATED, {**DEDICATED, "tier": "starter"}, []),  # it says Dedicated itself
        ({"tier": "starter"}, {"tier": "enterprise"}, []),
    ],
    ids=str,
)
def test_what_destroys(old: dict[str, Any], new: dict[str, Any], wanted: list[str]) -> None:
    assert paths(tenant(old), tenant(new)) == wanted


def test_a_tier_that_takes_the_database_away() -> None:
    assert paths(tenant(BY_TIER, SEEN), tenant({**BY_TIER, "tier": "professional"})) == [approvals.DATABASE_MODE]
    assert paths(tenant(BY_TIER), tenant({**BY_TIER, "tier": "professional"})) == []  # it never had one
    kept = {"tier": "starter", "database": {"reclaimPolicy": "Retain"}}
    assert paths(tenant(BY_TIER, SEEN), tenant(kept)) == []
    # Both at once: keeping is switched off in the same update.
    retaining = {"tier": "enterprise", "database": {"reclaimPolicy": "Retain"}}
    assert paths(tenant(retaining, SEEN), tenant({**BY_TIER, "tier": "starter"})) == [
        approvals.RECLAIM_POLICY,
        approvals.DATABASE_MODE,
    ]


def test_a_confirmation_counts_when_it_is_new_or_another() -> None:
    assert paths(tenant(), tenant(confirm_delete="acme@2026-01-01")) == [approvals.CONFIRM_DELETE]
    confirmed = tenant(confirm_delete="acme@2026-01-01")
    assert paths(confirmed, confirmed) == []
    assert paths(confirmed, tenant(confirm_delete="acme@2026-01-02")) == [approvals.CONFIRM_DELETE]
    assert paths(confirmed, tenant()) == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5) | st.integers(),
        lambda it: st.lists(it) | st.dictionaries(st.text(max_size=8), it),
    )
)
def test_any_spec_is_looked_at_without_an_error(spec: Any) -> None:
    for old, new in ((spec, {}), ({}, spec), ({"database": spec}, {"database": spec})):
        approvals.destructive_changes({"spec": old}, {"spec": new})


CHANGE = Change(approvals.PROTECTED, "false", "")


def sealed(**kwargs: Any) -> approvals.Approval:
    wanted: dict[str, Any] = {"key": KEY, "uid": "u-1", "change": CHANGE, "by": "ada", "at": "now", "generation": 4}
    wanted |= kwargs
    return approvals.seal(wanted.pop("key"), wanted.pop("uid"), wanted.pop("change"), **wanted)


def test_a_genuine_record_is_found() -> None:
    body = tenant(approved=approvals.merge([], [sealed()]))
    assert approvals.approvals_of(body, KEY) == (sealed(),)
    assert approvals.is_approved(body, KEY, approvals.PROTECTED, "false")
    assert not approvals.is_approved(body, KEY, approvals.PROTECTED, "true")
    assert not approvals.is_approved(body, b"", approvals.PROTECTED, "false")


@pytest.mark.parametrize("field", ["path", "value", "by", "at", "generation", "mac"])
def test_a_record_that_was_changed_counts_for_nothing(field: str) -> None:
    (entry,) = json.loads(approvals.merge([], [sealed()]))
    entry[field] = entry[field] + 1 if field == "generation" else entry[field] + "x"
    assert approvals.approvals_of(tenant(approved=json.dumps([entry])), KEY) == ()


def test_a_record_of_another_object_or_key_counts_for_nothing() -> None:
    for record in (sealed(uid="u-2"), sealed(key=os.urandom(32))):
        assert approvals.approvals_of(tenant(approved=approvals.merge([], [record])), KEY) == ()


@pytest.mark.parametrize(
    "text", ["", "x", "[", "{}", "[1]", "[{}]", "[" * 100_000, '[{"path":1}]', "null", '[{"generation":"1"}]']
)
def test_what_is_no_record_counts_for_nothing(text: str) -> None:
    assert approvals.approvals_of(tenant(approved=text), KEY) == ()


def test_records_are_kept_one_for_each_path() -> None:
    old = sealed()
    other = sealed(change=Change(approvals.DELETION_POLICY, "Delete", ""))
    new = sealed(at="later")
    body = tenant(approved=approvals.merge([old, other], [new]))
    assert set(approvals.approvals_of(body, KEY)) == {new, other}


def test_the_tiers_are_those_of_the_api() -> None:
    assert tuple(tier.value for tier in Tier) == approvals.TIERS
