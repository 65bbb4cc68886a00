"""Approvals: which changes of a Tenant destroy something, and the sealed record of who approved one. Pure; no clock, no I/O.

    old, new ──► destructive_changes ──► Change(path, value, text)
    Change + who + when ──► seal(key, …) ──► Approval, kept in the object's annotation ``unjucks.io/approved``
    object + key ──► approvals_of ──► the records in it that are genuine

A record is sealed with a key that only the webhooks and the operator hold, and names the object's UID: nobody can write one, carry
one over to another object, or turn one for this value into one for another. The chart's matchConditions say the same as
``destructive_changes`` in CEL (a test compares the two). Called by the webhooks, which make records, and by the operator, which
looks for them again before it destroys anything.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from unjucks_api import names

TIERS: Final = ("starter", "professional", "enterprise")
"""From the smallest to the largest; a step to the left may take a dedicated database away."""

PROTECTED: Final = "spec.protected"
DELETION_POLICY: Final = "spec.deletionPolicy"
RECLAIM_POLICY: Final = "spec.database.reclaimPolicy"
DATABASE_MODE: Final = "spec.database.mode"
CONFIRM_DELETE: Final = f"metadata.annotations[{names.ANNOTATION_CONFIRM_DELETE}]"

KEY_BYTES: Final = 32
MAX_RECORDS_BYTES: Final = 16 * 1024

_DELETE = "Delete"
_DEDICATED = "Dedicated"


@dataclass(frozen=True, slots=True)
class Change:
    """One destructive part of an update: the field, the value it gets (empty: none), and the same in words."""

    path: str
    value: str
    text: str


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved that ``path`` of the object with ``uid`` becomes ``value``; ``generation`` is that of the object before."""

    path: str
    value: str
    by: str
    at: str
    generation: int
    mac: str = ""

    def entry(self) -> dict[str, Any]:
        """As it stands in the annotation."""
        return {
            "path": self.path,
            "value": self.value,
            "by": self.by,
            "at": self.at,
            "generation": self.generation,
            "mac": self.mac,
        }

    def covers(self, change: Change) -> bool:
        """Whether this is the approval of that change."""
        return (self.path, self.value) == (change.path, change.value)


# --- what destroys ----------------------------------------------------------------------------------------------------------


def destructive_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Every part of the update from ``old`` to ``new`` (whole Tenants) that needs an approval, in a fixed order."""
    before, after = _spec(old), _spec(new)
    found = []
    if before.get("protected") is True and after.get("protected") is not True:
        found.append(Change(PROTECTED, "false", "spec.protected from true to false, after which it can be deleted"))
    if before.get("deletionPolicy") != _DELETE and after.get("deletionPolicy") == _DELETE:
        text = f"spec.deletionPolicy from {before.get('deletionPolicy') or 'Retain'} to Delete"
        found.append(Change(DELETION_POLICY, _DELETE, text))
    if _database(before).get("reclaimPolicy") != _DELETE and _database(after).get("reclaimPolicy") == _DELETE:
        found.append(Change(RECLAIM_POLICY, _DELETE, "spec.database.reclaimPolicy from Retain to Delete"))
    if _leaves_dedicated(old, before, after):
        found.append(
            Change(
                DATABASE_MODE,
                _wanted_mode(after),
                f"{_how_it_leaves(before, after)}, after which its own database may be dropped",
            )
        )
    confirmed = _annotations(new).get(names.ANNOTATION_CONFIRM_DELETE, "")
    if confirmed and _annotations(old).get(names.ANNOTATION_CONFIRM_DELETE) != confirmed:
        text = f"the annotation {names.ANNOTATION_CONFIRM_DELETE}, after which its records are deleted"
        found.append(Change(CONFIRM_DELETE, confirmed, text))
    return tuple(found)


def _leaves_dedicated(old: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a tenant with a database of its own is to have none, and the one it has is not to be kept."""
    if _database(after).get("reclaimPolicy") != _DELETE:
        return False
    mode = _database(before).get("mode")
    status = old.get("status")
    seen = (status.get("database") or {}).get("mode") if isinstance(status, Mapping) else None
    if mode != _DEDICATED and not (mode is None and seen == _DEDICATED):
        return False
    wanted = _database(after).get("mode")
    if wanted is None:  # the tier decides
        return mode is not None or _rank(after) < _rank(before)
    return bool(wanted != _DEDICATED)


def _wanted_mode(after: Mapping[str, Any]) -> str:
    return str(_database(after).get("mode") or f"by tier {after.get('tier') or TIERS[0]}")


def _how_it_leaves(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if before.get("tier") != after.get("tier") and _database(after).get("mode") is None:
        return f"spec.tier from {before.get('tier') or TIERS[0]} to {after.get('tier') or TIERS[0]}"
    return f"spec.database.mode from Dedicated to {_database(after).get('mode') or 'what the tier has'}"


def _rank(spec: Mapping[str, Any]) -> int:
    tier = spec.get("tier") or TIERS[0]
    return TIERS.index(tier) if tier in TIERS else -1


def _spec(body: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = body.get("spec")
    return spec if isinstance(spec, Mapping) else {}


def _database(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    found = spec.get("database")
    return found if isinstance(found, Mapping) else {}


def _annotations(body: Mapping[str, Any]) -> Mapping[str, str]:
    return (body.get("metadata") or {}).get("annotations") or {}


# --- records ----------------------------------------------------------------------------------------------------------------


def seal(key: bytes, uid: str, change: Change, *, by: str, at: str, generation: int) -> Approval:
    """The record of an approval."""
    made = Approval(change.path, change.value, by, at, generation)
    return Approval(change.path, change.value, by, at, generation, _mac(key, uid, made))


def _mac(key: bytes, uid: str, approval: Approval) -> str:
    parts = [
        "unjucks.io/approved/v1",
        uid,
        approval.path,
        approval.value,
        approval.by,
        approval.at,
        approval.generation,
    ]
    return hmac.new(key, json.dumps(parts, ensure_ascii=True).encode(), hashlib.sha256).hexdigest()


def approvals_of(body: Mapping[str, Any], key: bytes) -> tuple[Approval, ...]:
    """The genuine records in the object's annotation; whatever else stands there counts for nothing."""
    text = _annotations(body).get(names.ANNOTATION_APPROVED, "")
    uid = str((body.get("metadata") or {}).get("uid") or "")
    if not text or len(text) > MAX_RECORDS_BYTES or not uid or len(key) < KEY_BYTES:
        return ()
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    found = (_read(entry) for entry in (entries if isinstance(entries, list) else ()))
    return tuple(it for it in found if it is not None and hmac.compare_digest(it.mac, _mac(key, uid, it)))


def _read(entry: Any) -> Approval | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("generation"), int):
        return None
    texts = [entry.get(name) for name in ("path", "value", "by", "at", "mac")]
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        return None
    path, value, by, at, mac = map(str, texts)
    return Approval(path, value, by, at, entry["generation"], mac) if mac.isascii() else None


def merge(known: Iterable[Approval], new: Iterable[Approval]) -> str:
    """The annotation with one record for each path: the new ones, and the known ones of other paths."""
    records = {approval.path: approval for approval in known} | {approval.path: approval for approval in new}
    return json.dumps([records[path].entry() for path in sorted(records)], separators=(",", ":"))


def is_approved(body: Mapping[str, Any], key: bytes, path: str, value: str) -> bool:
    """Whether the object carries a genuine record that ``path`` may become ``value``."""
    return any((it.path, it.value) == (path, value) for it in approvals_of(body, key))
