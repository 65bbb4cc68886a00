"""The tenant's part at PostgreSQL: what is made, moved or rotated now, and what status says of it. Pure; no request, no clock.

Called by ``tenant.plan``, ``teardown`` and ``status``; ``DatabaseMemory`` is held by the reconciler.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from unjucks_api import names
from unjucks_api.conditions import Condition, ConditionType, timestamp
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.tenant import DatabaseMode
from unjucks_operator.planning import (
    Action,
    Delete,
    DropLogin,
    EnsureDatabase,
    Manifest,
    MoveDatabase,
    Outcome,
    RenewLogin,
    Stage,
)
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.facts import ChildKey, ChildView, DatabaseView

STAGES = ("database", "move", "credentials")
_PHASES = {"rolling-back": "RollingBack"}


class HomeState(Protocol):
    """What a call to the database part answers; ``database.homes.HomeState``."""

    @property
    def role(self) -> str:
        """The tenant's role."""

    @property
    def usable(self) -> bool:
        """Whether anybody may act as the tenant."""


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """The stages, and seconds until time alone changes them."""

    stages: tuple[Stage, ...]
    look_again: float | None = None


@dataclass(slots=True)
class DatabaseMemory:
    """What the reconciler remembers between runs; losing it costs a few reads for each tenant."""

    views: dict[str, DatabaseView] = field(default_factory=dict)
    _signatures: dict[str, str] = field(default_factory=dict)

    def view(self, uid: str, known: bool, signature: str | None) -> DatabaseView | None:
        """What is known; None when it has to be looked at again (``known``: the sweep found nothing wrong since)."""
        view = self.views.get(uid) if known else None
        if view is None:
            return None
        written = self._signatures.get(uid)
        return view if written is None or signature is None or written == signature else view.with_drift()

    def remember(self, uid: str, outcome: Outcome, signature: str | None) -> None:
        """Take over what the calls answered."""
        state = outcome.results.get("home")
        if state is not None:
            self.views[uid] = _view(state)
        if "login" in outcome.results and uid in self.views:
            self.views[uid] = self.views[uid].with_login(outcome.results["login"])
        if outcome.results.get("login written") and signature is not None:
            self._signatures[uid] = signature

    def forget(self, uid: str) -> None:
        """The tenant is gone."""
        self.views.pop(uid, None)
        self._signatures.pop(uid, None)


def _view(state: Any) -> DatabaseView:
    return DatabaseView(
        home=state.home.value.capitalize(),
        database=state.database,
        move_to=state.move_to.value.capitalize() if state.move_to else "",
        move_phase=state.move_phase.value if state.move_phase else "",
        move_started_at=state.move_started_at,
    ).with_login(state.login)


def check_database(scope: Scope) -> str | None:
    """Why the spec asks for something that the tier or the platform does not give; None when it does not."""
    asked, tier = scope.tenant.spec.database, scope.tier
    settings = scope.config.database
    name = scope.tenant.spec.tier.value
    if asked.mode is DatabaseMode.DEDICATED and tier.dedicated_database == "Never":
        return f"spec.database.mode is Dedicated, which the tier {name} does not have; choose Shared, or another tier"
    if asked.mode is DatabaseMode.DEDICATED and not settings.dedicated.enabled:
        return "spec.database.mode is Dedicated, but the platform gives no databases to single tenants; choose Shared"
    if asked.direct_access and not settings.direct.enabled:
        return "spec.database.directAccess is true, but the platform gives no logins to tenants; set it to false"
    if asked.direct_access and asked.mode is DatabaseMode.NONE:
        return "spec.database.directAccess is true, but mode is None: there is nothing to log in to"
    return None


def plan_database(
    scope: Scope,
    children: Mapping[ChildKey, ChildView],
    role: str | None,
    view: DatabaseView | None,
    now: datetime,
) -> DatabasePlan:
    """Identity and home, then a move when the spec asks for another home, then the login. None of them holds up the others."""
    proves = (ConditionType.DATABASE_READY,)
    asked = scope.tenant.spec.database
    secret = children.get(("Secret", scope.home, names.database_secret(scope.tenant.name)))
    if asked.mode is DatabaseMode.NONE:
        return DatabasePlan(
            (
                Stage("database", (), proves, blocking=False),
                Stage("credentials", (), (ConditionType.CREDENTIALS_READY,), blocking=False),
            )
        )
    if check_database(scope) is not None:
        # The reconciler says so. What is there stays as it is, and works.
        kept = () if role is not None else (_ensure(scope, wanted=""),)
        return DatabasePlan((Stage("database", kept, proves, blocking=False),))
    wanted = asked.mode.value if asked.mode else ""
    known = view if role is not None else None
    ensure: tuple[Action, ...] = () if known is not None else (_ensure(scope, wanted=wanted),)
    move: tuple[Action, ...] = ()
    if known is None or known.move_phase or (wanted and wanted != known.home):
        move = (MoveDatabase(scope.tenant.uid, scope.tenant.name, wanted),)
    credentials, again = _plan_login(scope, secret, known, now)
    return DatabasePlan(
        (
            Stage("database", ensure, proves, blocking=False),
            Stage("move", move, proves, blocking=False),
            Stage("credentials", credentials, (ConditionType.CREDENTIALS_READY,), blocking=False),
        ),
        again,
    )


