"""The tenant's part at Redis: which user there shall be, its Secret, when the password is replaced. Pure; no request, no clock.

All that a restart must not lose stands on the Secret as annotations: digests of the passwords, and when the newest was made. So the
user can be made anew after Redis forgot it, without reading the password. Called by ``tenant.plan``, ``teardown`` and ``status``;
``CacheMemory`` is held by the reconciler.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from unjucks_api import names
from unjucks_api.conditions import Condition, ConditionType, timestamp
from unjucks_api.reasons import Reason
from unjucks_operator.planning import (
    Action,
    CacheUser,
    Delete,
    EnsureCacheUser,
    IssueCacheCredential,
    Manifest,
    Outcome,
    PurgeCache,
    Stage,
)
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import CacheView, ChildKey, ChildView

STAGE = "cache"
NO_USER = CacheUser(exists=False)
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CachePlan:
    """The stage, and seconds until time alone changes it."""

    stage: Stage
    look_again: float | None = None


@dataclass(frozen=True, slots=True)
class _Issued:
    """What a Secret's annotations say, checked: they can be edited by whoever may write the Secret."""

    current: str
    previous: str
    at: datetime


@dataclass(slots=True)
class CacheMemory:
    """What the reconciler remembers between runs; losing it costs one comparison at Redis for each tenant."""

    available: bool = False
    known: dict[str, CacheUser] = field(default_factory=dict)
    """Users that are right on every server, by tenant UID; the watch removes what drifted."""
    _signatures: dict[str, str] = field(default_factory=dict)

    def view(self, uid: str, signature: str | None) -> CacheView:
        """``signature`` is that of the tenant's Secret now, None without one."""
        written = self._signatures.get(uid)
        return CacheView(self.available, self.known.get(uid), written is not None and signature not in (None, written))

    def remember(self, uid: str, outcome: Outcome, signature: str | None) -> None:
        """After a run."""
        user = outcome.results.get(STAGE)
        if isinstance(user, CacheUser):
            self.known[uid] = user
            if outcome.results.get("cache credential") and signature is not None:
                self._signatures[uid] = signature

    def forget(self, uid: str) -> None:
        """The tenant is gone."""
        self.known.pop(uid, None)
        self._signatures.pop(uid, None)


def is_wanted(scope: Scope, view: CacheView) -> bool:
    """Whether there shall be a user; also when the platform cannot have one, which is then an error."""
    enabled = scope.tenant.spec.cache.enabled
    return view.available if enabled is None else enabled


def secret_key(scope: Scope) -> ChildKey:
    """Where the tenant's credential is."""
    return ("Secret", scope.home, names.cache_secret(scope.tenant.name))


def plan_cache(scope: Scope, children: Mapping[ChildKey, ChildView], view: CacheView, now: datetime) -> CachePlan:
    """User and Secret as the spec asks for them."""
    uid, spec = scope.tenant.uid, scope.tenant.spec.cache
    wanted = is_wanted(scope, view)
    with_secret = wanted and spec.direct_access and view.available
    actions: list[Action] = list(_superfluous(scope, children, keep_home=with_secret))
    look_again = None
    if not wanted:
        user = NO_USER if view.available else None
    elif not with_secret:
        user = CacheUser()
    else:
        issued = None if view.drifted else _read(children.get(secret_key(scope)), now)
        every, overlap = spec.rotation.seconds, scope.config.cache.rotation_overlap
        age = (now - issued.at).total_seconds() if issued else 0.0
        if issued is None or age >= every:
            actions.append(IssueCacheCredential(uid, _secret(scope, issued, now), issued.current if issued else ""))
            return CachePlan(_stage(actions), min(every, overlap) + 1.0 if issued else every + 1.0)
        hashes = {issued.current}
        look_again = every - age + 1.0
        if issued.previous and age < overlap:
            hashes.add(issued.previous)
            look_again = min(look_again, overlap - age + 1.0)
        user = CacheUser(frozenset(hashes))
    if user is not None and user != view.known:
        actions.append(EnsureCacheUser(uid, user))
    return CachePlan(_stage(actions), look_again)


