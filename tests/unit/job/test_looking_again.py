"""What a look at an ended job may not do: make a failure of a run that ended well, or leave a word that is not true any more."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.builders import job, tenant
from unjucks_api.conditions import Condition as Told
from unjucks_api.conditions import ConditionType, find_condition, merge_conditions, paused_status
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.errors import InvalidSpec, OperatorError, Terminal
from unjucks_operator.job.afterwards import compute_after, plan_occasion
from unjucks_operator.job.looking import Looking
from unjucks_operator.job.reconcile import JobReconciler
from unjucks_operator.job.status import compute_unpreviewed

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
KEY = ("tenant-acme", "orders")


def ended(generation: int = 1, **spec: Any) -> Any:
    conditions = [
        Told(ConditionType.READY, "True", Reason.SUCCEEDED, "done"),
        Told(ConditionType.COMPLETE, "True", Reason.SUCCEEDED, "done"),
    ]
    status = {
        "observedGeneration": 1,
        "lastHandledRequestedAt": "",
        "completionTime": "2026-06-01T11:00:00Z",
        "output": {"kind": "ConfigMap", "name": "out", "digest": "sha256:" + "3" * 64},
        "conditions": merge_conditions((), conditions, generation=1, now=NOW),
    }
    return job(spec=spec, status=status, generation=generation)


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", [Reason.AUTHENTICATION_FAILED, Reason.NOT_OWNED])
async def test_an_output_that_cannot_be_looked_at_is_no_failed_run(reason: Reason) -> None:
    made = ended(driftDetection={"interval": "10m", "onDrift": "Repair"})

    async def observe() -> None:
        raise Terminal("the server refuses these credentials", reason=reason)

    async def actions(_: Any) -> Any:
        return "", None

    opened = SimpleNamespace(target="git/main", observe=observe)
    looking = Looking(
        outputs=cast(Any, SimpleNamespace(open=lambda *_: opened)),
        tree=lambda _: "",
        actions=actions,
        clock=lambda: 0.0,
    )
    looking._due[KEY] = (made.uid, -1.0)
    seen = await looking.look(KEY, made, tenant())
    assert plan_occasion(made, seen, NOW) is None, "what cannot be seen is not repaired"
    told = compute_after(made, seen, now=NOW)
    ready = find_condition(told, ConditionType.READY) or {}
    assert (ready["status"], ready["reason"]) == ("False", "DriftDetected")
    assert "refuses these credentials" in ready["message"]
    assert find_condition(told, ConditionType.COMPLETE), "the next look can take it back"


def test_a_preview_that_fails_leaves_the_run_as_it_ended() -> None:
    made = ended(trigger={"onTemplateChange": "DryRun"})
    newer = Action(generator="service", action="new", digest="sha256:" + "2" * 64, files=1)
    error = Terminal("port is missing", reason=Reason.VARIABLES_MISSING)
    told = compute_unpreviewed(made, newer, error, now=NOW)
    assert (find_condition(told, ConditionType.READY) or {})["status"] == "True"
    assert find_condition(told, ConditionType.FAILED) is None
    assert (
        "VariablesMissing: port is missing" in (find_condition(told, ConditionType.TEMPLATE_OUTDATED) or {})["message"]
    )
    assert told["template"]["newestDigest"] == newer.digest  # so it is tried once


def reconciler(body: dict[str, Any]) -> tuple[JobReconciler, list[dict[str, Any]]]:
    store, written = ResourceStore(), []
    store.put(body)

    async def write(_r: Any, _s: Any, before: Any, status: Any, *, action: str) -> Any:
        written.append(status)
        return {**before, "status": status}

    nothing = cast(Any, None)
    made = JobReconciler(
        api=nothing, store=store, registries=ResourceStore(), directory=nothing, role_of=nothing, storage=nothing,
        execution=nothing, outputs=nothing, isolated=nothing, room=cast(Any, SimpleNamespace(leave=lambda _: None)),
        demand=nothing, courier_demand=nothing, status=cast(Any, SimpleNamespace(write=write)),
        config=cast(Any, SimpleNamespace(jobs=SimpleNamespace(retries=3))), inputs_secret=nothing, now=lambda: NOW,
    )  # fmt: skip
    return made, written


def body_of(made: Any, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "unjucks.io/v1alpha1",
        "kind": "GenerationJob",
        "metadata": {
            "name": made.name, "namespace": made.namespace, "uid": made.uid, "generation": made.generation,
            "resourceVersion": "5",
        },
        "spec": {
            "registryRef": {"name": "platform"}, "template": {"generator": "service", "action": "new"},
            "output": {"configMap": {"name": "out"}}, "trigger": {"onTemplateChange": "Ignore"}, **spec,
        },
        "status": made.status,
    }  # fmt: skip


@pytest.mark.asyncio
async def test_a_pause_that_is_over_is_not_told_any_more() -> None:
    made = ended()
    body = body_of(made)
    body["status"] = paused_status(made.status, now=NOW)
    assert find_condition(body["status"], ConditionType.PAUSED)
    reconcile, written = reconciler(body)
    await reconcile(KEY)
    assert len(written) == 1
    assert find_condition(written[-1], ConditionType.PAUSED) is None
    assert (find_condition(written[-1], ConditionType.READY) or {})["status"] == "True"


@pytest.mark.asyncio
@pytest.mark.parametrize(("generation", "writes"), [(1, 0), (2, 1)])
async def test_a_change_that_cannot_be_read_is_told_also_after_a_good_end(generation: int, writes: int) -> None:
    reconcile, written = reconciler(body_of(ended(generation), timeout=["nonsense"]))
    with pytest.raises(OperatorError) as caught:
        await reconcile(KEY)
    assert isinstance(caught.value, InvalidSpec)
    assert [(find_condition(it, ConditionType.READY) or {})["reason"] for it in written] == ["InvalidSpec"] * writes


@pytest.mark.asyncio
@pytest.mark.parametrize(("generation", "deleted"), [(1, ["orders"]), (2, [])])
async def test_a_job_that_was_changed_while_it_ran_is_not_deleted_before_it_ran_again(
    generation: int, deleted: list[str]
) -> None:
    made = ended(generation, ttl={"afterSuccess": "1m"})
    reconcile, _ = reconciler(body_of(made))
    found: list[str] = []

    async def delete(_: Any, name: str, _namespace: str, *, uid: str) -> None:
        found.append(name)

    reconcile._api = cast(Any, SimpleNamespace(delete=delete))
    await reconcile._expire(made)
    assert found == deleted
