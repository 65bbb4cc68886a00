"""What is to be done for a TemplateRegistry now: one decision. Pure. Called by ``registry.reconcile``.

Keep       the source was read at this state already; nothing to do
Ingest     read, normalise and check the source in a renderer, then store it
Serve      a version of the history is pinned: it is served, the source is left alone

A suspended registry is not planned at all: its source is not even looked at.
"""

import hashlib
from dataclasses import dataclass

import orjson

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action, AnalyzeResponse
from unjucks_api.v1alpha1.data_policy import DataPolicy
from unjucks_api.v1alpha1.template_registry import OnInvalidTemplate, TemplateRegistry
from unjucks_operator.artifact import artifact_digest
from unjucks_operator.errors import Terminal
from unjucks_operator.registry.history import Entry, find_version


@dataclass(frozen=True, slots=True)
class Keep:
    """Everything is as it was read."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """The source has to be read. ``version`` is its fingerprint, remembered in status once it was dealt with.

    ``fresh`` False: it was read in this very way before, so that a source which is still at its revision need not be read again.
    """

    version: str
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Serve:
    """Make this version of the history the served one. ``version`` as in Ingest."""

    version: str
    entry: Entry


Decision = Keep | Ingest | Serve

REMOTE = "remote"
"""The source version of what is fetched: its revision is known only afterwards."""

_SCHEDULING = {"suspend", "interval", "timeout", "revision_history_limit"}

INLINE = "inline"
"""The source version of inline files: they are a part of the spec, which the fingerprint covers."""


def plan_registry(
    registry: TemplateRegistry, source_version: str, policy: DataPolicy, *, artifact_stored: bool, due: bool = False
) -> Decision:
    """The decision. ``source_version`` names the state of the source outside the object (a ConfigMap's UID and version).

    ``policy`` is the tenant's: templates are looked through again when it changes what a finding means.
    A registry whose artifact is missing in the store (a database restored from an older backup) is read again.
    ``due``: the source is fetched, and it is time to look at it. Raises Terminal for a pin that the history does not know.
    """
    version = fingerprint(registry, source_version, policy)
    status = registry.status
    handled = (
        status.get("sourceVersion") == version and (status.get("lastHandledRequestedAt") or "") == registry.requested_at
    )
    complete = artifact_stored or not artifact_digest(registry)
    if registry.spec.pin:
        entry = find_version(status, registry.spec.pin)
        if entry is None:
            raise Terminal(
                f"status.history has no version with the digest or revision {registry.spec.pin}; what was served stays served",
                reason=Reason.REVISION_NOT_FOUND,
            )
        return Keep() if handled and complete else Serve(version, entry)
    if handled and complete and not due:
        return Keep()
    return Ingest(version, fresh=not complete or status.get("sourceVersion") != version)


def fingerprint(registry: TemplateRegistry, source_version: str, policy: DataPolicy) -> str:
    """``sha256:<hex>`` over all that reading depends on: equal means that reading again would find the same."""
    on_finding = policy.on_finding_in(registry.classification).value
    spec = registry.spec.model_dump(mode="json", by_alias=True, exclude=_SCHEDULING)
    return (
        "sha256:"
        + hashlib.sha256(orjson.dumps([spec, source_version, on_finding], option=orjson.OPT_SORT_KEYS)).hexdigest()
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an analysis means: whether its tree is served, and which actions of it may run."""

    serve: bool
    actions: tuple[Action, ...]
    errors: tuple[str, ...]


def judge(registry: TemplateRegistry, analysis: AnalyzeResponse) -> Verdict:
    """``KeepPrevious``: one error anywhere and the new tree is not served. ``ServeValid``: its valid actions are."""
    errors = [f"{it.path}:{it.line}:{it.column}: {it.message}" for it in analysis.problems if it.severity == "error"]
    for action in analysis.actions:
        errors += [f"{it.path}:{it.line}:{it.column}: {it.message}" for it in action.problems if it.severity == "error"]
    unique = tuple(dict.fromkeys(errors))
    valid = any(action.valid for action in analysis.actions)
    serve_valid = registry.spec.policy.on_invalid_template is OnInvalidTemplate.SERVE_VALID
    return Verdict(valid and (serve_valid or not unique), tuple(analysis.actions), unique)
