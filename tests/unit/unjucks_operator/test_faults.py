"""Errors that nobody expected are told to users once, without their text, and the next good run takes the word back."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support import builders
from unjucks_api.conditions import (
    FAULT,
    Condition,
    ConditionType,
    find_condition,
    has_fault,
    merge_conditions,
    recovered_status,
)
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.data_policy import DataPolicy
from unjucks_operator.engine.runner import Result
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.errors import Waiting
from unjucks_operator.faults import FaultTeller, compute_job_fault, compute_registry_fault, compute_tenant_fault
from unjucks_operator.job.plan import is_finished
from unjucks_operator.kube.resources import GENERATION_JOB, TEMPLATE_REGISTRY, TENANT
from unjucks_operator.registry.plan import Ingest, plan_registry
from unjucks_operator.reporting import StatusWriter

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SECRET = "password=hunter2"


class Writes:
    """The API server's part of a status write: it stores what it is given. Counts the requests."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def patch_status(
        self, _: Any, name: str, namespace: str | None, status: Any, *, resource_version: str
    ) -> dict[str, Any]:
        made = {**self.current, "status": status}
        made["metadata"] = {**made["metadata"], "resourceVersion": str(int(resource_version) + 1)}
        self.current = made
        self.bodies.append(made)
        return made

    current: dict[str, Any]


def body_of(parsed: Any, kind: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {
        "name": parsed.name,
        "namespace": parsed.namespace,
        "uid": parsed.uid,
        "generation": parsed.generation,
        "resourceVersion": "1",
    }
    return {"apiVersion": "unjucks.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec} | (
        {"status": status} if status else {}
    )


JOB_SPEC = {
    "registryRef": {"name": "platform"},
    "template": {"generator": "service", "action": "new"},
    "output": {"configMap": {"name": "out"}},
}
REGISTRY_SPEC = {"inline": {"files": {"_templates/a/b/c.txt.njk": "hello"}}}
CASES = [
    (TENANT, compute_tenant_fault, builders.tenant_body()),
    (TEMPLATE_REGISTRY, compute_registry_fault, body_of(builders.registry(), "TemplateRegistry", REGISTRY_SPEC)),
    (GENERATION_JOB, compute_job_fault, body_of(builders.job(), "GenerationJob", JOB_SPEC)),
]


def teller(resource: Any, compute: Any, body: dict[str, Any], failures: list[Exception | None]) -> Any:
    writes, store = Writes(), ResourceStore()
    writes.current = body
    store.put(body)
    events: list[tuple[str, str]] = []
    recorder = SimpleNamespace(record=lambda _b, kind, reason, *_a, **_k: events.append((kind, str(reason))))

    async def reconcile(_: Any) -> Result:
        error = failures.pop(0)
        if error is not None:
            raise error
        return Result()

    forgotten: list[Any] = []
    made = FaultTeller(
        reconcile,
        compute,
        resource=resource,
        store=store,
        status=StatusWriter(cast(Any, writes), cast(Any, recorder)),
        now=lambda: NOW,
        forget=forgotten.append,
    )
    key = (body["metadata"].get("namespace") or "", body["metadata"]["name"])
    return SimpleNamespace(run=made, key=key, writes=writes, events=events, forgotten=forgotten)


@pytest.mark.asyncio
@pytest.mark.parametrize(("resource", "compute", "body"), CASES, ids=["tenant", "registry", "job"])
async def test_a_fault_is_told_once_and_without_its_text(resource: Any, compute: Any, body: dict[str, Any]) -> None:
    it = teller(resource, compute, body, [KeyError(SECRET), ValueError(SECRET), RuntimeError(SECRET)])
    for _ in range(3):
        with pytest.raises((KeyError, ValueError, RuntimeError)):
            await it.run(it.key)
    assert len(it.writes.bodies) == 1, "a fault that repeats is no news"
    status = it.writes.bodies[0]["status"]
    ready = find_condition(status, ConditionType.READY) or {}
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "InternalError", FAULT)
    assert find_condition(status, ConditionType.RECONCILING)
    assert "hunter2" not in repr(it.writes.bodies)
    assert it.events == [("Warning", "InternalError")]
    assert it.forgotten == [it.key] * 3


@pytest.mark.asyncio
async def test_errors_of_the_tree_are_none_of_its_business() -> None:
    resource, compute, body = CASES[2]
    it = teller(resource, compute, body, [Waiting("later"), None])
    with pytest.raises(Waiting):
        await it.run(it.key)
    assert await it.run(it.key) == Result()
    assert it.writes.bodies == []


def test_a_registry_is_read_again_after_a_fault() -> None:
    told = compute_registry_fault(CASES[1][2], NOW)
    registry = builders.registry(status=told)
    assert isinstance(plan_registry(registry, "inline", DataPolicy(), artifact_stored=False), Ingest)


ENDS = {
    "well": ([Condition(ConditionType.COMPLETE, "True", Reason.SUCCEEDED, "3 file(s) published")], "True", "Succeeded"),
    "failed": ([Condition(ConditionType.FAILED, "True", Reason.TEMPLATE_ERROR, "x.njk:1:1")], "False", "TemplateError"),
    "checked": ([Condition(ConditionType.COMPLETE, "True", Reason.DRIFT_DETECTED, "1 file")], "False", "DriftDetected"),
    "drifted": (
        [
            Condition(ConditionType.COMPLETE, "True", Reason.SUCCEEDED, "3 file(s) published"),
            Condition(ConditionType.DRIFTED, "True", Reason.DRIFT_DETECTED, "1 file"),
        ],
        "False",
        "DriftDetected",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_has_ended_keeps_its_end_and_gets_its_word_back(end: str) -> None:
    conditions, ready, reason = ENDS[end]
    first = conditions[-1]
    all_of_it = [Condition(ConditionType.READY, ready, first.reason, first.message), *conditions]
    status = {
        "observedGeneration": 1,
        "lastHandledRequestedAt": "",
        "completionTime": "2026-05-31T00:00:00Z",
        "conditions": merge_conditions((), all_of_it, generation=1, now=NOW),
    }
    told = compute_job_fault(body_of(builders.job(), "GenerationJob", JOB_SPEC, status), NOW)
    assert has_fault(told)
    assert is_finished(builders.job(status=told)), "it does not run once more because of it"
    back = recovered_status(told, generation=1, now=NOW)
    assert back == status
    assert (find_condition(back, ConditionType.READY) or {})["reason"] == reason


@pytest.mark.asyncio
async def test_the_first_error_counts_when_not_even_it_can_be_told() -> None:
    resource, _, body = CASES[2]

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    it = teller(resource, broken, body, [KeyError(SECRET)])
    with pytest.raises(KeyError):
        await it.run(it.key)
    assert it.writes.bodies == []
