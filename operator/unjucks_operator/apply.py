"""Carries out plans: the one place where a planned action becomes a request or a statement.

Stages in order, the actions of a stage side by side; the first error of a blocking stage stops what comes after it. Errors are
returned, not raised: status tells the user, the reconcile loop decides about another try. Knows nothing of why an action is
wanted. Called by the reconcilers of the three kinds.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.errors import Bug, Conflict, OperatorError, OwnershipConflict, Retryable, Terminal, Waiting
from unjucks_operator.kube.adoption import require_empty
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.resources import BY_KIND, Resource
from unjucks_operator.planning import (
    Action,
    Apply,
    CacheUser,
    Delete,
    DropDatabase,
    DropLogin,
    EnsureCacheUser,
    EnsureDatabase,
    Hold,
    IssueCacheCredential,
    IssueCertificate,
    Manifest,
    MoveDatabase,
    Outcome,
    Plan,
    PurgeCache,
    Refuse,
    RenewLogin,
    RequireEmpty,
    RetireDatabase,
    SetFinalizers,
    Stage,
)


class Children(Protocol):
    """Writes children; ``kube.children.ChildWriter``."""

    async def apply(self, manifest: Manifest, manager: str, *, adopt: str | None = None) -> object:
        """Bring the child to this state, with no request when it is there already. ``adopt``: UID of one that was handed over."""

    def skips(self, manifest: Manifest, manager: str) -> bool:
        """Whether ``apply`` has nothing to send."""

    def signature_left(self, manifest: Manifest, manager: str) -> str | None:
        """What tells later whether somebody changed the child since our last write."""


class TenantRecords(Protocol):
    """The tenants' part of the database; ``database.tenants.Tenants``."""

    async def ensure(self, uid: str, name: str, *, wanted: str = "", first: str = "Shared") -> Any:
        """Role, mapping row and grants, and where the rows are."""

    async def move(self, uid: str, name: str, target: str) -> Any:
        """One step of a move."""

    async def renew_login(self, uid: str, there: str, *, every: float, overlap: float) -> Any:
        """The login's state, or what to write into its Secret."""

    async def commit_login(self, uid: str, version: str, overlap: float) -> Any:
        """The Secret is written."""

    async def drop_login(self, uid: str) -> None:
        """There is no login any more."""

    async def retire(self, uid: str, name: str) -> Any:
        """A tombstone: nobody uses the identity any more, the rows stay."""

    async def drop(self, uid: str) -> Any:
        """Rows and role are deleted."""


class Credential(Protocol):
    """A fresh password and what belongs to it; ``cache.users.Credential``."""

    @property
    def data(self) -> Mapping[str, str]:
        """The Secret's keys and values."""

    @property
    def hash(self) -> str:
        """SHA-256 of the password."""


class CacheIdentities(Protocol):
    """The tenants' users at Redis; ``cache.users.CacheUsers``."""

    async def ensure(self, uid: str, hashes: frozenset[str]) -> None:
        """The user is right on every server."""

    async def remove(self, uid: str) -> None:
        """There is no user any more; its keys stay."""

    async def purge(self, uid: str) -> int:
        """Neither user nor keys are left."""

    def make_credential(self, uid: str) -> Credential:
        """A random password, known to nobody yet."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server certificate as the Secret of a renderer holds it; ``serial`` names the authority that made it."""

    data: Mapping[str, bytes]
    not_after: datetime
    serial: str


