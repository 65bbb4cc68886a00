"""Who needs a tenant's renderers right now: the link from jobs and registries to the size of the pool. Pure bookkeeping.

Jobs and registries say that they need a renderer (``want``) and that they are done (``release``); the tenant reads the sum and
sizes its Deployment. Nothing is written anywhere: after a restart every unfinished job says so again. Called by the wiring.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

WorkKey = tuple[str, tuple[str, str]]
"""What needs a renderer: "job" or "registry", and the object's (namespace, name)."""


@dataclass(slots=True)
class _Entry:
    active: set[WorkKey] = field(default_factory=set)
    last: datetime | None = None


class DemandBoard:
    """Sets of keys per tenant UID.

    ``on_change(uid, urgent)`` is called when the size that a tenant needs may have changed; urgent is the first work after none.
    """

    def __init__(self, on_change: Callable[[str, bool], None], since: datetime) -> None:
        """``since``: when this process began; nobody knows how long renderers were idle before, so idle time counts from then."""
        self._entries: dict[str, _Entry] = {}
        self._since = since
        self._on_change = on_change

    def want(self, tenant_uid: str, key: WorkKey) -> None:
        """The key needs a renderer until it is released. Saying it twice is saying it once."""
        entry = self._entries.setdefault(tenant_uid, _Entry())
        if key not in entry.active:
            urgent = not entry.active
            entry.active.add(key)
            self._on_change(tenant_uid, urgent)

    def release(self, tenant_uid: str, key: WorkKey, now: datetime) -> None:
        """The key needs no renderer any more, if it ever did; ``now`` starts the idle time when it was the last one."""
        entry = self._entries.get(tenant_uid)
        if entry is not None and key in entry.active:
            entry.active.remove(key)
            entry.last = max(now, entry.last) if entry.last else now
            if not entry.active:
                self._on_change(tenant_uid, False)

    def of(self, tenant_uid: str) -> tuple[int, datetime]:
        """How many keys are active, and when the last one was released."""
        entry = self._entries.get(tenant_uid)
        return (len(entry.active), entry.last or self._since) if entry else (0, self._since)

    def keys(self, tenant_uid: str) -> tuple[WorkKey, ...]:
        """The active keys: those to wake when a renderer has become ready."""
        entry = self._entries.get(tenant_uid)
        return tuple(entry.active) if entry else ()

    def forget(self, tenant_uid: str) -> None:
        """The tenant is gone."""
        self._entries.pop(tenant_uid, None)
