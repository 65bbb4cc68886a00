"""What housekeeping keeps: every tree that anything names, every job that exists, and all of a tenant that cannot be read."""

from datetime import timedelta
from typing import Any

from support.builders import TENANT_UID, tenant_body
from unjucks_operator.config.tiers import Tiers
from unjucks_operator.housekeeping import plan_housekeeping

ROLES = {TENANT_UID: "ut_0123456789ab"}
SERVED, PINNED, USED = ("sha256:" + digit * 64 for digit in "123")


def test_everything_that_is_named_anywhere_is_kept() -> None:
    (chore,) = plan_housekeeping(
        [tenant_body(spec={"tier": "professional"})],
        [_object("r", status={"artifact": {"digest": SERVED}})],
        [_object("j", spec={"template": {"digest": PINNED}}, status={"artifact": {"digest": USED}})],
        ROLES,
        Tiers(),
    )
    assert chore.digests == {SERVED, PINNED, USED}
    assert chore.jobs == {"uid-j"}
    assert chore.role == ROLES[TENANT_UID]
    assert chore.retention == timedelta(days=180)


def test_objects_of_other_namespaces_keep_nothing() -> None:
    other = _object("r", namespace="tenant-other", status={"artifact": {"digest": SERVED}})
    (chore,) = plan_housekeeping([tenant_body()], [other], [other], ROLES, Tiers())
    assert (chore.digests, chore.jobs) == (frozenset(), frozenset())


def test_a_tenant_that_goes_that_has_no_role_or_cannot_be_read_is_left_alone() -> None:
    going = tenant_body(deletionTimestamp="2026-01-01T00:00:00Z")
    unreadable = tenant_body(spec={"tier": "golden"})
    assert plan_housekeeping([going, unreadable], [], [], ROLES, Tiers()) == []
    assert plan_housekeeping([tenant_body()], [], [], {}, Tiers()) == []


def _object(
    name: str,
    *,
    namespace: str = "tenant-acme",
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
    return {"metadata": metadata, "spec": spec or {}, "status": status or {}}
