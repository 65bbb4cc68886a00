"""Template trees that the server keeps by digest, as bytes and never parsed: the least recently used go first.

This pod serves one tenant, so nothing here is another's. Pure bookkeeping; called by ``server``.
"""

from collections import OrderedDict

from unjucks_api.tree import tree_digest
from unjucks_runtime.renderer.wire import Tree, pack_tree


class TreeCache:
    """Packed trees by digest, together at most ``capacity`` bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._trees: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._trees)

    def get(self, digest: str) -> bytes | None:
        """The packed tree, which is now the most recently used one; None when it is not here."""
        packed = self._trees.get(digest)
        if packed is not None:
            self._trees.move_to_end(digest)
        return packed

    def add(self, digest: str, files: Tree) -> bytes:
        """Pack and keep a tree. Raises ValueError when the files have another digest: what runs is what was asked for."""
        actual = tree_digest(files)
        if actual != digest:
            raise ValueError(f"the files have the digest {actual}, not {digest}")
        packed = pack_tree(files)
        if digest not in self._trees and len(packed) <= self._capacity:
            self._trees[digest] = packed
            self._size += len(packed)
            while self._size > self._capacity:
                _, dropped = self._trees.popitem(last=False)
                self._size -= len(dropped)
        return packed
