"""The child writer: makes one object be as planned, with as few requests as possible, and never touches what is not ours.

The rule. An object that the store does not hold is created with POST, which can not merge into a stranger's. One that exists and
is ours is applied (server-side apply, our fields forced) under a UID precondition. Nothing is sent while the desired state, the UID
and the ownership signature are those of our last write: any edit of our fields changes the signature, so hash equality is enough,
and no live value is ever compared with a desired one. So neither defaults nor normalised quantities can make a loop.

POST leaves our fields under operation Update. As long as the manifest's shape stays, a strategic merge patch under the same
identity changes values in one request and writes nothing when all is well (the case after a restart). When the shape changes, the
entry is promoted to Apply first, so that what the plan dropped goes. For kinds where an added field weakens isolation, the answer
of each write is compared with what was asked for; extras are taken out once, and what survives that is a server's default. What
differs where the server lets nobody change it (somebody made it anew, with our labels) is deleted and created.

Must not decide what should exist. Called by the executors of plans; ``wrap`` stands between informers and the work queue.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from unjucks_api.names import LABEL_MANAGED_BY, LABEL_TENANT_UID, MANAGED_BY, shape_annotation
from unjucks_api.reasons import Reason
from unjucks_operator.errors import Conflict, InvalidSpec, NotPermitted, OwnershipConflict, Waiting
from unjucks_operator.kube import fieldsets
from unjucks_operator.kube.api import KubeApi, Manifest, NotFound, PatchType
from unjucks_operator.kube.child import Child, Key, to_child
from unjucks_operator.kube.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DEPLOYMENT,
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    RESOURCE_QUOTA,
    ROLE_BINDING,
    Resource,
    resource_of,
)
from unjucks_operator.kube.store import ChildStore

EXACT: Final = frozenset(
    {NETWORK_POLICY, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, LIMIT_RANGE, RESOURCE_QUOTA, DEPLOYMENT}
)
"""Kinds in which a field that somebody adds would weaken isolation: the object has to be what we planned and nothing more."""

_ROUNDS: Final = 3  # how often one write starts again because the object changed under it
_REMEMBERED_DELETIONS: Final = 4096
_MAX_DEFAULTS: Final = 4096

OnEvent = Callable[[Resource, Child | None, Child | None], None]
Place = tuple[Resource, Key]


class Outcome(StrEnum):
    """What one ``apply`` did. Only the first three changed something on the server."""

    CREATED = "created"
    APPLIED = "applied"
    REPLACED = "replaced"
    """Applied, and then what somebody had added was taken out; or deleted and made again, where it could not be changed."""
    UNCHANGED = "unchanged"
    """Sent, and the server found nothing to change (the first time after a restart)."""
    SKIPPED = "skipped"
    """Not even sent."""


@dataclass(slots=True)
class _Record:
    """Our last write to one object: its identity, the version it made, and for each manager what was asked and what came of it."""

    uid: str
    version: int
    owner: str | None
    """For whom it was written: the value of the tenant's UID label."""
    settled: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Flight:
    """Writes to one object that are on their way, the versions they made, and the events that came meanwhile."""

    writers: int = 0
    versions: set[int] = field(default_factory=set)
    held: list[tuple[Child | None, Child]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Task:
    """One ``apply``, taken apart once."""

    resource: Resource
    namespace: str | None
    name: str
    manager: str
    body: Manifest
    digest: str
    shape: str
    adopt: str | None

    @property
    def place(self) -> Place:
        return self.resource, (self.namespace or "", self.name)

    def __str__(self) -> str:
        return f"{self.resource.kind} " + (f"{self.namespace}/{self.name}" if self.namespace else self.name)


class ChildWriter:
    """Writes children. One for the process; different objects may be written at the same time.

    ``stores`` maps each kind to the store that its informer fills; it may be completed after construction. A kind without a
    store works too, at the price of a read before each first write.
    """

    def __init__(
        self,
        api: KubeApi,
        stores: Mapping[Resource, ChildStore],
        *,
        observe: Callable[[Resource, Outcome], None] | None = None,
    ) -> None:
        self.counts: Counter[Outcome] = Counter()
        """Outcomes since the start."""
        self._api = api
        self._stores = stores
        self._observe = observe
        self._records: dict[Place, _Record] = {}
        self._departed: OrderedDict[Place, tuple[str, str | None]] = OrderedDict()
        self._flights: dict[Place, _Flight] = {}
        self._deliver: OnEvent | None = None
        self._defaults: dict[Resource, set[fieldsets.Extra]] = {}

    # --- questions, without network -------------------------------------------------------------------------------------
    def is_settled(self, manifest: Manifest, manager: str) -> bool:
        """Whether ``apply`` would send nothing: the object is known to be as this manifest says."""
        metadata = manifest["metadata"]
        place = resource_of(manifest), (metadata.get("namespace") or "", metadata["name"])
        return self._is_settled(place, fieldsets.digest(manifest), manager)

    def signature_left(self, manifest: Manifest, manager: str) -> str | None:
        """The object's ownership signature as our last write left it. The store may hold a later one, when somebody was quick."""
        metadata = manifest["metadata"]
        record = self._records.get((resource_of(manifest), (metadata.get("namespace") or "", metadata["name"])))
        return record.settled.get(manager, ("", None))[1] if record is not None else None

    def is_own_echo(self, resource: Resource, old: Child | None, new: Child | None) -> bool:
        """Whether an event tells no more than that our own last write happened."""
        if new is None:
            return False
        record = self._records.get((resource, new.key))
        return record is not None and record.version == new.resource_version and record.uid == new.uid

    def wrap(self, deliver: OnEvent) -> OnEvent:
        """An event handler for informers that passes on to ``deliver`` what was not our own doing.

        The event about a write can overtake the write's answer. So events about an object that is being written are held until
        the answer tells which of them were ours; the others are delivered then.
        """
        self._deliver = deliver

        def handler(resource: Resource, old: Child | None, new: Child | None) -> None:
            if new is None:
                if old is not None:
                    self._forget(old)
            elif self.is_own_echo(resource, old, new):
                return
            elif (flight := self._flights.get((resource, new.key))) is not None and not new.deleting:
                flight.held.append((old, new))
                return
            deliver(resource, old, new)

        return handler

    # --- writing ----------------------------------------------------------------------------------------------------------
    async def apply(self, manifest: Manifest, manager: str, *, adopt: str | None = None) -> Outcome:
        """Make the object what ``manifest`` says, as field manager ``manager``; afterwards the store holds the new state.

        ``adopt`` is the UID of an existing object without an owner that the user agreed to hand over. Raises OwnershipConflict
        when the object is somebody else's, Waiting while it is being deleted, and what ``KubeApi`` raises.
        """
        if self.skips(manifest, manager):
            return Outcome.SKIPPED
        task = self._task(manifest, manager, adopt)
        with self._flight(task.place) as flight:
            outcome = await self._write(task, flight)
        self._count(task.resource, outcome)
        return outcome

    def skips(self, manifest: Manifest, manager: str) -> bool:
        """Whether ``apply`` has nothing to send; counted as one that was skipped. For those who have many children to apply: most
        are settled, and asking costs a fraction of a task."""
        if not self.is_settled(manifest, manager):
            return False
        self._count(resource_of(manifest), Outcome.SKIPPED)
        return True

    async def delete(self, child: Child, *, propagation: str = "Background") -> bool:
        """Delete exactly this object. False when it is gone already, or another one of that name is there now."""
        return await self._api.delete(
            child.resource, child.name, child.namespace or None, uid=child.uid, propagation=propagation
        )

    async def _write(self, task: _Task, flight: _Flight) -> Outcome:
        store = self._stores.get(task.resource)
        known = store.get(task.namespace, task.name) if store is not None else None
        if known is None and (store is None or task.adopt is not None):
            known = await self._look(task)
        made = Outcome.CREATED
        for _ in range(_ROUNDS):
            if known is None:
                try:
                    created = await self._api.create(
                        task.body, manager=task.manager, metadata_only=self._metadata_suffices(task.resource)
                    )
                except Waiting:
                    # A full quota is told before the name is looked at: perhaps what fills it is this very object.
                    known = await self._look(task)
                    if known is None:
                        raise
                    continue
                if created is not None:
                    try:
                        return await self._finish(task, flight, created, made)
                    except Conflict:
                        pass  # a controller of Kubernetes was faster with what it adds to a new object
                known = await self._look(task)
                continue
            self._require_ours(task, known)
            try:
                return await self._update(task, flight, known)
            except (Conflict, InvalidSpec, NotPermitted) as error:
                # Perhaps the object is another one by now (the UID did not fit), perhaps somebody wrote at the same time.
                current = await self._look(task)
                if not isinstance(error, Conflict) and current is not None and current.uid == known.uid:
                    if not await self._clear_away(task, known):
                        raise
                    current, made = None, Outcome.REPLACED
                known = current
        raise Conflict(f"{task} was changed by others again and again while it was being written")

    async def _update(self, task: _Task, flight: _Flight, known: Child) -> Outcome:
        body = task.body | {"metadata": task.body["metadata"] | {"uid": known.uid}}
        slim = self._metadata_suffices(task.resource)
        if task.manager in known.posted_by and known.annotations.get(shape_annotation(task.manager)) == task.shape:
            answer = await self._api.patch(
                task.resource,
                task.name,
                task.namespace,
                body,
                patch_type=PatchType.STRATEGIC,
                manager=task.manager,
                metadata_only=slim,
            )
        else:
            if task.manager in known.posted_by:
                await self._promote(task, flight, known)
            answer = await self._api.apply(body, manager=task.manager, metadata_only=slim)
        unchanged = int(answer["metadata"]["resourceVersion"]) == known.resource_version
        return await self._finish(task, flight, answer, Outcome.UNCHANGED if unchanged else Outcome.APPLIED)

    async def _clear_away(self, task: _Task, known: Child) -> bool:
        """Delete what is ours and cannot be changed into what it has to be. False when that is not what is wrong."""
        live = await self._api.get(task.resource, task.name, task.namespace)
        if live is None or not fieldsets.is_out_of_reach(task.body, live):
            return False
        return await self._api.delete(task.resource, task.name, task.namespace, uid=known.uid)

    async def _promote(self, task: _Task, flight: _Flight, known: Child) -> None:
        """Turn what we hold by operation Update into what we applied, so that the next apply can take fields away."""
        live = await self._api.get(task.resource, task.name, task.namespace, metadata_only=True)
        if live is None or live["metadata"]["uid"] != known.uid:
            raise NotFound(f"{task} is not there any more")
        metadata = live["metadata"]
        answer = await self._api.patch(
            task.resource,
            task.name,
            task.namespace,
            [
                {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
                {
                    "op": "replace",
                    "path": "/metadata/managedFields",
                    "value": fieldsets.promote(metadata["managedFields"], task.manager),
                },
            ],
            patch_type=PatchType.JSON,
            manager=task.manager,
            metadata_only=True,
        )
        flight.versions.add(int(answer["metadata"]["resourceVersion"]))

    async def _finish(self, task: _Task, flight: _Flight, answer: Manifest, outcome: Outcome) -> Outcome:
        """Check the answer of an exact kind, put it into the store, and remember what we did."""
        flight.versions.add(int(answer["metadata"]["resourceVersion"]))
        if task.resource in EXACT and (unasked := self._unasked(task, answer)):
            before = answer["metadata"]["resourceVersion"]
            answer = await self._api.patch(
                task.resource,
                task.name,
                task.namespace,
                fieldsets.replacement(task.body, answer),
                patch_type=PatchType.JSON,
                manager=task.manager,
            )
            flight.versions.add(int(answer["metadata"]["resourceVersion"]))
            if answer["metadata"]["resourceVersion"] != before:
                outcome = Outcome.REPLACED
            self._learn(task.resource, unasked & fieldsets.extras(task.body, answer))
        store = self._stores.get(task.resource)
        child = to_child(task.resource, answer, full=store is not None and store.full)
        if store is not None:
            store.put(child)
        record = self._records.get(task.place)
        if record is None or record.uid != child.uid:
            record = self._records[task.place] = _Record(child.uid, child.resource_version, _owner(task.body))
        record.version = max(record.version, child.resource_version)
        record.settled[task.manager] = (task.digest, child.signature)
        self._departed.pop(task.place, None)
        return outcome

    # --- whose is it --------------------------------------------------------------------------------------------------------
    def _require_ours(self, task: _Task, known: Child) -> None:
        wanted = task.body["metadata"].get("labels") or {}
        managed = known.labels.get(LABEL_MANAGED_BY) == MANAGED_BY
        same_tenant = known.labels.get(LABEL_TENANT_UID) == wanted.get(LABEL_TENANT_UID)
        record = self._records.get(task.place)
        # Our labels may have been stripped or changed: the very object that we wrote for this owner is this owner's, whatever it
        # says now. What we wrote for another one (a Tenant deleted and made again) is not ours now.
        mine = (known.uid, _owner(task.body))
        written_by_us = mine in ((record.uid, record.owner) if record else None, self._departed.get(task.place))
        handed_over = known.uid == task.adopt and not (managed or LABEL_TENANT_UID in known.labels)
        if not ((managed and same_tenant) or written_by_us or handed_over):
            owner = "belongs to another tenant" if managed and not same_tenant else "was not made by the operator"
            raise OwnershipConflict(
                f"{task} exists already and {owner}; it is left as it is. Delete or rename it, and the operator goes on."
            )
        if known.deleting:
            reason = Reason.NAMESPACE_TERMINATING if task.resource is NAMESPACE else Reason.PROGRESSING
            raise Waiting(f"{task} is being deleted; it is made again once it is gone", reason=reason, after=2.0)

    async def _look(self, task: _Task) -> Child | None:
        live = await self._api.get(task.resource, task.name, task.namespace, metadata_only=True)
        return None if live is None else to_child(task.resource, live)

    # --- small things -----------------------------------------------------------------------------------------------------
    def _count(self, resource: Resource, outcome: Outcome) -> None:
        self.counts[outcome] += 1
        if self._observe is not None:
            self._observe(resource, outcome)

    def _task(self, manifest: Manifest, manager: str, adopt: str | None) -> _Task:
        metadata: dict[str, Any] = manifest["metadata"]
        resource = resource_of(manifest)
        body = fieldsets.without_empty_lists(manifest) if resource in EXACT else manifest
        form = fieldsets.shape(body)
        annotations = (metadata.get("annotations") or {}) | {shape_annotation(manager): form}
        return _Task(
            resource=resource,
            namespace=metadata.get("namespace"),
            name=metadata["name"],
            manager=manager,
            body=body | {"metadata": metadata | {"annotations": annotations}},
            digest=fieldsets.digest(manifest),
            shape=form,
            adopt=adopt,
        )

    def _is_settled(self, place: Place, wanted: str, manager: str) -> bool:
        resource, (namespace, name) = place
        store, record = self._stores.get(resource), self._records.get(place)
        child = store.get(namespace, name) if store is not None else None
        return (
            child is not None
            and record is not None
            and child.uid == record.uid
            and not child.deleting
            and record.settled.get(manager) == (wanted, child.signature)
        )

    def _metadata_suffices(self, resource: Resource) -> bool:
        store = self._stores.get(resource)
        return resource not in EXACT and not (store is not None and store.full)

    def _unasked(self, task: _Task, answer: Manifest) -> set[fieldsets.Extra]:
        return fieldsets.extras(task.body, answer) - self._defaults.get(task.resource, set())

    def _learn(self, resource: Resource, defaults: set[fieldsets.Extra]) -> None:
        """What is still there after a PUT without it comes from the server itself: do not try again with the next object."""
        known = self._defaults.setdefault(resource, set())
        if len(known) > _MAX_DEFAULTS:
            known.clear()
        known |= defaults

    def _forget(self, gone: Child) -> None:
        """The object left our selector: deleted, or its label was taken off. For the second case its UID is kept a while."""
        place, owner = (gone.resource, gone.key), gone.labels.get(LABEL_TENANT_UID)
        record = self._records.get(place)
        if record is not None:
            if record.uid != gone.uid:
                return
            owner = self._records.pop(place).owner
        self._departed[place] = (gone.uid, owner)
        self._departed.move_to_end(place)
        if len(self._departed) > _REMEMBERED_DELETIONS:
            self._departed.popitem(last=False)

    @contextmanager
    def _flight(self, place: Place) -> Iterator[_Flight]:
        flight = self._flights.setdefault(place, _Flight())
        flight.writers += 1
        try:
            yield flight
        finally:
            flight.writers -= 1
            if flight.writers == 0:
                del self._flights[place]
                if self._deliver is not None:
                    for old, new in flight.held:
                        if new.resource_version not in flight.versions:
                            self._deliver(place[0], old, new)


def _owner(manifest: Manifest) -> str | None:
    value = (manifest["metadata"].get("labels") or {}).get(LABEL_TENANT_UID)
    return None if value is None else str(value)
