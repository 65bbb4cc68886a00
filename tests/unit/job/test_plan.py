"""The job planner: one decision for each state of the world, and keys that change exactly when inputs do."""

from datetime import UTC, datetime
from typing import Any

import pytest

from support.builders import job, registry
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action, OnFinding, Problem
from unjucks_api.v1alpha1.data_policy import Classification, DataPolicy
from unjucks_operator.errors import NotPermitted, Terminal, Waiting
from unjucks_operator.job.plan import Done, JobObserved, Pause, Run, Stop, is_finished, plan_job

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TREE = "sha256:" + "1" * 64
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "port": {"type": "integer", "default": 80}},
    "required": ["name"],
    "additionalProperties": False,
}
ACTION = Action(generator="service", action="new", digest=TREE, files=1, schema=SCHEMA)
SERVING = {"observedGeneration": 1, "artifact": {"digest": TREE}}


def world(**kwargs: Any) -> JobObserved:
    facts: dict[str, Any] = {
        "tenant_suspended": False,
        "data_policy": DataPolicy(),
        "registry": registry(status=SERVING),
        "actions": (ACTION,),
        "sources": {},
        "inputs_key": b"k" * 32,
    }
    return JobObserved(**(facts | kwargs))


def named(name: object = "orders", **kwargs: Any) -> Any:
    return job(spec={"variables": {"name": name}, **kwargs.pop("spec", {})}, **kwargs)


def test_a_job_with_everything_in_place_runs_with_defaults_filled_in() -> None:
    decision = plan_job(named(), world())
    assert isinstance(decision, Run)
    assert decision.variables == {"name": "orders", "port": 80}
    assert decision.tree == TREE
    assert decision.inputs_digest.startswith("hmac-sha256:")


def test_equal_inputs_have_equal_digests_and_a_new_generation_a_new_run() -> None:
    first, again = plan_job(named(), world()), plan_job(named(), world())
    later = plan_job(named(generation=2), world())
    assert isinstance(first, Run)
    assert isinstance(later, Run)
    assert first == again
    assert later.inputs_digest == first.inputs_digest
    assert later.key != first.key


@pytest.mark.parametrize(
    "other",
    [
        (named("billing"), world()),
        (named(spec={"output": {"configMap": {"name": "elsewhere"}}}), world()),
        (named(spec={"provenance": {"enabled": False}}), world()),
        (named(), world(inputs_key=b"x" * 32)),
        (named(), world(registry=registry(status=SERVING, spec={"engine": {"autoescape": True}}))),
        (named(), world(registry=registry(status=SERVING, spec={"variables": {"schema": {"type": "object"}}}))),
    ],
    ids=["variables", "output", "provenance", "tenant's key", "engine options", "shared schema"],
)
def test_every_input_changes_the_digest(other: Any) -> None:
    base, changed = plan_job(named(), world()), plan_job(*other)
    assert isinstance(base, Run)
    assert isinstance(changed, Run)
    assert base.inputs_digest != changed.inputs_digest


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (
            {"registry": None, "actions": None},
            Reason.REGISTRY_NOT_FOUND,
            "platform does not exist in namespace tenant-acme",
        ),
        ({"registry": registry(), "actions": None}, Reason.REGISTRY_NOT_READY, "was not read yet"),
        ({"registry": registry(status=SERVING, generation=2)}, Reason.REGISTRY_NOT_READY, "read again after a change"),
    ],
)
def test_a_registry_is_waited_for(change: dict[str, Any], reason: Reason, words: str) -> None:
    with pytest.raises(Waiting, match=words) as caught:
        plan_job(named(), world(**change))
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("one", "change", "reason", "words"),
    [
        (
            named(spec={"template": {"generator": "service", "action": "x"}}),
            {},
            Reason.TEMPLATE_NOT_FOUND,
            "it has: service/new",
        ),
        (
            named(spec={"template": {"generator": "service", "action": "new", "digest": "sha256:" + "2" * 64}}),
            {},
            Reason.TEMPLATE_NOT_FOUND,
            "serves sha256:1111",
        ),
        (
            named(),
            {
                "actions": (
                    ACTION.model_copy(update={"problems": [Problem(path="a.njk", line=3, column=7, message="no end")]}),
                )
            },
            Reason.TEMPLATES_INVALID,
            "a.njk:3:7: no end",
        ),
        (job(), {}, Reason.VARIABLES_MISSING, "name"),
        (named(5), {}, Reason.VARIABLES_INVALID, "name"),
        (job(spec={"variables": {"name": "x", "prot": 1}}), {}, Reason.VARIABLES_INVALID, "prot"),
    ],
    ids=["unknown template", "other digest", "broken template", "missing", "wrong type", "misspelt"],
)
def test_inputs_that_cannot_work_end_before_anything_runs(one: Any, change: Any, reason: Reason, words: str) -> None:
    with pytest.raises(Terminal) as caught:
        plan_job(one, world(**change))
    assert caught.value.reason is reason
    assert words in caught.value.message


