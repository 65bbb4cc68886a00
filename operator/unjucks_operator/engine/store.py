"""The memory of one kind of objects: the newest body that we have seen of each, and nothing that is gone.

Versions decide, not the order of arrival: an object is replaced only by a higher resourceVersion (they are integers that grow
across the whole kind). So the answer of a write can be put here at once (we read our own writes), and an older event that comes
later does no harm. A removal leaves a tombstone for a while, so that a late answer or a stale list cannot revive the object.

Must not: await, or talk to anybody but its subscribers. Called by the event source, by those who write objects, by the planners'
observers (reads), and by whoever keeps a reverse index (``subscribe``).
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_log = logging.getLogger(__name__)
Manifest = dict[str, Any]
ObjectKey = tuple[str, str]
"""(namespace, name); the namespace is empty for cluster-scoped objects."""

Subscriber = Callable[[ObjectKey, Manifest | None, Manifest | None], None]
"""Told about each change: key, body before, body after; None for "does not exist". Must be quick and must not raise."""

TOMBSTONES = 10_000


def key_of(body: Manifest) -> ObjectKey:
    """The key of an object."""
    metadata = body["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def version_of(body: Manifest) -> int:
    """The resourceVersion as the integer that it is. Raises ValueError for a body without one."""
    return int(body["metadata"]["resourceVersion"])


class ResourceStore:
    """See the module's text. Bodies that are handed out are shared: nobody may change them."""

    def __init__(self) -> None:
        self._bodies: dict[ObjectKey, Manifest] = {}
        self._tombstones: OrderedDict[ObjectKey, int] = OrderedDict()
        self._subscribers: list[Subscriber] = []

    # --- reading ----------------------------------------------------------------------------------------------------------

    def get(self, key: ObjectKey) -> Manifest | None:
        """The body, or None."""
        return self._bodies.get(key)

    def __len__(self) -> int:
        return len(self._bodies)

    def __contains__(self, key: object) -> bool:
        return key in self._bodies

    def __iter__(self) -> Iterator[Manifest]:
        """All bodies, as they are now."""
        return iter(list(self._bodies.values()))

    def keys(self) -> list[ObjectKey]:
        """All keys, as they are now."""
        return list(self._bodies)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call this for every change from now on."""
        self._subscribers.append(subscriber)

    # --- writing ----------------------------------------------------------------------------------------------------------

    def put(self, body: Manifest) -> bool:
        """Remember this body unless it is no news. ``managedFields`` are dropped. True when it was news."""
        key, version = key_of(body), version_of(body)
        before = self._bodies.get(key)
        if before is not None and version_of(before) >= version:
            return False
        if before is None and self._tombstones.get(key, 0) >= version:
            return False
        self._tombstones.pop(key, None)
        after = dict(body)
        after["metadata"] = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        self._bodies[key] = after
        self._tell(key, before, after)
        return True

    def remove(self, body: Manifest) -> bool:
        """Forget the object: ``body`` is its last state, whose version is that of the deletion. True when we knew it.

        An object of that name that was created later (a higher version) stays.
        """
        return self.remove_key(key_of(body), version_of(body))

    def remove_key(self, key: ObjectKey, version: int) -> bool:
        """Forget the object unless what we have is newer than ``version``. True when we knew it."""
        before = self._bodies.get(key)
        if before is not None and version_of(before) > version:
            return False
        self._tombstones[key] = max(version, self._tombstones.pop(key, 0))
        while len(self._tombstones) > TOMBSTONES:
            self._tombstones.popitem(last=False)
        if before is None:
            return False
        del self._bodies[key]
        self._tell(key, before, None)
        return True

    # --- comparing with a list ------------------------------------------------------------------------------------------------

    def drop_ghosts(self, listed: Iterable[ObjectKey], list_version: int) -> list[ObjectKey]:
        """Forget what a complete list of that version does not have, except what is newer than the list. Returns what went."""
        there = set(listed)
        ghosts = [key for key in self._bodies if key not in there]
        return [key for key in ghosts if self.remove_key(key, list_version)]

    def newest(self) -> int:
        """The highest version that we hold; 0 when we hold nothing."""
        return max(map(version_of, self._bodies.values()), default=0)

    def reset(self) -> None:
        """Forget everything, tombstones too: the server's history went back (etcd came back from a backup)."""
        self._tombstones.clear()
        for key, before in list(self._bodies.items()):
            del self._bodies[key]
            self._tell(key, before, None)

    def lacks(self, key: ObjectKey, version: int) -> str | None:
        """Whether we should have this object at least at this version and do not: "missing", "stale", or None."""
        known = self._bodies.get(key)
        if known is None:
            return "missing" if self._tombstones.get(key, 0) < version else None
        return "stale" if version_of(known) < version else None

    def _tell(self, key: ObjectKey, before: Manifest | None, after: Manifest | None) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(key, before, after)
            except Exception:  # a bug there; the others must be told all the same
                _log.exception("a subscriber failed")
