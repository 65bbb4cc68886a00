"""The two webhooks of approvals: ``approve`` (mutating) turns a code into a sealed record, ``verify`` (validating) asks for it.

    kubectl patch tenant acme … spec.protected: false, annotation unjucks.io/approval: "123456"
      └► approve: the code leaves the object (also from kubectl's last-applied), is used up in the store, a record takes its place
           └► schema, CEL, policies ► verify: every destructive part has a genuine record of this user, for this generation

A dry run uses nothing up and looks at no code: it would be a way to guess. Its records are marked and good for dry runs only.
Called by ``server``. Must not: log a code, or let a change through when it cannot be sure.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from unjucks_api import approvals, names
from unjucks_api.approvals import Approval, Change
from unjucks_api.reasons import Reason
from unjucks_webhooks.approvers import Verdict
from unjucks_webhooks.kube import KubeError
from unjucks_webhooks.review import Answer, Request, allow
from unjucks_webhooks.store import ApprovalStore, StoreError

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_DRY_RUN: Final = "dry-run:"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Approved:
    """What happened, for the log and the Event. No code in it."""

    user: str
    tenant: str
    uid: str
    generation: int
    paths: tuple[str, ...]
    recovery: bool

    def note(self) -> str:
        """In words."""
        how = " with a recovery code" if self.recovery else ""
        return f"{self.user} approved{how}: {', '.join(self.paths)} (at generation {self.generation})"


class Approvals:
    """See the module's text. ``tell`` hears of each approval, ``count`` of each verdict; neither may raise or wait."""

    def __init__(
        self,
        store: ApprovalStore,
        now: Callable[[], float],
        *,
        tell: Callable[[Approved], None] = lambda _: None,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._now = now
        self._tell = tell
        self._count = count

    async def approve(self, request: Request) -> Answer:
        """The answer of the mutating webhook."""
        annotations = _annotations(request.new)
        code = annotations.get(names.ANNOTATION_APPROVAL)
        if code is None:
            return allow()
        cleaned = _without_code(annotations)
        if cleaned is None:
            return _refuse(
                f"the annotation {LAST_APPLIED} is not JSON, so the code cannot be taken out of it; remove that annotation",
                422,
            )
        changes = approvals.destructive_changes(request.old, request.new) if request.operation == "UPDATE" else ()
        if not changes:
            return Answer(
                True, patch=_patch(cleaned), warnings=("this change needs no approval; the code was not used",)
            )
        if request.dry_run:
            return await self._pretend(request, cleaned, changes)
        return await self._judge(request, cleaned, changes, str(code))

    async def _judge(self, request: Request, cleaned: dict[str, str], changes: tuple[Change, ...], code: str) -> Answer:
        paths = tuple(change.path for change in changes)
        generation, uid = _generation(request.old), _uid(request.old)
        note = {"tenant": request.name, "uid": uid, "generation": generation, "paths": list(paths)}
        try:
            decision, key = await self._store.use(request.user, code, note)
        except (StoreError, KubeError) as error:
            self._count("error")
            log.error("approval cannot be recorded: %s", error, extra={"fields": {"tenant": request.name}})
            return _refuse(
                f"the approval cannot be recorded, so nothing was changed: {error}. Try again with your next code", 503
            )
        self._count(decision.verdict.value)
        fields = {"user": request.user, "verdict": decision.verdict.value, **note}
        if not decision.verdict.good:
            log.warning("approval refused", extra={"fields": fields})
            return Answer(
                False,
                f"this change needs an approval ({_texts(changes)}), and this one is not accepted: {decision.message}",
                audit={"approval-refused": decision.verdict.value},
            )
        log.info("approved", extra={"fields": fields})
        recovery = decision.verdict is Verdict.RECOVERY
        self._tell(Approved(request.user, request.name, uid, generation, paths, recovery))
        at = datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        sealed = [approvals.seal(key, uid, change, by=request.user, at=at, generation=generation) for change in changes]
        return Answer(
            True,
            patch=_patch(self._with_records(request, cleaned, key, sealed)),
            warnings=(f"{decision.message}: {', '.join(paths)}",),
            audit={"approved-by": request.user, "approved": ", ".join(paths)},
        )

    async def _pretend(self, request: Request, cleaned: dict[str, str], changes: tuple[Change, ...]) -> Answer:
        try:
            key = await self._store.key()
        except (StoreError, KubeError) as error:
            return _refuse(f"the dry run of an approval is not possible now: {error}", 503)
        sealed = [
            approvals.seal(
                key,
                _uid(request.old),
                _marked(change),
                by=request.user,
                at="dry run",
                generation=_generation(request.old),
            )
            for change in changes
        ]
        return Answer(
            True,
            patch=_patch(self._with_records(request, cleaned, key, sealed)),
            warnings=("dry run: the code was neither checked nor used",),
        )

    def _with_records(
        self, request: Request, cleaned: dict[str, str], key: bytes, sealed: list[Approval]
    ) -> dict[str, str]:
        # What counts as known is what is stored; a record in the request itself is nobody's.
        known = approvals.approvals_of(request.old, key)
        return {**cleaned, names.ANNOTATION_APPROVED: approvals.merge(known, sealed)}

    async def verify(self, request: Request) -> Answer:
        """The answer of the validating webhook."""
        if request.operation != "UPDATE":
            return allow()
        changes = approvals.destructive_changes(request.old, request.new)
        if not changes:
            return allow()
        try:
            key = await self._store.key()
        except (StoreError, KubeError) as error:
            log.error("approval cannot be verified: %s", error, extra={"fields": {"tenant": request.name}})
            return _refuse(f"whether this change is approved cannot be found out now: {error}", 503)
        # The UID of the stored object: nobody can choose it.
        body = {**request.new, "metadata": {**(request.new.get("metadata") or {}), "uid": _uid(request.old)}}
        records = [
            it
            for it in approvals.approvals_of(body, key)
            if it.by == request.user and it.generation == _generation(request.old)
        ]
        missing = tuple(change for change in changes if not _covered(change, records, dry_run=request.dry_run))
        if not missing:
            return allow()
        self._count("missing")
        log.info(
            "change without an approval refused",
            extra={"fields": {"user": request.user, "tenant": request.name, "paths": [it.path for it in missing]}},
        )
        return Answer(
            False,
            f"this change destroys or unlocks data and needs an approval with a second factor: {_texts(missing)}. Send it again "
            f'together with the annotation {names.ANNOTATION_APPROVAL}: "<code of your authenticator>"; the code is used up and '
            "not stored. How to get one: docs/approvals.md",
            audit={"approval-missing": ", ".join(it.path for it in missing)},
        )


def event(approved: Approved, now: float, name: str) -> dict[str, Any]:
    """The Event on the Tenant; the API server wants those of cluster-scoped objects in the namespace ``default``."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{approved.tenant[:200]}.{name}", "namespace": "default"},
        "type": "Normal",
        "reason": Reason.APPROVED.value,
        "action": "ApproveChange",
        "note": approved.note()[:1000],
        "eventTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{names.GROUP}/webhooks",
        "reportingInstance": names.WEBHOOKS,
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": "Tenant",
            "name": approved.tenant,
            "uid": approved.uid,
        },
    }


def _covered(change: Change, records: list[Approval], *, dry_run: bool) -> bool:
    return any(it.covers(change) or (dry_run and it.covers(_marked(change))) for it in records)


def _marked(change: Change) -> Change:
    """The same change with a path that is none: a record of it approves nothing."""
    return Change(_DRY_RUN + change.path, change.value, change.text)


def _texts(changes: tuple[Change, ...]) -> str:
    return "; ".join(change.text for change in changes)


def _refuse(message: str, code: int) -> Answer:
    return Answer(False, message, code, "ServiceUnavailable" if code == 503 else "Invalid")


def _annotations(body: Mapping[str, Any]) -> dict[str, str]:
    return dict((body.get("metadata") or {}).get("annotations") or {})


def _uid(body: Mapping[str, Any]) -> str:
    return str((body.get("metadata") or {}).get("uid") or "")


def _generation(body: Mapping[str, Any]) -> int:
    return int((body.get("metadata") or {}).get("generation") or 0)


def _without_code(annotations: Mapping[str, str]) -> dict[str, str] | None:
    """The annotations without the code, also inside kubectl's copy of the manifest; None when that copy cannot be read."""
    result = {key: value for key, value in annotations.items() if key != names.ANNOTATION_APPROVAL}
    copy = result.get(LAST_APPLIED)
    if copy is None or names.ANNOTATION_APPROVAL.rpartition("/")[2] not in copy:
        return result
    try:
        manifest = json.loads(copy)
        inner = manifest.get("metadata", {}).get("annotations")
        if isinstance(inner, dict) and inner.pop(names.ANNOTATION_APPROVAL, None) is not None:
            result[LAST_APPLIED] = json.dumps(manifest, separators=(",", ":")) + "\n"
    except (ValueError, AttributeError, RecursionError):
        return None
    return result


def _patch(annotations: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": "/metadata/annotations", "value": dict(annotations)}]
