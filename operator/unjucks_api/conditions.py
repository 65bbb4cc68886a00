"""Conditions: their types, and the pure rules for merging them into a status (Kubernetes API conventions, kstatus).

A condition is a plain dict, as it stands in an object's status. ``lastTransitionTime`` moves only when the status flips;
``Reconciling`` and ``Stalled`` (kstatus' abnormal-true conditions) are present only while true. Called by the status modules.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from unjucks_api.reasons import Reason

MAX_MESSAGE = 1024


class ConditionType(StrEnum):
    """Every condition type of the three kinds."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SUSPENDED = "Suspended"
    PAUSED = "Paused"
    CONFLICTED = "Conflicted"
    DELETING = "Deleting"
    DELETION_HELD = "DeletionHeld"
    # Tenant
    NAMESPACES_READY = "NamespacesReady"
    ACCESS_READY = "AccessReady"
    QUOTA_ENFORCED = "QuotaEnforced"
    NETWORK_ISOLATED = "NetworkIsolated"
    NETWORK_RULES_READY = "NetworkRulesReady"
    POD_SECURITY_ENFORCED = "PodSecurityEnforced"
    DATABASE_READY = "DatabaseReady"
    CREDENTIALS_READY = "CredentialsReady"
    MIGRATING = "Migrating"
    CACHE_READY = "CacheReady"
    ISOLATION_VERIFIED = "IsolationVerified"
    RENDERERS_READY = "RenderersReady"
    # TemplateRegistry
    ARTIFACT_IN_STORAGE = "ArtifactInStorage"
    TEMPLATES_INVALID = "TemplatesInvalid"
    FETCH_FAILED = "FetchFailed"
    SOURCE_VERIFIED = "SourceVerified"  # False: a signature or digest is wrong
    ARTIFACT_OUTDATED = "ArtifactOutdated"  # the source holds something else than what is served
    # GenerationJob
    VALIDATED = "Validated"
    RENDERED = "Rendered"
    PUBLISHED = "Published"
    SENSITIVE_DATA_FOUND = "SensitiveDataFound"
    DRIFTED = "Drifted"
    TEMPLATE_OUTDATED = "TemplateOutdated"
    TEMPLATE_DEPRECATED = "TemplateDeprecated"
    COMPLETE = "Complete"
    FAILED = "Failed"


