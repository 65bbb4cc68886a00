"""Makes Kubernetes count a quota that it passed over: until it has, it refuses every new object, and no tenant is Ready.

Why: the quota controller learns a new kind some half a minute after its CRD. A quota that limits that kind and was made before is
counted without it, and looked at again only when its limits change, or at the next full round: five minutes. So tenants that are
applied together with the chart would wait for minutes. A change of one limit makes the controller count; the tenant's own repair
puts the limit back, and Kubernetes counts once more. The limit is made lower for that moment, never higher.

Never touches a quota that is counted. Made by ``app``; decisions are ``plan_recount``, pure.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from unjucks_api import names
from unjucks_operator.engine.clock import Clock
from unjucks_operator.engine.rounds import Rounds
from unjucks_operator.errors import OperatorError
from unjucks_operator.kube.api import KubeApi, PatchType
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.resources import RESOURCE_QUOTA
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.tenant.observe import view_of_quota

_log = logging.getLogger(__name__)

PATIENCE = timedelta(seconds=5)
"""A quota is usually counted within a second; a younger one is left alone."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=5)
"""Between two tries at one quota; each pause is twice the one before, so a controller that is down costs little."""
_EVERY = 5.0


def plan_recount(quota: Child, now: datetime) -> dict[str, Any] | None:
    """A merge patch that lowers one limit by one; None for a quota that is counted, young, or going away."""
    if quota.deleting or quota.full is None or view_of_quota(quota).counted:
        return None
    if now - datetime.fromisoformat(quota.full["metadata"]["creationTimestamp"]) < PATIENCE:
        return None
    for name, limit in sorted((quota.full["spec"].get("hard") or {}).items()):
        if name.startswith("count/") and str(limit).isdigit() and int(limit) > 0:
            return {"metadata": {"uid": quota.uid}, "spec": {"hard": {name: str(int(limit) - 1)}}}
    return None


class QuotaRecounter(Rounds):
    """One endless task over the quotas in memory; it asks the API server for something only when one is not counted."""

    def __init__(self, api: KubeApi, quotas: ChildStore, *, clock: Clock) -> None:
        self._api = api
        self._quotas = quotas
        self._clock = clock
        self._next: dict[str, tuple[datetime, timedelta]] = {}
        """By UID: when it may be tried again, and the pause after that."""
        super().__init__(
            self.round,
            name="quota recount",
            pause=lambda: _EVERY,
            failed="unexpected error while quotas were counted again",
            clock=clock,
        )

    async def round(self) -> None:
        """Once over all quotas."""
        now = self._clock.wall()
        waiting = list(self._waiting(self._quotas, now))
        self._next = {quota.uid: self._next[quota.uid] for quota, _ in waiting if quota.uid in self._next}
        for quota, patch in waiting:
            due, pause = self._next.get(quota.uid, (now, FIRST_PAUSE))
            if now < due:
                continue
            self._next[quota.uid] = (now + pause, min(pause * 2, LONGEST_PAUSE))
            try:
                await self._api.patch(
                    RESOURCE_QUOTA,
                    quota.name,
                    quota.namespace,
                    patch,
                    patch_type=PatchType.MERGE,
                    manager=names.RECOUNT_HAND,
                    metadata_only=True,
                )
            except OperatorError as error:
                _log.warning("the quota of namespace %s could not be touched: %s", quota.namespace, error.message)
                continue
            _log.info("Kubernetes has not counted the quota of namespace %s; it was touched", quota.namespace)

    @staticmethod
    def _waiting(quotas: Iterable[Child], now: datetime) -> Iterable[tuple[Child, dict[str, Any]]]:
        for quota in quotas:
            patch = plan_recount(quota, now)
            if patch is not None:
                yield quota, patch
