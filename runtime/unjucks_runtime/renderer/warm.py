"""Template sets that are kept parsed, each in a nested zygote of its own: the second render of an action finds it compiled.

A set gets its zygote when it is rendered for the second time, in the background; the least recently used one ends when there are
too many. Nothing of a task ever enters such a zygote: only the tree, and only this tree. Called by ``server``.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from unjucks_runtime.renderer.forker import Forker
from unjucks_runtime.renderer.serving import TaskFailed

log = logging.getLogger(__name__)

WORTH_IT = 2
"""Renders of one action until it is worth a process."""

_REMEMBERED = 16  # keys seen, as a multiple of the zygotes that are kept


@dataclass(slots=True)
class _Entry:
    uses: int = 0
    forker: Forker | None = None
    loading: asyncio.Task[None] | None = None
    failed: bool = False


class WarmSets:
    """At most ``capacity`` nested zygotes by key. 0 switches it off."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def get(self, key: bytes) -> Forker | None:
        """The zygote of that key, if it is ready."""
        entry = self._entries.get(key)
        if entry is None or entry.forker is None:
            return None
        if entry.forker.dead:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry.forker

    def used(self, key: bytes, load: Callable[[], Awaitable[Forker]]) -> None:
        """A render of that key went well without a zygote. ``load`` makes one, if it is worth it."""
        if self._capacity == 0:
            return
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        entry.uses += 1
        while len(self._entries) > self._capacity * _REMEMBERED:
            self._drop(self._entries.popitem(last=False)[1])
        if entry.uses >= WORTH_IT and entry.loading is None and not entry.failed:
            entry.loading = asyncio.create_task(self._load(entry, load), name="warm-set")

    def discard(self, key: bytes) -> None:
        """A child of that key's zygote was lost; it starts anew with counting its uses."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._drop(entry)

    def clear(self) -> None:
        """End all of them."""
        for entry in self._entries.values():
            self._drop(entry)
        self._entries.clear()

    async def _load(self, entry: _Entry, load: Callable[[], Awaitable[Forker]]) -> None:
        try:
            entry.forker = await load()
        except (TaskFailed, OSError) as error:
            entry.failed = True
            log.warning("a template set is not kept parsed: %s", error)
            return
        kept = [other for other in self._entries.values() if other.forker is not None]
        for other in kept[: max(0, len(kept) - self._capacity)]:
            self._drop(other)

    @staticmethod
    def _drop(entry: _Entry) -> None:
        if entry.loading is not None:
            entry.loading.cancel()
            entry.loading = None
        if entry.forker is not None:
            entry.forker.close()
            entry.forker = None
        entry.uses = 0
