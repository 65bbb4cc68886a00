"""How many runs of a tenant's jobs may start within an hour: who gets in now, and when the others may come back.

The truth is the ledger; it is asked once for each tenant after a start, and counted along in memory from then on. Nothing is
written. A run counts once, however often it is tried. Those that wait get times of their own, in the order in which they came, so
that one free place does not wake them all. Called by ``job.reconcile`` and, for figures, by the usage collector.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from unjucks_api.reasons import Reason
from unjucks_operator.engine.store import ObjectKey
from unjucks_operator.errors import Waiting

WINDOW = timedelta(hours=1)
SHORTEST = 1.0
"""Seconds after which a waiting run comes back at the earliest."""

Starts = Callable[[str, timedelta], Awaitable[dict[str, datetime]]]
"""(role, window) -> run key and time of each run that started in it; ``database.usage``."""


@dataclass(slots=True)
class _Tenant:
    started: dict[str, datetime] = field(default_factory=dict)
    """By run key, oldest first."""
    waiting: dict[ObjectKey, None] = field(default_factory=dict)


class HourlyRoom:
    """See the module's text."""

    def __init__(self, starts: Starts, now: Callable[[], datetime]) -> None:
        self._starts = starts
        self._now = now
        self._tenants: dict[str, _Tenant] = {}

    async def enter(self, uid: str, role: str, key: ObjectKey, run_key: str, limit: int) -> None:
        """Count this run in, or raise Waiting (Queued) until there is room for it."""
        if uid not in self._tenants:
            known = await self._starts(role, WINDOW)
            self._tenants.setdefault(uid, _Tenant(dict(sorted(known.items(), key=lambda item: item[1]))))
        tenant, now = self._tenants[uid], self._now()
        if run_key in tenant.started:
            tenant.waiting.pop(key, None)
            return
        self._drop_old(tenant, now)
        free = limit - len(tenant.started)
        tenant.waiting.setdefault(key)
        place = list(tenant.waiting).index(key)
        if place < free:
            del tenant.waiting[key]
            tenant.started[run_key] = now
            return
        # The place that becomes free for this one: the n-th that runs out from now on.
        leaving = sorted(tenant.started.values())
        turn = leaving[min(place - free, len(leaving) - 1)] + WINDOW if leaving else now
        raise Waiting(
            f"the tenant started {limit} runs within the last 60 minutes, as many as its tier and spec.quota.jobs.perHour allow; "
            "this one starts when it is its turn",
            reason=Reason.QUEUED,
            after=max((turn - now).total_seconds(), SHORTEST),
        )

    def leave(self, key: ObjectKey) -> None:
        """The job is gone, or does not want to run any more."""
        for tenant in self._tenants.values():
            tenant.waiting.pop(key, None)

    def last_hour(self, uid: str) -> int | None:
        """Runs that started within the last hour; None when nobody asked since the start."""
        tenant = self._tenants.get(uid)
        if tenant is None:
            return None
        self._drop_old(tenant, self._now())
        return len(tenant.started)

    def forget(self, uid: str) -> None:
        """The tenant is gone."""
        self._tenants.pop(uid, None)

    @staticmethod
    def _drop_old(tenant: _Tenant, now: datetime) -> None:
        while tenant.started:
            oldest = next(iter(tenant.started))
            if tenant.started[oldest] > now - WINDOW:
                break
            del tenant.started[oldest]
