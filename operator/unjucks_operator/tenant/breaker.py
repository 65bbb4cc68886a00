"""The brake against mass deletion: tells when so many Tenants are being deleted at once that it must be an accident.

Watches the store of Tenants and remembers when each was deleted, also for a while after it is gone. Decides nothing and writes
nothing: ``tenant.teardown`` asks for a verdict and holds. After a restart only Tenants that are still there are known; those that
were held say so in their status, which is asked too. Made by ``app``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from unjucks_operator.config.deletion import MassDeletion
from unjucks_operator.engine.store import ObjectKey, ResourceStore

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many Tenants are deleted around one of them. ``crowded``: there are enough Tenants for an accident to be possible."""

    deleted: int = 0
    total: int = 0
    allowed: int = 0

    @property
    def tripped(self) -> bool:
        """Whether these are too many to be meant."""
        return self.deleted > self.allowed

    @property
    def crowded(self) -> bool:
        """Whether there are more Tenants than may be deleted at once, so that waiting for more deletions makes sense."""
        return self.total > self.allowed


def judge(times: Iterable[datetime], living: int, at: datetime, settings: MassDeletion) -> Verdict:
    """The verdict for a Tenant deleted ``at``. ``times``: when each (with this one) was deleted; ``living``: how many are not."""
    window = timedelta(seconds=settings.window)
    deleted = sum(1 for time in times if abs(time - at) <= window)
    total = living + deleted
    return Verdict(deleted, total, max(settings.most, total * settings.share // 100))


class DeletionBreaker:
    """Remembers deletions; see the module's text."""

    def __init__(self, store: ResourceStore, settings: MassDeletion, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._now = now
        self._store = store
        self._deleted: dict[str, datetime] = {}
        store.subscribe(self._notice)

    def verdict(self, body: Manifest) -> Verdict:
        """For one Tenant that is being deleted."""
        at = _deleted_at(body) or self._now()
        times = self._deleted | {body["metadata"]["uid"]: at}
        living = sum(1 for other in self._store if other["metadata"]["uid"] not in times)
        return judge(times.values(), living, at, self._settings)

    def _notice(self, _key: ObjectKey, _before: Manifest | None, after: Manifest | None) -> None:
        # One that goes without having been marked was no deletion that could be held (our memory was reset).
        if after is None or (at := _deleted_at(after)) is None:
            return
        self._deleted[after["metadata"]["uid"]] = at
        if len(self._deleted) > 2 * len(self._store) + 100:
            self._forget()

    def _forget(self) -> None:
        """Those that are gone and too old to count with anything that may still come."""
        present = {body["metadata"]["uid"] for body in self._store}
        oldest = self._now() - timedelta(seconds=2 * self._settings.window)
        self._deleted = {uid: at for uid, at in self._deleted.items() if uid in present or at >= oldest}


def _deleted_at(body: Manifest) -> datetime | None:
    text = body["metadata"].get("deletionTimestamp")
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None
    except ValueError:
        return None
