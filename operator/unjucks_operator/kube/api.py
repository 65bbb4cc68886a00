"""``KubeApi``: what the operator asks of an API server, as a protocol. Dicts in, dicts out.

Implemented by ``kube.client``; nothing outside ``kube/`` knows how. Errors are those of ``unjucks_operator.errors``:
Conflict (409), NotFound (404 on a write), Throttled (429), NotPermitted (403), InvalidSpec (400/413/415/422), Unavailable (401,
5xx, connection, time-out), Gone (410), Waiting (a terminating namespace, a full quota). Called by the informer, the child writer,
the event recorder, the lease and the three kinds.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from unjucks_operator.errors import Conflict, Retryable, Unavailable
from unjucks_operator.kube.resources import Resource

Manifest = dict[str, Any]


class Gone(Retryable):
    """HTTP 410: the resource version is too old; list again. Never leaves the informer."""


class NotFound(Conflict):
    """HTTP 404 on a write: the object, or the namespace it should be in, is not there (any more). Look again, then decide."""


class NotServed(Unavailable):
    """HTTP 404 on a list: the API server does not know the kind in this version."""


class PatchType(StrEnum):
    """The content type of a PATCH. Server-side apply has a method of its own."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch: ``type`` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Manifest


class KubeApi(Protocol):
    """The operations the operator needs; every call may raise the errors named in the module's text.

    ``metadata_only`` asks the server for ``PartialObjectMetadata``: the answer has only apiVersion, kind and metadata. Whoever does
    not need spec or data says so; it saves time on both sides, and the data of Secrets stays out of our memory.
    """

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, metadata_only: bool = False
    ) -> Manifest | None:
        """The object, or None when there is none."""

    async def list_all(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
    ) -> tuple[list[Manifest], str]:
        """All objects (in chunks of 500 underneath) and the list's resourceVersion."""

    def list_pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
        chunk: int = 500,
    ) -> AsyncGenerator[tuple[list[Manifest], str], None]:
        """The same page by page, for those who do not want everything in memory. Gone when the list's snapshot expired."""

    def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Events from ``resource_version`` on, with bookmarks, until the server ends the watch; raises Gone on 410."""

    async def create(self, manifest: Manifest, *, manager: str, metadata_only: bool = False) -> Manifest | None:
        """POST; None when an object of that name exists already."""

    async def apply(
        self, manifest: Manifest, *, manager: str, force: bool = True, metadata_only: bool = False
    ) -> Manifest:
        """Server-side apply; returns the object as stored. With ``metadata.uid`` it never creates (Conflict)."""

    async def replace(self, manifest: Manifest, *, manager: str, metadata_only: bool = False) -> Manifest:
        """PUT; ``metadata.resourceVersion`` in the manifest, when there, is a precondition (Conflict)."""

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        patch_type: PatchType,
        manager: str,
        subresource: str | None = None,
        metadata_only: bool = False,
    ) -> Manifest:
        """PATCH with one of the three classic patch types; returns the object as stored."""

    async def patch_status(
        self, resource: Resource, name: str, namespace: str | None, status: Mapping[str, Any], *, resource_version: str
    ) -> Manifest:
        """Replace ``/status`` as a whole under a resourceVersion precondition (Conflict when somebody wrote in between)."""

    async def set_finalizers(
        self, resource: Resource, name: str, namespace: str | None, finalizers: Sequence[str], *, resource_version: str
    ) -> Manifest:
        """Replace ``metadata.finalizers``, guarded by the resourceVersion (Conflict). An empty list lets a deletion finish."""

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, uid: str, propagation: str = "Background"
    ) -> bool:
        """Delete exactly the object with that UID. False when it is gone already or is another one."""
