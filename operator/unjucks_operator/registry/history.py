"""The versions that a registry has served: what is kept, which one is served, which one a pin means. Pure.

Called by ``registry.plan`` and ``registry.status``. Trees that an entry names are kept by the housekeeping.
"""

from collections.abc import Mapping, Sequence
from typing import Any

CURRENT, AVAILABLE, PINNED = "Current", "Available", "Pinned"

Entry = Mapping[str, Any]


def find_version(status: Mapping[str, Any], pin: str) -> Entry | None:
    """The version that a pin names, by digest or revision: the newest of several with the same revision."""
    for entry in _known(status):
        if pin in (entry.get("digest"), entry.get("revision")):
            return entry
    return None


def updated_history(
    status: Mapping[str, Any], artifact: Entry, limit: int, *, pinned: bool = False
) -> list[dict[str, Any]]:
    """The history once ``artifact`` is served. A new version comes first; a pinned one stays at its place and is never cut."""
    known = _known(status)
    served = {key: artifact[key] for key in ("revision", "digest", "lastUpdateTime") if artifact.get(key)}
    before = next((entry for entry in known if entry.get("digest") == artifact.get("digest")), None)
    if before is not None and before.get("lastUpdateTime"):
        served["lastUpdateTime"] = before["lastUpdateTime"]
    served["state"] = PINNED if pinned else CURRENT
    others = [
        {key: entry[key] for key in ("revision", "digest", "lastUpdateTime") if entry.get(key)} | {"state": AVAILABLE}
        for entry in known
        if entry.get("digest") != artifact.get("digest")
    ]
    if not pinned or before is None:
        return [served, *others[: max(limit - 1, 0)]]
    place = min(known.index(before), len(others))
    whole = [*others[:place], served, *others[place:]]
    while len(whole) > limit:
        last = next(number for number in range(len(whole) - 1, -1, -1) if whole[number]["state"] != PINNED)
        del whole[last]
    return whole


def _known(status: Mapping[str, Any]) -> Sequence[Entry]:
    history = [entry for entry in status.get("history") or () if entry.get("digest")]
    artifact = status.get("artifact") or {}
    if artifact.get("digest") and all(entry["digest"] != artifact["digest"] for entry in history):
        return [artifact, *history]
    return history