ABNORMAL_WHEN_TRUE = frozenset(
    {
        ConditionType.RECONCILING,
        ConditionType.STALLED,
        ConditionType.SUSPENDED,
        ConditionType.PAUSED,
        ConditionType.CONFLICTED,
        ConditionType.DELETING,
        ConditionType.DELETION_HELD,
        ConditionType.MIGRATING,
        ConditionType.TEMPLATES_INVALID,
        ConditionType.FETCH_FAILED,
        ConditionType.ARTIFACT_OUTDATED,
        ConditionType.SENSITIVE_DATA_FOUND,
        ConditionType.DRIFTED,
        ConditionType.TEMPLATE_OUTDATED,
        ConditionType.TEMPLATE_DEPRECATED,
        ConditionType.FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as computed now. ``status`` is ``"True"``, ``"False"`` or ``"Unknown"``."""

    type: ConditionType
    status: str
    reason: Reason
    message: str = ""


def timestamp(now: datetime) -> str:
    """RFC 3339 in whole seconds, UTC, as the API server writes times."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merge_conditions(
    previous: Sequence[Mapping[str, Any]], computed: Iterable[Condition], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The new ``status.conditions``: exactly ``computed``, minus abnormal ones that are not true, Ready first, then by type.

    A condition whose status did not change keeps its ``lastTransitionTime``, so an unchanged state gives equal bytes and no
    status write. Messages are cut to 1024 characters. When a type is computed twice the worse one stands: the API server takes
    each type once, and a good word must not hide a bad one.
    """
    before = {str(item.get("type")): item for item in previous}
    chosen: dict[ConditionType, Condition] = {}
    for condition in computed:
        rival = chosen.get(condition.type)
        if rival is None or _badness(condition) > _badness(rival):
            chosen[condition.type] = condition
    merged: list[dict[str, Any]] = []
    for condition in sorted(chosen.values(), key=lambda item: _order(item.type)):
        if condition.type in ABNORMAL_WHEN_TRUE and condition.status != "True":
            continue
        old = before.get(condition.type)
        since = old.get("lastTransitionTime") if old is not None and old.get("status") == condition.status else None
        merged.append(
            {
                "type": condition.type.value,
                "status": condition.status,
                "reason": condition.reason.value,
                "message": _cut(condition.message),
                "observedGeneration": generation,
                "lastTransitionTime": since or timestamp(now),
            }
        )
    return merged


def _order(kind: str) -> tuple[bool, str]:
    return (kind != ConditionType.READY, kind)


def _badness(condition: Condition) -> int:
    good = "False" if condition.type in ABNORMAL_WHEN_TRUE else "True"
    return 0 if condition.status == good else 1 if condition.status == "Unknown" else 2


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


def paused_status(status: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """``status`` as it is, with the condition Paused. The generation stays: a pause must not make an old Ready look new.

    The other conditions are kept untouched, also those that another version of the operator wrote.
    """
    previous = status.get("conditions") or ()
    kept = [dict(item) for item in previous if item.get("type") != ConditionType.PAUSED]
    text = "reconciliation is switched off by annotation"
    added = [Condition(ConditionType.PAUSED, "True", Reason.PAUSED, text)]
    if not kept:
        added.append(Condition(ConditionType.READY, "False", Reason.PAUSED, "never reconciled"))
    generation = int(status.get("observedGeneration") or 0)
    conditions = kept + merge_conditions(previous, added, generation=generation, now=now)
    conditions.sort(key=lambda item: _order(str(item.get("type"))))
    return {**status, "observedGeneration": generation, "conditions": conditions}


def resumed_status(status: Mapping[str, Any]) -> dict[str, Any]:
    """``status`` without the condition Paused: the pause is over, whatever the next run finds to do."""
    kept = [item for item in status.get("conditions") or () if item.get("type") != ConditionType.PAUSED]
    return {**status, "conditions": kept}


FAULT = "the operator met an error that it did not expect; it tries again by itself. The operator's log tells more"
"""Of an unexpected error nothing else is told: nobody knows what its own text holds."""


def fault_status(body: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """The status as it is, but for Ready (InternalError). The generation stays: nothing else of it was looked at anew."""
    previous = body.get("status") or {}
    made = [
        Condition(ConditionType.READY, "False", Reason.INTERNAL_ERROR, FAULT),
        Condition(ConditionType.RECONCILING, "True", Reason.INTERNAL_ERROR, FAULT),
    ]
    return {**previous, "conditions": _replaced(previous, made, int(body["metadata"].get("generation", 0)), now)}


def recovered_status(status: Mapping[str, Any], *, generation: int, now: datetime) -> dict[str, Any]:
    """The status of something that had ended, after ``fault_status``: Ready says again what the other conditions say."""
    if not has_fault(status):
        return dict(status)
    ready = Condition(ConditionType.READY, "False", Reason.PROGRESSING, "")
    for kind in (ConditionType.DRIFTED, ConditionType.FAILED, ConditionType.COMPLETE):
        found = find_condition(status, kind)
        if found is not None and found.get("status") == "True":
            reason = Reason(found["reason"])
            good = kind is ConditionType.COMPLETE and reason is not Reason.DRIFT_DETECTED
            ready = Condition(ConditionType.READY, "True" if good else "False", reason, str(found.get("message", "")))
            break
    return {**status, "conditions": _replaced(status, [ready], generation, now)}


def has_fault(status: Mapping[str, Any]) -> bool:
    """Whether the last run ended with an error that nobody expected."""
    return (find_condition(status, ConditionType.READY) or {}).get("reason") == Reason.INTERNAL_ERROR


def _replaced(
    status: Mapping[str, Any], made: Sequence[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    previous = status.get("conditions") or ()
    gone = (ConditionType.READY, ConditionType.RECONCILING)
    kept = [dict(item) for item in previous if item.get("type") not in gone]
    merged = merge_conditions(previous, made, generation=generation, now=now)
    return sorted([*kept, *merged], key=lambda item: _order(str(item.get("type"))))


def unreadable_status(body: Mapping[str, Any], message: str, *, now: datetime) -> dict[str, Any]:
    """The status of an object whose spec cannot be acted upon, with ``message`` for the reason; everything else as it was."""
    previous = body.get("status") or {}
    generation = int(body["metadata"].get("generation", 0))
    conditions = [
        Condition(ConditionType.READY, "False", Reason.INVALID_SPEC, message),
        Condition(ConditionType.STALLED, "True", Reason.INVALID_SPEC, message),
    ]
    merged = merge_conditions(previous.get("conditions") or (), conditions, generation=generation, now=now)
    return {**previous, "observedGeneration": generation, "conditions": merged}


def find_condition(status: Mapping[str, Any], kind: ConditionType) -> Mapping[str, Any] | None:
    """The condition of that type in ``status``, or None."""
    for item in status.get("conditions") or ():
        if item.get("type") == kind:
            found: Mapping[str, Any] = item
            return found
    return None


def is_ready(body: Mapping[str, Any]) -> bool:
    """Whether the object says Ready=True *at its current generation*."""
    status = body.get("status") or {}
    condition = find_condition(status, ConditionType.READY)
    generation = (body.get("metadata") or {}).get("generation")
    return (
        condition is not None
        and condition.get("status") == "True"
        and condition.get("observedGeneration") == generation
        and status.get("observedGeneration") == generation
    )