def _ensure(scope: Scope, *, wanted: str) -> EnsureDatabase:
    default = scope.tier.dedicated_database == "Default" and scope.config.database.dedicated.enabled
    first = DatabaseMode.DEDICATED if default else DatabaseMode.SHARED
    return EnsureDatabase(scope.tenant.uid, scope.tenant.name, wanted, first.value)


def build_login_secret(scope: Scope) -> Manifest:
    """The Secret of the tenant's login, without its data, which is made where the password is."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": scope.metadata(names.database_secret(scope.tenant.name), scope.home, names.COMPONENT_DATABASE),
    }


def _plan_login(
    scope: Scope, secret: ChildView | None, view: DatabaseView | None, now: datetime
) -> tuple[tuple[Action, ...], float | None]:
    uid, name = scope.tenant.uid, names.database_secret(scope.tenant.name)
    if not scope.tenant.spec.database.direct_access:
        drop: list[Action] = []
        if view is None or view.login_version or view.login_pending:
            drop.append(DropLogin(uid))
        if secret is not None and not secret.deleting:
            drop.append(Delete("Secret", scope.home, name, secret.uid))
        return tuple(drop), None
    settings = scope.config.database.direct
    every = scope.tenant.spec.database.rotation.seconds or settings.rotate_every
    overlap = min(settings.overlap, every / 2)
    there = secret.annotations.get(names.ANNOTATION_CREDENTIAL_VERSION, "") if secret and not secret.deleting else ""
    right = (
        view is not None
        and bool(there)
        and there == view.login_version
        and not view.login_drifted
        and view.login_shared is (view.home == DatabaseMode.SHARED)
        and view.rotated_at is not None
    )
    if view is not None and view.login_drifted:
        there = ""
    renew = RenewLogin(uid, build_login_secret(scope), there, every, overlap)
    if not right or view is None or view.rotated_at is None:
        return (renew,), None
    due = (view.rotated_at + timedelta(seconds=every) - now).total_seconds()
    ends = (view.retire_at - now).total_seconds() if view.retire_at else None
    if due <= 0 or (ends is not None and ends <= 0):
        return (renew,), None
    return (), min(due, ends if ends is not None else due) + 1.0


def database_conditions(view: DatabaseView | None) -> list[Condition]:
    """What is said beside the stages: a move that is under way."""
    if view is None or not view.move_phase:
        return []
    text = f"the rows move to {view.move_to}: {_phase(view)}"
    return [Condition(ConditionType.MIGRATING, "True", Reason.MIGRATING, text)]


def credentials_condition(scope: Scope) -> Condition:
    """The good word, when nothing is left to do."""
    kind = ConditionType.CREDENTIALS_READY
    if not scope.tenant.spec.database.direct_access:
        return Condition(
            kind, "True", Reason.DIRECT_ACCESS_DISABLED, "spec.database.directAccess is false: there is no login"
        )
    return Condition(kind, "True", Reason.RECONCILED, "the Secret holds a login that works")


def database_facts(scope: Scope, role: str | None, view: DatabaseView | None) -> dict[str, Any]:
    """``status.database``."""
    spec = scope.tenant.spec.database
    if spec.mode is DatabaseMode.NONE:
        return {"mode": DatabaseMode.NONE.value, "state": "Disabled"}
    if role is None or view is None:
        return {"mode": spec.mode.value if spec.mode else "", "state": "Pending"} if spec.mode else {"state": "Pending"}
    facts: dict[str, Any] = {"mode": view.home, "name": view.database, "role": role, "state": "Ready"}
    if spec.direct_access and view.login_version and view.rotated_at is not None:
        facts["secret"] = f"{scope.home}/{names.database_secret(scope.tenant.name)}"
        facts["rotatedAt"] = timestamp(view.rotated_at)
    if view.move_phase:
        facts["migration"] = {"to": view.move_to, "phase": _phase(view)}
        if view.move_started_at is not None:
            facts["migration"]["startedAt"] = timestamp(view.move_started_at)
    return facts


def database_word(scope: Scope, view: DatabaseView | None) -> str:
    """The column of ``kubectl get``."""
    mode = scope.tenant.spec.database.mode
    if view is not None and mode is not DatabaseMode.NONE:
        return "moving" if view.move_phase else view.home.lower()
    return mode.value.lower() if mode else "pending"


def _phase(view: DatabaseView) -> str:
    return _PHASES.get(view.move_phase, view.move_phase.capitalize())
