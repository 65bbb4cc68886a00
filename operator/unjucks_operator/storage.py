"""Trees and catalogues of tenants, as jobs and registries use them: the database, with a bounded memory in front of it.

Keys hold the tenant's UID, so one tenant's entry can never answer for another. Called by the registry and job reconcilers.
"""

import base64
from collections import OrderedDict
from collections.abc import Sequence

from unjucks_api.render_protocol import Action, SourceFile
from unjucks_api.tree import tree_digest
from unjucks_operator.database.artifacts import MAX_TREE_BYTES, MAX_TREE_FILES, Artifacts, Tree
from unjucks_operator.database.catalogs import Catalogs

MAX_CACHED_BYTES = 64 * 1024 * 1024


class TemplateStorage:
    """One for the process. ``role`` is the tenant's database role."""

    def __init__(self, artifacts: Artifacts, catalogs: Catalogs, *, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._artifacts = artifacts
        self._catalogs = catalogs
        self._max_bytes = max_bytes
        self._bytes = 0
        self._trees: OrderedDict[tuple[str, str], tuple[list[SourceFile], int]] = OrderedDict()
        self._actions: OrderedDict[tuple[str, str], tuple[Action, ...]] = OrderedDict()

    async def save(self, role: str, digest: str, tree: Tree, key: str, actions: Sequence[Action]) -> None:
        """Store a tree and its catalogue; both or none become visible to jobs, because status names them afterwards."""
        await self._artifacts.put(role, digest, tree)
        await self._catalogs.put(role, key, digest, actions)
        self._remember_actions(role, key, tuple(actions))

    async def files(self, role: str, digest: str) -> list[SourceFile] | None:
        """The tree as the render protocol wants it; None when it is not stored."""
        known = self._trees.get((role, digest))
        if known is not None:
            self._trees.move_to_end((role, digest))
            return known[0]
        tree = await self._artifacts.get(role, digest)
        if tree is None:
            # Gone under us, as when an older backup of the database was put back: what is remembered of it would keep its registry
            # from being read again.
            for known_key in [it for it in self._actions if it[0] == role]:
                del self._actions[known_key]
            return None
        files = to_source_files(tree)
        self._remember_tree(role, digest, files)
        return files

    async def keep(self, role: str, tree: Tree) -> str:
        """Store what templates gave, for the next update of a job; its digest, or nothing when it is empty or too large."""
        if not tree or sum(len(content) for content, _ in tree.values()) > MAX_TREE_BYTES or len(tree) > MAX_TREE_FILES:
            return ""
        digest = tree_digest(tree)
        await self._artifacts.put(role, digest, tree)
        return digest

    async def actions(self, role: str, key: str) -> tuple[Action, ...] | None:
        """The catalogue; None when it is not stored."""
        known = self._actions.get((role, key))
        if known is None:
            known = await self._catalogs.get(role, key)
            if known is not None:
                self._remember_actions(role, key, known)
        return known

    def _remember_tree(self, role: str, digest: str, files: list[SourceFile]) -> None:
        size = sum(len(file.content) for file in files)
        if size > self._max_bytes:
            return
        # Several jobs may have read the same tree at the same time: it is there, and counted, once.
        _, before = self._trees.pop((role, digest), (files, 0))
        self._bytes -= before
        self._trees[(role, digest)] = (files, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, dropped) = self._trees.popitem(last=False)
            self._bytes -= dropped

    def _remember_actions(self, role: str, key: str, actions: tuple[Action, ...]) -> None:
        self._actions[(role, key)] = actions
        self._actions.move_to_end((role, key))
        while len(self._actions) > 1024:
            self._actions.popitem(last=False)


def to_source_files(tree: Tree) -> list[SourceFile]:
    """A tree in the words of the render protocol, by path."""
    return [
        SourceFile(path=path, content=base64.b64encode(content).decode(), mode=mode)
        for path, (content, mode) in sorted(tree.items())
    ]


def to_tree(files: Sequence[SourceFile]) -> dict[str, tuple[bytes, int]]:
    """The tree that the files are."""
    return {file.path: (base64.b64decode(file.content, validate=True), file.mode) for file in files}
