"""The store of one kind's children: the newest version wins, a late answer raises no dead, a relist leaves no ghosts.

Knows nothing about requests and never awaits. It is *read-your-writes*: the answer to a write goes in at once, so the next plan
sees it, and the late watch event about it changes nothing. Filled by the informer and the child writer, read by observers and
planners.
"""

from collections.abc import Callable, Iterable, Iterator

from unjucks_operator.kube.child import Child, Key

Change = tuple[Child | None, Child | None]
"""What was there before, and what is there now."""


class ChildStore:
    """Children by key, by namespace and by one label or whatever else ``index`` returns (None: not indexed).

    ``full`` tells whether whole objects are kept; whoever puts answers of writes in has to ask for whole objects then.

    The store knows up to which version it has heard everything (``heard``). An object of that age or older that it does not hold is
    gone, whatever a late answer says; so deletions need not be remembered one by one.
    """

    def __init__(self, index: Callable[[Child], str | None], *, full: bool = False) -> None:
        self.full = full
        self._index = index
        self._children: dict[Key, Child] = {}
        self._by_index: dict[str, dict[Key, Child]] = {}
        self._by_namespace: dict[str, dict[Key, Child]] = {}
        self._heard = 0
        self._newest = 0

    # --- reading ------------------------------------------------------------------------------------------------------
    def get(self, namespace: str | None, name: str) -> Child | None:
        """The child of that name, or None."""
        return self._children.get((namespace or "", name))

    def indexed(self, value: str) -> tuple[Child, ...]:
        """All children for which the index function returned ``value``."""
        return tuple(self._by_index.get(value, {}).values())

    def in_namespace(self, namespace: str) -> tuple[Child, ...]:
        """All children of a namespace ("" for cluster-scoped ones)."""
        return tuple(self._by_namespace.get(namespace, {}).values())

    def __iter__(self) -> Iterator[Child]:
        return iter(tuple(self._children.values()))

    def __len__(self) -> int:
        return len(self._children)

    @property
    def newest(self) -> int:
        """The highest resourceVersion ever taken in."""
        return self._newest

    # --- writing ------------------------------------------------------------------------------------------------------
    def put(self, child: Child) -> Change | None:
        """Take a state in. None when the store knew it already, or knows something newer, or knows that it is gone."""
        if child.key not in self._children and child.resource_version <= self._heard:
            return None
        return self._take(child)

    def _take(self, child: Child) -> Change | None:
        old = self._children.get(child.key)
        if old is not None and child.resource_version <= old.resource_version:
            return None
        self._newest = max(self._newest, child.resource_version)
        if old is not None:
            self._unlink(old)
        self._link(child)
        return old, child

    def remove(self, namespace: str | None, name: str, resource_version: int) -> Child | None:
        """An object went at that version. The child that was dropped, or None when there was none or it is a newer one."""
        self.heard(resource_version)
        old = self._children.get((namespace or "", name))
        if old is None or old.resource_version > resource_version:
            return None
        self._unlink(old)
        return old

    def heard(self, resource_version: int) -> None:
        """Everything that happened up to that version has been put in."""
        self._heard = max(self._heard, resource_version)
        self._newest = max(self._newest, resource_version)

    def replace(self, children: Iterable[Child], resource_version: int) -> list[Change]:
        """Make the store what a complete list at ``resource_version`` says, except for what is known to be newer."""
        changes: list[Change] = []
        listed: set[Key] = set()
        for child in children:
            listed.add(child.key)
            change = self._take(child)
            if change is not None:
                changes.append(change)
        for key in self._children.keys() - listed:
            gone = self._children[key]
            if gone.resource_version <= resource_version:
                self._unlink(gone)
                changes.append((gone, None))
        self.heard(resource_version)
        return changes

    def reset(self) -> list[Change]:
        """Forget everything: the server's history went back (etcd was restored), so versions can not be compared any more."""
        changes: list[Change] = [(child, None) for child in self._children.values()]
        for table in (self._children, self._by_index, self._by_namespace):
            table.clear()
        self._heard = self._newest = 0
        return changes

    def _link(self, child: Child) -> None:
        self._children[child.key] = child
        self._by_namespace.setdefault(child.namespace, {})[child.key] = child
        value = self._index(child)
        if value is not None:
            self._by_index.setdefault(value, {})[child.key] = child

    def _unlink(self, child: Child) -> None:
        del self._children[child.key]
        _drop(self._by_namespace, child.namespace, child.key)
        value = self._index(child)
        if value is not None:
            _drop(self._by_index, value, child.key)


def _drop(table: dict[str, dict[Key, Child]], value: str, key: Key) -> None:
    bucket = table[value]
    del bucket[key]
    if not bucket:
        del table[value]
