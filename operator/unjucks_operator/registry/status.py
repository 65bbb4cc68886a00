"""The status of a TemplateRegistry. Pure; called by ``registry.reconcile``.

On any failure the last good artifact stays served: ``ArtifactInStorage`` says whether there is one, ``Ready`` whether it is what
the source holds now.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from unjucks_api.conditions import Condition, ConditionType, merge_conditions, timestamp
from unjucks_api.courier_protocol import FetchResponse
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action, AnalyzeResponse, Problem, ShippedTests
from unjucks_api.v1alpha1.template_registry import (
    MAX_CATALOG,
    MAX_DISPLAY,
    MAX_PROBLEMS,
    MAX_VARIABLES,
    TemplateRegistry,
    display_value,
)
from unjucks_operator.errors import OperatorError, Terminal
from unjucks_operator.registry.history import Entry, updated_history
from unjucks_operator.registry.plan import Verdict

_KEPT = (
    "artifact",
    "generators",
    "actions",
    "invalidActions",
    "catalog",
    "problems",
    "sourceVersion",
    "lastHandledRequestedAt",
    "observedRevision",
    "history",
)

NEEDS_SOMEBODY = frozenset(
    {
        Reason.VERIFICATION_FAILED,
        Reason.URL_INVALID,
        Reason.EGRESS_REFUSED,
        Reason.ARCHIVE_INVALID,
        Reason.ARCHIVE_TOO_LARGE,
        Reason.PATH_NOT_FOUND,
        Reason.PATH_REJECTED,
        Reason.LIMIT_EXCEEDED,
        Reason.MANIFEST_MISMATCH,
    }
)
"""Failures of a fetched source that only a person can mend; it is looked at again at its interval all the same."""

_SWITCHES = frozenset({ConditionType.SUSPENDED, ConditionType.PAUSED, ConditionType.RECONCILING})


def compute_ingested(
    registry: TemplateRegistry,
    analysis: AnalyzeResponse,
    verdict: Verdict,
    version: str,
    *,
    fetched: FetchResponse | None = None,
    now: datetime,
) -> dict[str, Any]:
    """The status after the source was read, whether its tree is served or not. ``fetched``: what the courier said of it."""
    status = _kept(registry)
    status |= {
        "sourceVersion": version,
        "lastHandledRequestedAt": registry.requested_at,
        "problems": [_problem(it) for it in _all_problems(analysis)[:MAX_PROBLEMS]],
        "invalidActions": sum(not action.valid for action in verdict.actions),
    }
    if verdict.serve:
        valid = [action for action in verdict.actions if action.valid]
        previous = registry.status.get("artifact") or {}
        status["artifact"] = {
            "revision": fetched.revision[:256] if fetched else analysis.digest.removeprefix("sha256:")[:12],
            "digest": analysis.digest,
            "size": sum(len(item.content) * 3 // 4 - item.content[-2:].count("=") for item in analysis.files),
            "lastUpdateTime": timestamp(now),
        }
        if fetched and (told := _metadata(fetched)):
            status["artifact"]["metadata"] = told
        if previous.get("digest") == analysis.digest and previous.get("lastUpdateTime"):
            status["artifact"]["lastUpdateTime"] = previous["lastUpdateTime"]
        status["history"] = updated_history(registry.status, status["artifact"], registry.spec.history_limit)
        status |= {
            "generators": len({action.generator for action in valid}),
            "actions": len(valid),
            "catalog": [_entry(action) for action in verdict.actions[:MAX_CATALOG]],
        }
    conditions = _ingested_conditions(verdict, bool(status.get("artifact")))
    if fetched is not None:
        status["observedRevision"] = fetched.revision[:256]
        if fetched.verified_by:
            conditions.append(
                Condition(ConditionType.SOURCE_VERIFIED, "True", Reason.SUCCEEDED, f"verified by {fetched.verified_by}")
            )
        if not verdict.serve and status.get("artifact"):
            text = f"the source is at {fetched.revision}, which is not served"
            conditions.append(Condition(ConditionType.ARTIFACT_OUTDATED, "True", Reason.TEMPLATES_INVALID, text))
    return _with_conditions(registry, status, conditions, now)


def compute_pinned(
    registry: TemplateRegistry, entry: Entry, actions: Sequence[Action], size: int, version: str, *, now: datetime
) -> dict[str, Any]:
    """The status once a version of the history is served because ``spec.pin`` says so."""
    status = _kept(registry)
    artifact = {
        "revision": entry.get("revision", ""),
        "digest": entry["digest"],
        "size": size,
        "lastUpdateTime": entry.get("lastUpdateTime") or timestamp(now),
    }
    valid = [action for action in actions if action.valid]
    status |= {
        "artifact": artifact,
        "history": updated_history(registry.status, artifact, registry.spec.history_limit, pinned=True),
        "sourceVersion": version,
        "lastHandledRequestedAt": registry.requested_at,
        "problems": [],
        "invalidActions": sum(not action.valid for action in actions),
        "generators": len({action.generator for action in valid}),
        "actions": len(valid),
        "catalog": [_entry(action) for action in actions[:MAX_CATALOG]],
    }
    text = f"{len(valid)} action(s) can be used, of the pinned version {artifact['revision']}"
    return _with_conditions(
        registry, status, [Condition(ConditionType.READY, "True", Reason.SUCCEEDED, text), _stored(True)], now
    )


def compute_unchanged(registry: TemplateRegistry, *, now: datetime) -> dict[str, Any]:
    """The status when the source is still at its revision: nothing new, but a request for another look is answered."""
    status = compute_kept(registry, suspended=False, now=now)
    if registry.requested_at:
        status["lastHandledRequestedAt"] = registry.requested_at
    return status


def compute_unfetched(registry: TemplateRegistry, error: OperatorError, *, now: datetime) -> dict[str, Any]:
    """The status when a remote source could not be read. What was served stays served; the source is read anew next time."""
    status = _kept(registry) | {"lastHandledRequestedAt": registry.requested_at}
    status.pop("sourceVersion", None)
    stored = bool(status.get("artifact"))
    reason, message = error.reason, error.message + ("; what was served before stays served" if stored else "")
    conditions = [
        Condition(ConditionType.READY, "False", reason, message),
        _stored(stored),
        Condition(ConditionType.FETCH_FAILED, "True", reason, error.message),
    ]
    if isinstance(error, Terminal) and reason in NEEDS_SOMEBODY:
        conditions.append(Condition(ConditionType.STALLED, "True", reason, error.message))
    else:
        conditions.append(Condition(ConditionType.RECONCILING, "True", reason, error.message))
    if reason is Reason.VERIFICATION_FAILED:
        conditions.append(Condition(ConditionType.SOURCE_VERIFIED, "False", reason, error.message))
    return _with_conditions(registry, status, conditions, now)


def _metadata(fetched: FetchResponse) -> dict[str, str]:
    told = {key[:64]: value[:256] for key, value in fetched.metadata.items()}
    if fetched.verified_by:
        told["verifiedBy"] = fetched.verified_by[:256]
    return told


def compute_failed(
    registry: TemplateRegistry, error: Exception, *, version: str | None, now: datetime
) -> dict[str, Any]:
    """The status after the source could not be read. ``version``: remember it as dealt with (only for what will not heal)."""
    status = _kept(registry)
    if version is not None:
        status |= {"sourceVersion": version, "lastHandledRequestedAt": registry.requested_at}
    else:
        # From here on the conditions tell of this failure: the source has to be read again to tell of itself.
        status.pop("sourceVersion", None)
    reason = error.reason if isinstance(error, OperatorError) else Reason.INTERNAL_ERROR
    message = error.message if isinstance(error, OperatorError) else "an unexpected error; see the operator's log"
    stored = bool(status.get("artifact"))
    conditions = [
        Condition(ConditionType.READY, "False", reason, message),
        _stored(stored),
    ]
    if isinstance(error, Terminal):
        conditions.append(Condition(ConditionType.FETCH_FAILED, "True", reason, message))
        conditions.append(Condition(ConditionType.STALLED, "True", reason, message))
    else:
        conditions.append(Condition(ConditionType.RECONCILING, "True", reason, message))
    told = _with_conditions(registry, status, conditions, now)
    if not isinstance(error, Terminal) and stored and registry.status.get("observedGeneration"):
        # This generation's source was not read yet: whoever waits for that must not take what an earlier one gave for it.
        told["observedGeneration"] = registry.status["observedGeneration"]
    return told


def compute_kept(registry: TemplateRegistry, *, suspended: bool, now: datetime) -> dict[str, Any]:
    """The status when nothing was to be read: as before, at this generation, with the switches shown."""
    previous = registry.status.get("conditions") or ()
    # As they stand, also those that another version of the operator wrote; only the generation moves on.
    kept = [
        {**item, "observedGeneration": registry.generation} for item in previous if item.get("type") not in _SWITCHES
    ]
    conditions: list[Condition] = []
    if not kept:
        conditions.append(Condition(ConditionType.READY, "False", Reason.SUSPENDED, "never read"))
    if suspended:
        conditions.append(
            Condition(ConditionType.SUSPENDED, "True", Reason.SUSPENDED, "spec.suspend: the source is not read")
        )
    added = merge_conditions(previous, conditions, generation=registry.generation, now=now)
    return {**_kept(registry), "observedGeneration": registry.generation, "conditions": [*kept, *added]}


def _kept(registry: TemplateRegistry) -> dict[str, Any]:
    return {key: registry.status[key] for key in _KEPT if key in registry.status}


def _with_conditions(
    registry: TemplateRegistry, status: Mapping[str, Any], conditions: list[Condition], now: datetime
) -> dict[str, Any]:
    merged = merge_conditions(
        registry.status.get("conditions") or (), conditions, generation=registry.generation, now=now
    )
    return {**status, "observedGeneration": registry.generation, "conditions": merged}


def _ingested_conditions(verdict: Verdict, stored: bool) -> list[Condition]:
    conditions = [_stored(stored)]
    if not verdict.actions and not verdict.errors:
        text = "the source holds no template set: expected _templates/<generator>/<action>/ below spec.path"
        conditions.append(Condition(ConditionType.READY, "False", Reason.NO_TEMPLATES, text))
        conditions.append(Condition(ConditionType.STALLED, "True", Reason.NO_TEMPLATES, text))
        return conditions
    if not verdict.errors:
        valid = len(verdict.actions)
        conditions.append(Condition(ConditionType.READY, "True", Reason.SUCCEEDED, f"{valid} action(s) can be used"))
        return conditions
    rest = f" (and {len(verdict.errors) - 1} more)" if len(verdict.errors) > 1 else ""
    served = (
        "; the valid actions are served" if verdict.serve else "; what was served before stays served" if stored else ""
    )
    text = f"{verdict.errors[0]}{rest}{served}"
    conditions.append(Condition(ConditionType.TEMPLATES_INVALID, "True", Reason.TEMPLATES_INVALID, text))
    conditions.append(Condition(ConditionType.READY, "False", Reason.TEMPLATES_INVALID, text))
    conditions.append(Condition(ConditionType.STALLED, "True", Reason.TEMPLATES_INVALID, text))
    return conditions


def _stored(stored: bool) -> Condition:
    if stored:
        return Condition(
            ConditionType.ARTIFACT_IN_STORAGE, "True", Reason.SUCCEEDED, "an artifact is stored and served"
        )
    return Condition(ConditionType.ARTIFACT_IN_STORAGE, "False", Reason.NO_TEMPLATES, "nothing is stored yet")


def _all_problems(analysis: AnalyzeResponse) -> list[Problem]:
    found = [*analysis.problems, *(problem for action in analysis.actions for problem in action.problems)]
    unique = list(dict.fromkeys((it.path, it.line, it.column, it.message, it.severity) for it in found))
    unique.sort(key=lambda it: (it[4] != "error", it[0], it[1], it[2]))
    return [Problem(path=it[0], line=it[1], column=it[2], message=it[3], severity=it[4]) for it in unique]


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "path": problem.path[:1024],
        "line": problem.line,
        "column": problem.column,
        "message": problem.message[:1024],
        "severity": problem.severity,
    }


def _tests(tests: ShippedTests) -> dict[str, int]:
    return {"passed": tests.passed, "failed": tests.failed, **({"notRun": tests.not_run} if tests.not_run else {})}


def _entry(action: Action) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "generator": action.generator,
        "action": action.action,
        "digest": action.digest,
        "files": action.files,
        "description": action.description[:MAX_DISPLAY],
        "deprecated": action.deprecated,
        **({"deprecation": action.deprecation[:MAX_DISPLAY]} if action.deprecation else {}),
        **({"tests": _tests(action.tests)} if action.tests is not None else {}),
        "variables": [
            {
                "name": variable.name[:256],
                "type": variable.type[:64],
                "required": variable.required,
                "description": variable.description[:MAX_DISPLAY],
                **({"pattern": variable.pattern[:MAX_DISPLAY]} if variable.pattern else {}),
                **({"enum": [display_value(item) for item in variable.enum[:32]]} if variable.enum else {}),
                **({"default": display_value(variable.default)} if variable.default is not None else {}),
            }
            for variable in action.variables[:MAX_VARIABLES]
        ],
    }
    if action.inferred:
        entry["inferred"] = [name[:256] for name in action.inferred[:MAX_VARIABLES]]
    if action.problems:
        entry["problems"] = [_problem(it) for it in action.problems[:MAX_PROBLEMS]]
    return entry
