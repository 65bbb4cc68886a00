"""What a registry's status says survives an outage of ours, and is never lost behind one."""

from datetime import UTC, datetime
from typing import Any

from unjucks_api.conditions import Condition, ConditionType, merge_conditions
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.data_policy import DataPolicy
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_operator.errors import Terminal, Waiting
from unjucks_operator.registry.plan import Ingest, Keep, fingerprint, plan_registry
from unjucks_operator.registry.status import compute_failed

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
WAITING = Waiting("the database is not ready", reason=Reason.TENANT_NOT_READY)


def registry(status: dict[str, Any]) -> TemplateRegistry:
    return TemplateRegistry.parse(
        {
            "apiVersion": "unjucks.io/v1alpha1",
            "kind": "TemplateRegistry",
            "metadata": {
                "name": "web",
                "namespace": "tenant-acme",
                "uid": "u-1",
                "generation": 2,
                "resourceVersion": "1",
            },
            "spec": {"inline": {"files": {"_templates/a/new/x.njk": "x"}}},
            "status": status,
        }
    )


def test_a_status_that_tells_of_an_outage_makes_the_source_be_read_again() -> None:
    bad = Condition(ConditionType.READY, "False", Reason.TEMPLATES_INVALID, "x.njk:1:1: no")
    status = {
        "sourceVersion": fingerprint(registry({}), "inline", DataPolicy()),
        "observedGeneration": 2,
        "conditions": merge_conditions((), [bad], generation=2, now=NOW),
    }
    assert isinstance(plan_registry(registry(status), "inline", DataPolicy(), artifact_stored=False), Keep)
    told = compute_failed(registry(status), WAITING, version=None, now=NOW)
    assert isinstance(plan_registry(registry(told), "inline", DataPolicy(), artifact_stored=False), Ingest)


def test_a_change_that_was_not_read_yet_is_not_called_observed() -> None:
    """A job that is applied together with the change waits for it, instead of taking what was served before."""
    digest = "sha256:" + "1" * 64
    before = {"observedGeneration": 1, "artifact": {"revision": "1", "digest": digest, "size": 1}}
    told = compute_failed(registry(before), WAITING, version=None, now=NOW)
    assert told["observedGeneration"] == 1
    ready = next(item for item in told["conditions"] if item["type"] == "Ready")
    assert (ready["status"], ready["observedGeneration"]) == ("False", 2)


def test_what_only_the_user_can_mend_is_observed() -> None:
    digest = "sha256:" + "1" * 64
    before = {"observedGeneration": 1, "artifact": {"revision": "1", "digest": digest, "size": 1}}
    bad = Terminal("x.njk:1:1: no", reason=Reason.TEMPLATES_INVALID)
    assert compute_failed(registry(before), bad, version="v", now=NOW)["observedGeneration"] == 2
