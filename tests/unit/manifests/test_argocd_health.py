"""The health check for Argo CD, run by Lua 5.1 (Argo CD's dialect) without libraries, on statuses that our own code makes."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from lupa import lua51

from support import builders, generated
from unjucks_api.conditions import Condition, ConditionType, merge_conditions, paused_status
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1 import KINDS
from unjucks_operator.artifact import engine_options
from unjucks_operator.errors import Waiting
from unjucks_operator.job import status as job_status
from unjucks_operator.job.plan import Run
from unjucks_operator.registry import status as registry_status

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
SCRIPT = (generated.ROOT / generated.HEALTH).read_text(encoding="utf-8")
Health = tuple[str, str]


@pytest.fixture(scope="module")
def health_of() -> Callable[[dict[str, Any]], Health]:
    """The check as Argo CD calls it: the object in the global ``obj``, a table with status and message back."""

    def run(body: dict[str, Any]) -> Health:
        lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
        available = lua.globals()
        for name in list(available.keys()):
            if name not in ("ipairs", "pairs", "type", "tostring", "tonumber"):
                available[name] = None
        available.obj = lua.table_from(body, recursive=True)
        result = lua.execute(SCRIPT)
        return result.status, result.message

    return run


def body(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x", "generation": 1, **metadata}, "spec": {}, "status": status}


def status(*conditions: tuple[ConditionType, str, Reason, str], generation: int = 1) -> dict[str, Any]:
    merged = merge_conditions((), [Condition(*item) for item in conditions], generation=generation, now=NOW)
    return {"observedGeneration": generation, "conditions": merged}


READY = (ConditionType.READY, "True", Reason.RECONCILED, "everything is in place")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (body({}), ("Progressing", "waiting for the operator")),
        ({"metadata": {"name": "x", "generation": 1}}, ("Progressing", "waiting for the operator")),
        (body(status(READY)), ("Healthy", "Reconciled: everything is in place")),
        (body(status(READY), generation=2), ("Progressing", "waiting for the operator")),
        (
            body(status((ConditionType.READY, "True", Reason.RECONCILED, ""))),
            ("Healthy", "Reconciled"),
        ),
        (
            body(
                status(
                    (ConditionType.READY, "False", Reason.RENDERER_STARTING, "0 of at least 1 renderers are ready"),
                    (ConditionType.RECONCILING, "True", Reason.RENDERER_STARTING, ""),
                )
            ),
            ("Progressing", "RendererStarting: 0 of at least 1 renderers are ready"),
        ),
        (
            body(
                status(
                    (ConditionType.READY, "False", Reason.OWNERSHIP_CONFLICT, "a namespace is not ours"),
                    (ConditionType.STALLED, "True", Reason.OWNERSHIP_CONFLICT, "a namespace is not ours"),
                )
            ),
            ("Degraded", "OwnershipConflict: a namespace is not ours"),
        ),
        (
            body(status(READY, (ConditionType.SUSPENDED, "True", Reason.SUSPENDED, "spec.suspend: no job starts"))),
            ("Suspended", "Suspended: spec.suspend: no job starts"),
        ),
        (
            body(paused_status(status(READY), now=NOW), generation=7),
            ("Suspended", "Paused: reconciliation is switched off by annotation"),
        ),
        (body(status(READY), deletionTimestamp="2026-01-02T03:04:05Z"), ("Progressing", "being deleted")),
        (
            body(
                status((ConditionType.DELETING, "True", Reason.DELETING, "waiting for namespace tenant-acme")),
                deletionTimestamp="2026-01-02T03:04:05Z",
            ),
            ("Progressing", "Deleting: waiting for namespace tenant-acme"),
        ),
    ],
)
def test_health_of_conditions(
    health_of: Callable[[dict[str, Any]], Health], given: dict[str, Any], expected: Health
) -> None:
    assert health_of(given) == expected


def test_health_through_the_life_of_a_job(health_of: Callable[[dict[str, Any]], Health]) -> None:
    job = builders.job()
    run = _run()
    progress = job_status.Progress(started=NOW)
    waiting = Waiting("TemplateRegistry platform does not exist", reason=Reason.REGISTRY_NOT_FOUND)
    lives = [
        job_status.compute_pending(job, waiting, started=None, now=NOW),
        job_status.compute_running(job, run, progress, now=NOW),
        job_status.compute_succeeded(job, run, progress, reason=Reason.UP_TO_DATE, now=NOW),
        job_status.compute_failed(job, Reason.TEMPLATE_ERROR, "a.njk:3:1: unexpected end", now=NOW),
        job_status.compute_suspended(job, "spec.suspend: the job does not start", now=NOW),
    ]
    assert [health_of(body(it))[0] for it in lives] == [
        "Progressing",
        "Progressing",
        "Healthy",
        "Degraded",
        "Suspended",
    ]
    assert health_of(body(lives[3]))[1] == "TemplateError: a.njk:3:1: unexpected end"


def test_health_of_a_suspended_registry(health_of: Callable[[dict[str, Any]], Health]) -> None:
    registry = builders.registry(status=status(READY))
    kept = registry_status.compute_kept(registry, suspended=True, now=NOW)
    assert health_of(body(kept))[0] == "Suspended"
    again = registry_status.compute_kept(builders.registry(status=kept), suspended=False, now=NOW)
    assert health_of(body(again)) == ("Healthy", "Reconciled: everything is in place")


def test_the_patch_has_the_check_for_each_kind() -> None:
    patch = yaml.safe_load((generated.ROOT / generated.ARGOCD).read_text(encoding="utf-8"))
    expected = {f"resource.customizations.health.unjucks.io_{kind.definition.kind}" for kind in KINDS}
    assert set(patch["data"]) == expected
    assert set(patch["data"].values()) == {SCRIPT}


def _run() -> Run:
    return Run(
        key="k",
        inputs_digest="hmac-sha256:0",
        tree="sha256:" + "0" * 64,
        generator="service",
        action="new",
        variables={},
        sensitive=(),
        engine=engine_options(builders.registry()),
    )
