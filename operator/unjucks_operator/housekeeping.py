"""What tenants' records no longer need is deleted: ended runs after the tier's retention, trees and catalogues that nothing serves.

Deletes rows of living tenants only, acting as each tenant; never touches an object of the cluster, nor a tenant that goes away.
A tree is deleted only when two rounds in a row found nobody who names it: a job that began a moment before its registry moved on
still finds what it reads. Made by ``app``; decisions are ``plan_housekeeping``, pure.
"""

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config.tiers import Tiers
from unjucks_operator.database.artifacts import Artifacts
from unjucks_operator.database.catalogs import Catalogs
from unjucks_operator.database.ledger import Ledger
from unjucks_operator.engine.clock import Clock
from unjucks_operator.engine.rounds import Rounds
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.errors import OperatorError

_log = logging.getLogger(__name__)

UNUSED_FOR = timedelta(days=1)
"""A tree stored more recently is spared: the status that names it may not be written yet."""


@dataclass(frozen=True, slots=True)
class Chore:
    """What to keep for one tenant. ``jobs``: UIDs of the jobs that exist. ``digests``: trees that something names."""

    tenant: str
    role: str
    jobs: frozenset[str]
    digests: frozenset[str]
    retention: timedelta


def plan_housekeeping(
    tenants: Iterable[Mapping[str, Any]],
    registries: Iterable[Mapping[str, Any]],
    jobs: Iterable[Mapping[str, Any]],
    roles: Mapping[str, str],
    tiers: Tiers,
) -> list[Chore]:
    """One chore for each tenant whose database part is known to be right; objects as they were read from the API server."""
    digests: dict[str, set[str]] = {}
    living: dict[str, set[str]] = {}
    for body in registries:
        # History and other places where a later version of the API may name a tree count too.
        digests.setdefault(body["metadata"]["namespace"], set()).update(
            _digests(body.get("spec")), _digests(body.get("status"))
        )
    for body in jobs:
        namespace = body["metadata"]["namespace"]
        living.setdefault(namespace, set()).add(body["metadata"]["uid"])
        digests.setdefault(namespace, set()).update(_digests(body.get("spec")), _digests(body.get("status")))
    chores = []
    for body in tenants:
        role = roles.get(body["metadata"]["uid"])
        if role is None or body["metadata"].get("deletionTimestamp"):
            continue
        try:
            tenant = Tenant.parse(dict(body))
        except InvalidObjectError:
            continue  # what cannot be read is not guessed at: its records stay
        chores.append(
            Chore(
                tenant.name,
                role,
                frozenset().union(*(living.get(name, ()) for name in tenant.namespaces)),
                frozenset().union(*(digests.get(name, ()) for name in tenant.namespaces)),
                timedelta(days=tiers[tenant.spec.tier.value].history_days),
            )
        )
    return chores


def _digests(value: Any) -> Iterable[str]:
    """Every text in there that has the form of a digest, under whatever name."""
    if isinstance(value, str):
        if value.startswith("sha256:"):
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _digests(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _digests(item)


class Housekeeper(Rounds):
    """One endless task: a round over all tenants, slowly. ``roles``: UIDs of tenants to their database roles."""

    def __init__(
        self,
        *,
        tenants: ResourceStore,
        registries: ResourceStore,
        jobs: ResourceStore,
        roles: Callable[[], Mapping[str, str]],
        tiers: Tiers,
        ledger: Ledger,
        artifacts: Artifacts,
        catalogs: Catalogs,
        interval: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._tenants = tenants
        self._registries = registries
        self._jobs = jobs
        self._roles = roles
        self._tiers = tiers
        self._ledger = ledger
        self._artifacts = artifacts
        self._catalogs = catalogs
        self._before: dict[str, frozenset[str]] = {}
        super().__init__(
            self.round,
            name="housekeeping",
            pause=lambda: interval * rng.uniform(0.9, 1.1),
            failed="unexpected error in housekeeping",
            clock=clock,
        )

    async def round(self) -> None:
        """Once over all tenants. One whose records cannot be reached is left for the next round."""
        chores = plan_housekeeping(self._tenants, self._registries, self._jobs, self._roles(), self._tiers)
        before, self._before = self._before, {chore.role: chore.digests for chore in chores}
        for chore in chores:
            try:
                runs = await self._ledger.prune(chore.role, chore.jobs, older_than=chore.retention)
                trees: tuple[str, ...] = ()
                catalogs = 0
                if chore.role in before:
                    keep = chore.digests | before[chore.role]
                    catalogs = await self._catalogs.prune_unreferenced(chore.role, keep, unused_for=UNUSED_FOR)
                    trees = await self._artifacts.prune_unreferenced(chore.role, keep, unused_for=UNUSED_FOR)
            except OperatorError as error:
                _log.warning("records of tenant %s could not be tidied: %s", chore.tenant, error.message)
                continue
            if runs or trees or catalogs:
                _log.info(
                    "tenant %s: deleted %d ended runs, %d trees and %d catalogues that nothing needs",
                    chore.tenant, runs, len(trees), catalogs,
                )  # fmt: skip
