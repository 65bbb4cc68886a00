"""Plans: what a reconcile wants done, as data. Every kind's ``plan.py`` returns a ``Plan``; ``apply.py`` carries it out.

A plan is a list of stages. Stages run in order, the actions of one stage side by side; a stage that fails blocks those after it.
Each stage proves conditions, so that status says exactly how far things are. Pure data: no I/O, no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unjucks_api.conditions import ConditionType
from unjucks_api.reasons import Reason

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Apply:
    """Bring a child to this state, by server-side apply under ``manager``."""

    manifest: Manifest
    manager: str
    adopt: str | None = None
    """UID of an existing object without an owner that was handed over to us."""


@dataclass(frozen=True, slots=True)
class RequireEmpty:
    """Go on only when the namespace holds nothing that was let in before its guards stood: pods, RoleBindings, NetworkPolicies."""

    namespace: str
    tenant_uid: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Stop here: somebody has to change something outside the spec first."""

    message: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly the child with this UID."""

    kind: str
    namespace: str | None
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class IssueCertificate:
    """Make a fresh key and certificate for the tenant's pods and put them into ``manifest`` (a Secret without data)."""

    manifest: Manifest
    identity: str
    manager: str
    result: str = "certificate"
    """Under which name the outcome tells what the Secret looked like afterwards."""


@dataclass(frozen=True, slots=True)
class EnsureDatabase:
    """The tenant's role, mapping row and grants in PostgreSQL, and its own database when it has one.

    ``wanted``: where the rows shall be when the spec says so (Shared, Dedicated); ``first``: where a new tenant's go otherwise.
    """

    uid: str
    name: str
    wanted: str = ""
    first: str = "Shared"


@dataclass(frozen=True, slots=True)
class MoveDatabase:
    """One step of moving the tenant's rows to ``target``; empty: of taking back a move that the spec does not ask for any more."""

    uid: str
    name: str
    target: str


@dataclass(frozen=True, slots=True)
class RenewLogin:
    """The tenant's login works and stands in ``manifest`` (a Secret without data).

    A new password is made when there is none, when it is ``every`` seconds old, and when the rows moved. ``there``: the version
    that the Secret carries now. The password before ends ``overlap`` seconds after the new one.
    """

    uid: str
    manifest: Manifest
    there: str
    every: float
    overlap: float


@dataclass(frozen=True, slots=True)
class DropLogin:
    """End the tenant's login at PostgreSQL."""

    uid: str


@dataclass(frozen=True, slots=True)
class RetireDatabase:
    """Take the tenant's database identity out of use and keep its rows (a tombstone)."""

    uid: str
    name: str


@dataclass(frozen=True, slots=True)
class DropDatabase:
    """Delete the tenant's rows and role for good."""

    uid: str


@dataclass(frozen=True, slots=True)
class CacheUser:
    """A tenant's user at Redis as it shall be: SHA-256 digests of its passwords, none when nobody may log in; or no user at all."""

    hashes: frozenset[str] = frozenset()
    exists: bool = True


@dataclass(frozen=True, slots=True)
class EnsureCacheUser:
    """Make the tenant's user at Redis right on every server."""

    uid: str
    user: CacheUser


@dataclass(frozen=True, slots=True)
class IssueCacheCredential:
    """Make a fresh password for Redis and put it into ``manifest`` (a Secret without data). ``previous``: the digest of the one
    that stays good for a while; empty when none does."""

    uid: str
    manifest: Manifest
    previous: str


@dataclass(frozen=True, slots=True)
class PurgeCache:
    """Remove the tenant's user and all its keys at Redis."""

    uid: str


@dataclass(frozen=True, slots=True)
class SetFinalizers:
    """Replace the object's own finalizers."""

    finalizers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing to do but wait: a fact of the outside has to change first. Blocks the stages after it."""

    message: str
    after: float
    reason: Reason = Reason.PROGRESSING


Action = (
    Apply
    | RequireEmpty
    | Refuse
    | Delete
    | IssueCertificate
    | EnsureDatabase
    | MoveDatabase
    | RenewLogin
    | DropLogin
    | RetireDatabase
    | DropDatabase
    | EnsureCacheUser
    | IssueCacheCredential
    | PurgeCache
    | SetFinalizers
    | Hold
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Actions that may run side by side, and the conditions that are true once all of them succeeded.

    ``blocking`` False: later stages do not depend on it and run although it failed.
    """

    name: str
    actions: tuple[Action, ...] = ()
    proves: tuple[ConditionType, ...] = ()
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in order. ``requeue_after``: seconds after which to look again although nothing changed (None: never)."""

    stages: tuple[Stage, ...] = ()
    requeue_after: float | None = None

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions in order; for tests and logs."""
        return tuple(action for stage in self.stages for action in stage.actions)


@dataclass(slots=True)
class Outcome:
    """What came of a plan: per stage the error that stopped it (None: it succeeded), and ``stopped`` when one failed."""

    errors: dict[str, Exception | None] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    failed: list[tuple[Action, Exception]] = field(default_factory=list)
    """Each action that did not succeed; those of one stage run side by side, so that there may be several."""

    @property
    def stopped(self) -> Exception | None:
        """The first error, or None."""
        return next((error for error in self.errors.values() if error is not None), None)


def manifest_key(manifest: Mapping[str, Any]) -> tuple[str, str, str]:
    """``(kind, namespace, name)``; the namespace is empty for cluster-scoped objects."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]
