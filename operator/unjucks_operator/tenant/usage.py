"""What tenants use, read now and then, and told only when it changed by enough: a figure in status must not make a storm of writes.

Pods, CPU and memory are what Kubernetes counts for the namespaces' quotas (already in memory), runs of the last hour are counted
where they start, sizes are asked one tenant at a time. Writes nothing: a tenant whose figures changed is sent back to work, and its
status takes what is reported here. Made by ``app``.
"""

import logging
import random
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from unjucks_api import names
from unjucks_api.conditions import timestamp
from unjucks_api.v1alpha1.common import quantity
from unjucks_operator.engine.clock import Clock
from unjucks_operator.engine.queue import Lane, WorkQueue
from unjucks_operator.engine.rounds import Rounds
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import OperatorError
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.tenant.observe import view_of_quota

_log = logging.getLogger(__name__)

SHARE = 4
"""A figure is told again when it moved by more than a quarter of what was told,"""
STEPS = {"millicores": 100, "mebibytes": 64, "jobs_last_hour": 0, "database_bytes": 256 * 1024}
"""and by more than this; pods always. A figure that becomes zero, or ceases to be, is always told."""
SIZES_EVERY = 10
"""Sizes are asked in each tenth round, another tenth of the tenants in each."""

Measure = Callable[[str], Awaitable[int | None]]
"""UID -> bytes, None when that is not known."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Figures of one tenant. Sizes are None until known."""

    millicores: int = 0
    mebibytes: int = 0
    pods: int = 0
    jobs_last_hour: int = 0
    database_bytes: int | None = None

    def facts(self) -> dict[str, Any]:
        """As status shows them."""
        facts: dict[str, Any] = {
            "cpu": f"{self.millicores}m",
            "memory": f"{self.mebibytes}Mi",
            "pods": self.pods,
            "jobsLastHour": self.jobs_last_hour,
        }
        return facts if self.database_bytes is None else facts | {"databaseBytes": self.database_bytes}

    @classmethod
    def told(cls, facts: Mapping[str, Any]) -> "Usage":
        """What an earlier process told."""
        return cls(
            _amount(facts.get("cpu"), Decimal(1000)),
            _amount(facts.get("memory"), Decimal(1) / 2**20),
            int(facts.get("pods") or 0),
            int(facts.get("jobsLastHour") or 0),
            facts.get("databaseBytes"),
        )


def worth_telling(told: Usage, now: Usage) -> bool:
    """Whether status should change."""
    if told.pods != now.pods:
        return True
    for name, step in STEPS.items():
        old, new = getattr(told, name) or 0, getattr(now, name)
        if new is None or old == new:
            continue
        if not old or not new or abs(new - old) > max(step, old // SHARE):
            return True
    return False


def sum_quotas(used: Iterable[Mapping[str, str]]) -> Usage:
    """Reserved CPU and memory, and pods, over all namespaces."""
    total = Usage()
    for item in used:
        total = replace(
            total,
            millicores=total.millicores + _amount(item.get("requests.cpu"), Decimal(1000)),
            mebibytes=total.mebibytes + _amount(item.get("requests.memory"), Decimal(1) / 2**20),
            pods=total.pods + _amount(item.get("pods"), Decimal(1)),
        )
    return total


def _amount(text: object, factor: Decimal) -> int:
    try:
        return round(quantity(str(text)) * factor) if text else 0
    except ValueError:
        return 0


class UsageBoard(Rounds):
    """One task, and what it found; see the module's text. ``last_hour``: UID -> runs, None when not known."""

    def __init__(
        self,
        *,
        tenants: ResourceStore,
        quotas: ChildStore,
        tenant_queue: WorkQueue[ObjectKey],
        last_hour: Callable[[str], int | None],
        database_bytes: Measure,
        interval: float,
        clock: Clock,
        rng: random.Random,
        now: Callable[[], datetime],
    ) -> None:
        self._tenants = tenants
        self._quotas = quotas
        self._queue = tenant_queue
        self._last_hour = last_hour
        self._database_bytes = database_bytes
        self._now = now
        self._told: dict[str, tuple[Usage, str]] = {}
        self._round = 0
        super().__init__(
            self.refresh,
            name="usage",
            pause=lambda: interval * rng.uniform(0.9, 1.1),
            failed="usage could not be read",
            clock=clock,
        )

    def of(self, uid: str, status: Mapping[str, Any]) -> dict[str, Any]:
        """The figures for a status: those told last, by this process or, after a restart, by the one before."""
        usage, refreshed = self._known(uid, status)
        return usage.facts() | ({"refreshedAt": refreshed} if refreshed else {})

    async def refresh(self) -> list[str]:
        """Read all figures once; the names of tenants whose status will tell new ones."""
        changed = []
        self._round += 1
        for body in self._tenants:
            uid, name = body["metadata"]["uid"], body["metadata"]["name"]
            if body["metadata"].get("deletionTimestamp"):
                continue
            told, _ = self._known(uid, body.get("status") or {})
            usage = await self._measure(uid, told)
            if worth_telling(told, usage):
                self._told[uid] = usage, timestamp(self._now())
                self._queue.add(("", name), Lane.RESYNC)
                changed.append(name)
        present = {body["metadata"]["uid"] for body in self._tenants}
        self._told = {uid: known for uid, known in self._told.items() if uid in present}
        return changed

    async def _measure(self, uid: str, told: Usage) -> Usage:
        quotas = [child for child in self._quotas.indexed(uid) if child.name == names.QUOTA]
        jobs = self._last_hour(uid)
        usage = replace(
            sum_quotas(view_of_quota(child).used for child in quotas),
            jobs_last_hour=told.jobs_last_hour if jobs is None else jobs,
            database_bytes=told.database_bytes,
        )
        if (zlib.crc32(uid.encode()) + self._round) % SIZES_EVERY:
            return usage
        size = await _asked(self._database_bytes, uid)
        return usage if size is None else replace(usage, database_bytes=size)

    def _known(self, uid: str, status: Mapping[str, Any]) -> tuple[Usage, str]:
        if uid in self._told:
            return self._told[uid]
        facts = status.get("usage") or {}
        return Usage.told(facts), str(facts.get("refreshedAt") or "")


async def _asked(measure: Measure, uid: str) -> int | None:
    try:
        return await measure(uid)
    except OperatorError:
        return None