class Effects:
    """The outsides that actions need. ``issue`` makes a certificate for an identity."""

    def __init__(
        self,
        *,
        api: KubeApi,
        children: Children,
        tenants: TenantRecords,
        cache: CacheIdentities,
        issue: Callable[[str], Certificate],
    ) -> None:
        self._api = api
        self._children = children
        self._tenants = tenants
        self._cache = cache
        self._issue = issue

    async def carry_out(
        self, plan: Plan, resource: Resource, body: Manifest, on_written: Callable[[Manifest], None]
    ) -> Outcome:
        """Carry the plan out for the object ``body``. ``on_written`` gets the object's new state when its finalizers changed."""
        outcome = Outcome()
        for stage in plan.stages:
            error = await self._stage(stage, resource, body, on_written, outcome)
            outcome.errors[stage.name] = error
            if error is not None and stage.blocking:
                break
        return outcome

    async def _stage(
        self,
        stage: Stage,
        resource: Resource,
        body: Manifest,
        on_written: Callable[[Manifest], None],
        outcome: Outcome,
    ) -> Exception | None:
        actions = [it for it in stage.actions if not (isinstance(it, Apply) and self._settled(it))]
        if not actions:
            return None
        steps = [self._act(action, resource, body, on_written, outcome) for action in actions]
        if len(steps) == 1:
            results: list[BaseException | None] = [await _caught(steps[0])]
        else:
            results = list(await asyncio.gather(*steps, return_exceptions=True))
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result  # cancelled
        errors = [result for result in results if isinstance(result, Exception)]
        failed = zip(actions, results, strict=True)
        outcome.failed.extend((action, result) for action, result in failed if isinstance(result, Exception))
        return min(errors, key=_severity) if errors else None

    def _settled(self, action: Apply) -> bool:
        try:
            return self._children.skips(action.manifest, action.manager)
        except Exception:
            return False  # a manifest that cannot be looked at: carrying it out tells what is wrong with it

    async def _act(
        self,
        action: Action,
        resource: Resource,
        body: Manifest,
        on_written: Callable[[Manifest], None],
        outcome: Outcome,
    ) -> None:
        match action:
            case Apply(manifest, manager, adopt):
                await self._children.apply(manifest, manager, adopt=adopt)
            case RequireEmpty(namespace, uid):
                await require_empty(self._api, namespace, uid)
            case Refuse(message, reason):
                raise OwnershipConflict(message, reason=reason)
            case Delete(kind, namespace, name, uid):
                await self._api.delete(BY_KIND[kind], name, namespace, uid=uid)
            case IssueCertificate(manifest, identity, manager, result):
                await self._children.apply(_with_certificate(manifest, self._issue(identity)), manager)
                outcome.results[result] = self._children.signature_left(manifest, manager)
            case EnsureDatabase(uid, name, wanted, first):
                database = await self._tenants.ensure(uid, name, wanted=wanted, first=first)
                if not database.usable:
                    raise Terminal(
                        f"the database knows this Tenant (UID {uid}) as retired, and a retired one never comes back: make a new "
                        "Tenant, or ask an administrator for its rows",
                        reason=Reason.DATABASE_UNAVAILABLE,
                    )
                outcome.results["database"] = outcome.results["home"] = database
            case MoveDatabase(uid, name, target):
                await self._move(uid, name, target, outcome)
            case RenewLogin():
                await self._renew_login(action, outcome)
            case DropLogin(uid):
                home = outcome.results.get("home")
                if home is None or home.login is not None:  # else this very run saw that there is none
                    await self._tenants.drop_login(uid)
                outcome.results["login"] = None
            case RetireDatabase(uid, name):
                await self._tenants.retire(uid, name)
            case DropDatabase(uid):
                await self._tenants.drop(uid)
            case EnsureCacheUser(uid, user):
                await (self._cache.ensure(uid, user.hashes) if user.exists else self._cache.remove(uid))
                outcome.results["cache"] = user
            case IssueCacheCredential(uid, manifest, previous):
                credential = self._cache.make_credential(uid)
                hashes = frozenset(filter(None, (credential.hash, previous)))
                # Redis knows the password before anybody else does: what the Secret says always works.
                await self._cache.ensure(uid, hashes)
                await self._children.apply(_with_credential(manifest, credential), names.MANAGER_CACHE)
                outcome.results["cache"], outcome.results["cache credential"] = CacheUser(hashes), True
            case PurgeCache(uid):
                await self._cache.purge(uid)
            case SetFinalizers(finalizers):
                metadata = body["metadata"]
                written = await self._api.set_finalizers(
                    resource,
                    metadata["name"],
                    metadata.get("namespace"),
                    finalizers,
                    resource_version=metadata["resourceVersion"],
                )
                on_written(written)
            case Hold(message, after, reason):
                raise Waiting(message, after=after, reason=reason)

    async def _move(self, uid: str, name: str, target: str, outcome: Outcome) -> None:
        """One step; Waiting until the rows are where they shall be, so that status can tell of each."""
        home = outcome.results.get("home")
        if home is not None and home.move_phase is None and (not target or home.home == target.lower()):
            return
        _require_identity(outcome)
        state = outcome.results["home"] = await self._tenants.move(uid, name, target)
        if state.move_phase is not None or (target and state.home != target.lower()):
            raise Waiting(
                f"the rows of the tenant are moving to {state.move_to or target}: {state.move_phase or 'to be continued'}",
                reason=Reason.MIGRATING,
                after=0.05,
            )

    async def _renew_login(self, action: RenewLogin, outcome: Outcome) -> None:
        _require_identity(outcome)
        answer = await self._tenants.renew_login(action.uid, action.there, every=action.every, overlap=action.overlap)
        data = getattr(answer, "data", None)
        if data is not None:
            # The database knows the password before anybody else does: what the Secret says always works.
            await self._children.apply(_with_login(action.manifest, answer.version, data), names.MANAGER_DATABASE)
            outcome.results["login written"] = True
            answer = await self._tenants.commit_login(action.uid, answer.version, answer.overlap)
        outcome.results["login"] = answer


def _require_identity(outcome: Outcome) -> None:
    error = outcome.errors.get("database")
    if error is not None:
        raise error


async def _caught(step: Awaitable[None]) -> Exception | None:
    try:
        await step
    except Exception as error:
        return error
    return None


def _severity(error: Exception) -> int:
    """What to report when several actions of a stage failed: what only the user can mend comes first."""
    order = (Terminal, Bug, Retryable, Waiting)
    if isinstance(error, Conflict):
        return len(order)  # heals at once
    if not isinstance(error, OperatorError):
        return 1
    return next((number for number, kind in enumerate(order) if isinstance(error, kind)), 1)


def _with_credential(manifest: Manifest, credential: Credential) -> Manifest:
    annotations = manifest["metadata"].get("annotations", {}) | {names.ANNOTATION_CACHE_HASH: credential.hash}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in credential.data.items()}
    return manifest | {"metadata": manifest["metadata"] | {"annotations": annotations}, "data": data}


def _with_login(manifest: Manifest, version: str, values: Mapping[str, str]) -> Manifest:
    annotations = manifest["metadata"].get("annotations", {}) | {names.ANNOTATION_CREDENTIAL_VERSION: version}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in values.items()}
    return manifest | {"metadata": manifest["metadata"] | {"annotations": annotations}, "data": data}


def _with_certificate(manifest: Manifest, certificate: Certificate) -> Manifest:
    annotations = {
        names.ANNOTATION_CERT_NOT_AFTER: certificate.not_after.astimezone(UTC).isoformat(timespec="seconds"),
        names.ANNOTATION_CERT_SERIAL: certificate.serial,
    }
    metadata = manifest["metadata"] | {"annotations": manifest["metadata"].get("annotations", {}) | annotations}
    data = {name: base64.b64encode(content).decode() for name, content in certificate.data.items()}
    return manifest | {"metadata": metadata, "data": data}