def plan_cache_removal(scope: Scope, children: Mapping[ChildKey, ChildView], view: CacheView) -> tuple[Stage, Stage]:
    """Two stages of a teardown: nobody can log in any more (early, and held up by nothing), and the keys go (before the end)."""
    early: list[Action] = list(_superfluous(scope, children, keep_home=False))
    if not view.available:
        return Stage("cache access", tuple(early)), Stage("cache keys")
    early.append(EnsureCacheUser(scope.tenant.uid, NO_USER))
    return Stage("cache access", tuple(early), blocking=False), Stage("cache keys", (PurgeCache(scope.tenant.uid),))


def cache_condition(scope: Scope, view: CacheView) -> Condition:
    """What to say when the stage succeeded."""
    kind = ConditionType.CACHE_READY
    if is_wanted(scope, view):
        return Condition(kind, "True", Reason.RECONCILED, "the user is right on every Redis server")
    text = "spec.cache.enabled is false" if scope.tenant.spec.cache.enabled is False else "the platform has no Redis"
    return Condition(kind, "True", Reason.CACHE_DISABLED, text)


def cache_facts(scope: Scope, children: Mapping[ChildKey, ChildView], view: CacheView, now: datetime) -> dict[str, Any]:
    """``status.cache``."""
    if not is_wanted(scope, view):
        return {"state": "Disabled"}
    uid = scope.tenant.uid
    ready = view.known is not None and view.known.exists
    facts: dict[str, Any] = {"state": "Ready" if ready else "Pending"}
    if view.available:
        facts |= {"user": names.cache_user(uid), "prefix": names.cache_prefix(uid)}
    _, namespace, name = secret_key(scope)
    issued = _read(children.get(secret_key(scope)), now)
    if scope.tenant.spec.cache.direct_access and issued is not None:
        facts |= {"secret": f"{namespace}/{name}", "rotatedAt": timestamp(issued.at)}
    return facts


def _stage(actions: Iterable[Action]) -> Stage:
    return Stage(STAGE, tuple(actions), (ConditionType.CACHE_READY,))


def _secret(scope: Scope, before: _Issued | None, now: datetime) -> Manifest:
    """The Secret without data and without the new digest, which are made where passwords are made."""
    _, namespace, name = secret_key(scope)
    metadata = scope.metadata(name, namespace, names.COMPONENT_CACHE)
    metadata["annotations"] = {names.ANNOTATION_CACHE_ROTATED_AT: timestamp(now)}
    if before is not None:
        metadata["annotations"][names.ANNOTATION_CACHE_PREVIOUS_HASH] = before.current
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}


def _read(view: ChildView | None, now: datetime) -> _Issued | None:
    """None when there is no Secret, or its annotations are not ours any more: then a new password is made."""
    if view is None or view.deleting:
        return None
    current = view.annotations.get(names.ANNOTATION_CACHE_HASH, "")
    previous = view.annotations.get(names.ANNOTATION_CACHE_PREVIOUS_HASH, "")
    try:
        at = datetime.fromisoformat(view.annotations.get(names.ANNOTATION_CACHE_ROTATED_AT, ""))
        if at.tzinfo is None or at > now + timedelta(minutes=5):
            return None
    except ValueError:
        return None
    if not _HASH.fullmatch(current) or (previous and not _HASH.fullmatch(previous)):
        return None
    return _Issued(current, previous, at)


def _superfluous(scope: Scope, children: Mapping[ChildKey, ChildView], *, keep_home: bool) -> Iterable[Delete]:
    """Secrets with a credential where none shall be: direct access was switched off, or another namespace is the first now."""
    _, home, name = secret_key(scope)
    for (kind, namespace, child), view in children.items():
        if kind == "Secret" and child == name and not view.deleting and not (keep_home and namespace == home):
            yield Delete(kind, namespace, child, view.uid)
