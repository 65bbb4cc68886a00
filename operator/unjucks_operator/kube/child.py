"""What the operator remembers of an object it made: a few strings, and a signature that tells drift from noise.

Pure: from a manifest (whole, or ``PartialObjectMetadata``) to a ``Child``. Called by the informer and the child writer.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson

from unjucks_api.names import FIELD_MANAGER_PREFIX, GROUP
from unjucks_operator.kube.api import Manifest
from unjucks_operator.kube.resources import CONFIG_MAP, Resource

Key = tuple[str, str]
"""Namespace ("" for cluster-scoped) and name."""

_KEPT_ANNOTATIONS: Final = f"{GROUP}/"


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    """One object as last seen. Compared by identity; ``uid`` and ``resource_version`` say whether two are the same state."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    resource_version: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    """Only those of our own group."""
    deleting: bool
    signature: str
    """Changes when somebody touches a field that we own, or adds one outside metadata; not with status or foreign labels."""
    posted_by: tuple[str, ...]
    """Our field managers that hold fields through create or classic patches (operation Update), not through apply."""
    full: Manifest | None = None
    """The whole object without managedFields, where the informer keeps it."""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return self.namespace, self.name

    def tells_nothing_new(self, old: "Child") -> bool:
        """Whether all that is kept is as it was: a change of status, or of somebody else's annotations.

        Never of a ConfigMap: its content is a source, and a second edit by the same hand leaves its managedFields as they were.
        """
        return (
            self.full is None
            and self.resource != CONFIG_MAP
            and self.uid == old.uid
            and self.signature == old.signature
            and self.deleting == old.deleting
            and self.labels == old.labels
            and self.annotations == old.annotations
        )


def to_child(resource: Resource, manifest: Manifest, *, full: bool = False) -> Child:
    """Project an object as the API server returned it. Takes no reference to parts of ``manifest`` that change later."""
    metadata = manifest["metadata"]
    signature, posted_by = ownership(metadata.get("managedFields") or ())
    kept: Manifest | None = None
    if full:
        kept = manifest | {"metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
    return Child(
        resource=resource,
        namespace=sys.intern(metadata.get("namespace") or ""),
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=int(metadata["resourceVersion"]),
        labels=_interned(metadata.get("labels")),
        annotations={
            key: value
            for key, value in (metadata.get("annotations") or {}).items()
            if key.startswith(_KEPT_ANNOTATIONS)
        },
        deleting="deletionTimestamp" in metadata,
        signature=signature,
        posted_by=posted_by,
        full=kept,
    )


def ownership(managed_fields: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[str, ...]]:
    """The signature of an object's managedFields, and which of our managers hold fields by operation Update.

    Any edit of a field that we own takes it out of our entry, so our entries as they are tell whether our fields are as we left
    them. Of the others' entries count what lies outside metadata: that is where an addition can weaken an object. Entries of
    subresources (status, scale by others) are left out; a scale of ours shows as a field missing from our own entry.
    """
    parts: list[bytes] = []
    posted: tuple[str, ...] = ()
    for entry in managed_fields:
        if entry.get("subresource"):
            continue
        manager = entry.get("manager", "")
        if manager.startswith(FIELD_MANAGER_PREFIX):
            # With the time, so that an edit under our own name shows too, although it takes nothing out.
            parts.append(orjson.dumps([manager, entry["operation"], entry.get("time"), entry.get("fieldsV1")]))
            if entry["operation"] == "Update":
                posted = (*posted, sys.intern(manager))
            continue
        outside = {key: value for key, value in (entry.get("fieldsV1") or {}).items() if key != "f:metadata"}
        if outside:
            parts.append(orjson.dumps([manager, outside]))
    parts.sort()  # the server orders entries by time
    return blake2b(b"\n".join(parts), digest_size=16).hexdigest(), posted


def _interned(labels: Mapping[str, str] | None) -> Mapping[str, str]:
    """Thousands of children carry the same few strings: keep each once."""
    return {sys.intern(key): sys.intern(value) for key, value in (labels or {}).items()}