def test_switches() -> None:
    assert plan_job(named(spec={"cancel": True}), world()) == Stop(
        Reason.CANCELLED, "spec.cancel: the job was cancelled"
    )
    assert isinstance(plan_job(named(spec={"suspend": True}), world()), Pause)
    assert isinstance(plan_job(named(), world(tenant_suspended=True)), Pause)


COMPLETE = {"type": "Complete", "status": "True", "observedGeneration": 1}


def finished(**kwargs: Any) -> Any:
    status = {"observedGeneration": 1, "conditions": [COMPLETE], "completionTime": "2026-01-01T11:00:00Z"}
    return named(status=status | kwargs.pop("status", {}), **kwargs)


def test_a_finished_job_stays_finished_until_it_changes_or_somebody_asks() -> None:
    assert is_finished(finished())
    assert not is_finished(finished(generation=2))
    asked = finished(annotations={"unjucks.io/requested-at": "now"})
    assert not is_finished(asked)
    handled = finished(annotations={"unjucks.io/requested-at": "now"}, status={"lastHandledRequestedAt": "now"})
    assert is_finished(handled)


def test_the_ttl_counts_from_completion() -> None:
    decision = plan_job(finished(spec={"ttl": {"afterSuccess": "2h"}}), world())
    assert decision == Done(datetime(2026, 1, 1, 13, 0, tzinfo=UTC))
    assert plan_job(finished(), world()) == Done(None)


def test_a_registry_above_the_tenants_classification_is_not_used() -> None:
    policy = DataPolicy(maximum_classification=Classification.INTERNAL)
    secret = registry(spec={"classification": "Restricted"}, status=SERVING)
    with pytest.raises(NotPermitted, match=r"classified Restricted.*maximumClassification is Internal"):
        plan_job(named(), world(registry=secret, data_policy=policy))
    assert isinstance(plan_job(named(), world(registry=secret)), Run)


def test_what_a_finding_means_is_part_of_the_run() -> None:
    public = registry(spec={"classification": "Public"}, status=SERVING)
    asked = plan_job(named(), world(data_policy=DataPolicy(on_finding=OnFinding.REDACT)))
    plain, strict = plan_job(named(), world()), plan_job(named(), world(registry=public))
    assert [run.on_finding for run in (asked, plain, strict) if isinstance(run, Run)] == ["Redact", "Warn", "Block"]
    assert len({run.inputs_digest for run in (asked, plain, strict) if isinstance(run, Run)}) == 3


def test_what_the_registry_forbids_its_templates_goes_along() -> None:
    strict = registry(status=SERVING, spec={"policy": {"paths": {"deny": [".github/**"]}, "inject": "Forbid"}})
    decision, plain = plan_job(named(), world(registry=strict)), plan_job(named(), world())
    assert isinstance(decision, Run)
    assert isinstance(plain, Run)
    assert (decision.policy.deny_paths, decision.policy.allow_inject) == ([".github/**"], False)
    assert (plain.policy.deny_paths, plain.policy.allow_inject, plain.policy.allow_paths) == ([], True, ["**"])
    assert decision.inputs_digest != plain.inputs_digest


def test_an_unrelated_change_of_the_tree_changes_no_inputs() -> None:
    other = registry(status={"observedGeneration": 1, "artifact": {"digest": "sha256:" + "9" * 64}})
    moved, plain = plan_job(named(), world(registry=other)), plan_job(named(), world())
    assert isinstance(moved, Run)
    assert isinstance(plain, Run)
    assert moved.tree != plain.tree
    assert moved.inputs_digest == plain.inputs_digest


def test_a_matrix_is_validated_item_by_item() -> None:
    grid = job(spec={"variables": {"name": "x"}, "matrix": {"parameters": {"port": [80, 81]}}})
    decision = plan_job(grid, world())
    assert isinstance(decision, Run)
    assert [dict(item.values) for item in decision.items] == [{"name": "x", "port": 80}, {"name": "x", "port": 81}]
    wrong = job(spec={"variables": {"name": "x"}, "matrix": {"parameters": {"port": [80, "eighty"]}}})
    with pytest.raises(Terminal, match=r"^port=eighty: "):
        plan_job(wrong, world())
