"""When a quota is touched so that Kubernetes counts it, and what is changed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from unjucks_operator.kube.child import Child, to_child
from unjucks_operator.kube.resources import RESOURCE_QUOTA
from unjucks_operator.tenant.recount import PATIENCE, plan_recount

MADE = datetime(2026, 1, 1, tzinfo=UTC)
OLD = MADE + PATIENCE + timedelta(seconds=1)
HARD = {"pods": "5", "count/generationjobs.unjucks.io": "10", "count/templateregistries.unjucks.io": "3"}


def quota(hard: dict[str, str] = HARD, used: tuple[str, ...] = ("pods",), **metadata: Any) -> Child:
    """A quota as Kubernetes has counted it."""
    about = {
        "name": "q",
        "namespace": "n",
        "uid": "u1",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    manifest = {
        "metadata": about | metadata,
        "spec": {"hard": hard},
        "status": {"hard": hard, "used": dict.fromkeys(used, "0")},
    }
    return to_child(RESOURCE_QUOTA, manifest, full=True)


def test_one_limit_becomes_lower_by_one_and_only_of_this_very_object() -> None:
    wanted = {"metadata": {"uid": "u1"}, "spec": {"hard": {"count/generationjobs.unjucks.io": "9"}}}
    assert plan_recount(quota(), OLD) == wanted


@pytest.mark.parametrize(
    ("child", "now"),
    [
        (quota(used=tuple(HARD)), OLD),
        (quota(), MADE + PATIENCE / 2),
        (quota(deletionTimestamp="2026-01-01T00:00:01Z"), OLD),
        (quota({"pods": "5"}, ()), OLD),
    ],
    ids=["counted", "young", "going away", "nothing to lower"],
)
def test_others_are_left_alone(child: Child, now: datetime) -> None:
    assert plan_recount(child, now) is None


def test_a_limit_of_nothing_is_not_lowered() -> None:
    hard = HARD | {"count/generationjobs.unjucks.io": "0"}
    patch = plan_recount(quota(hard), OLD)
    assert patch is not None
    assert patch["spec"]["hard"] == {"count/templateregistries.unjucks.io": "2"}
