"""The event recorder: what happened, told once, where ``kubectl describe`` shows it.

Events are for transitions; whoever reconciles calls ``record`` only when something changed. It takes no time, never fails and never
waits for the API server: a task (``run``) posts in the background. Repetitions become one Event with a series; each object has a
budget; memory is bounded; what does not fit is dropped and counted. An Event never carries more than the note it was given, so
notes must be free of secrets, as messages of our errors are.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from unjucks_api.names import FIELD_MANAGER_PREFIX, REPORTING_CONTROLLER
from unjucks_operator.engine.clock import Clock
from unjucks_operator.errors import OperatorError, Terminal, Waiting
from unjucks_operator.kube.api import KubeApi, Manifest, NotFound, PatchType
from unjucks_operator.kube.resources import EVENT

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]

MANAGER_EVENTS: Final = FIELD_MANAGER_PREFIX + "events"
CLUSTER_NAMESPACE: Final = "default"
"""Where the API server wants Events about cluster-scoped objects."""

_NOTE_BYTES: Final = 1024
_NAME_CHARACTERS: Final = 200
_INSTANCE_CHARACTERS: Final = 128
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """How much the recorder may say and remember. Times in seconds."""

    queued: int = 1000
    remembered: int = 4096
    series_every: float = 60.0
    """A repeated Event is updated at most this often; repetitions in between are counted."""
    series_ends: float = 600.0
    """After this silence the same thing is a new Event."""
    object_burst: int = 25
    object_refill: float = 120.0
    """Each object may cause ``object_burst`` Events at once and one more every ``object_refill`` seconds."""


@dataclass(slots=True)
class _Series:
    namespace: str
    name: str
    body: Manifest | None
    """What to create; None once it exists."""
    count: int
    seen: float
    seen_wall: datetime
    written: float
    written_count: int = 0
    queued: bool = False
    scheduled: bool = False
    attempts: int = 0


@dataclass(slots=True)
class _Budget:
    tokens: float
    stamp: float


Key = tuple[str, str, str, str]
"""UID, reason, note, and the namespace of the Event."""


class EventRecorder:
    """Records Events. ``record`` from anywhere in the loop's thread; ``run`` as one task; ``flush`` before the process ends."""

    def __init__(
        self, api: KubeApi, clock: Clock, *, instance: str, runbooks: str | None = None, pace: Pace | None = None
    ) -> None:
        self.dropped = 0
        """Events that were not sent because of a budget, a full queue or a refusal; for metrics."""
        self.sent = 0
        """Requests that created or updated an Event; for metrics."""
        self._api = api
        self._clock = clock
        self._instance = instance[:_INSTANCE_CHARACTERS]
        self._runbooks = runbooks
        self._pace = pace or Pace()
        self._series: OrderedDict[Key, _Series] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self._queue: asyncio.Queue[Key] = asyncio.Queue(self._pace.queued)
        self._number = 0

    def record(
        self,
        regarding: Mapping[str, Any],
        type_: EventType,
        reason: str,
        note: str,
        *,
        action: str,
        namespace: str | None = None,
    ) -> None:
        """Tell that ``reason`` happened to ``regarding`` (a manifest with uid) while the operator was doing ``action``.

        ``namespace``: where the Event about a cluster-scoped object goes instead of ``default``, so that those who may read Events
        there see it. The API server wants the object to claim that namespace then; of kinds of a CRD it believes that.
        Never raises and never waits. ``reason`` and ``action`` are CamelCase; ``note`` is for people and cut to 1024 bytes.
        """
        try:
            self._record(regarding, type_, reason, self._note(type_, reason, note), action, namespace)
        except Exception:
            # An Event is a courtesy; whatever is wrong with it must not stop the work that it tells about.
            self.dropped += 1
            log.exception("an event could not be recorded: %s", reason)

    async def run(self) -> None:
        """Post what was recorded, for ever."""
        while True:
            await self._post(await self._queue.get())

    async def flush(self) -> None:
        """Post what is waiting now, including counts of series; for the end of the process (under the caller's time-out)."""
        await self._drain()
        for key, series in tuple(self._series.items()):
            if series.count > series.written_count:
                self._enqueue(key, series)
        await self._drain()

    async def _drain(self) -> None:
        while not self._queue.empty():
            await self._post(self._queue.get_nowait())

    # --- recording, in memory ------------------------------------------------------------------------------------------
    def _record(
        self,
        regarding: Mapping[str, Any],
        type_: EventType,
        reason: str,
        note: str,
        action: str,
        elsewhere: str | None,
    ) -> None:
        metadata = regarding["metadata"]
        claimed = metadata.get("namespace") or elsewhere
        namespace = claimed or CLUSTER_NAMESPACE
        key: Key = (metadata["uid"], reason, note, namespace)
        now, wall = self._clock.monotonic(), self._clock.wall()
        series = self._series.get(key)
        if series is not None and now - series.seen > self._pace.series_ends:
            del self._series[key]
            series = None
        if series is not None:
            series.count += 1
            series.seen, series.seen_wall = now, wall
            self._series.move_to_end(key)
            self._repeat(key, series, now)
            return
        if not self._take_from_budget(metadata["uid"], now):
            self.dropped += 1
            return
        self._number += 1
        # Unique among restarts by the time, within this process by the number.
        name = f"{metadata['name'][:_NAME_CHARACTERS]}.{int(wall.timestamp() * 1000):x}{self._number:04x}"
        body: Manifest = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": namespace},
            "type": type_,
            "reason": reason,
            "action": action,
            "note": note,
            "eventTime": _micro_time(wall),
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            }
            | ({"namespace": claimed} if claimed else {}),
        }
        series = _Series(namespace, name, body, count=1, seen=now, seen_wall=wall, written=now)
        self._series[key] = series
        if len(self._series) > self._pace.remembered:
            self._series.popitem(last=False)
        self._enqueue(key, series)

    def _take_from_budget(self, uid: str, now: float) -> bool:
        budget = self._budgets.get(uid)
        if budget is None:
            budget = self._budgets[uid] = _Budget(float(self._pace.object_burst), now)
            if len(self._budgets) > self._pace.remembered:
                self._budgets.popitem(last=False)
        else:
            self._budgets.move_to_end(uid)
        gained = (now - budget.stamp) / self._pace.object_refill
        budget.tokens = min(float(self._pace.object_burst), budget.tokens + gained)
        budget.stamp = now
        if budget.tokens < 1.0:
            return False
        budget.tokens -= 1.0
        return True

    def _repeat(self, key: Key, series: _Series, now: float) -> None:
        """Update a known Event, but not more often than agreed; what happens in between is counted and told then."""
        wait = series.written + self._pace.series_every - now
        if wait <= 0:
            self._enqueue(key, series)
        elif not series.scheduled:
            series.scheduled = True
            self._clock.call_later(wait, lambda: self._enqueue(key, series))

    def _enqueue(self, key: Key, series: _Series) -> None:
        series.scheduled = False
        if series.queued or self._series.get(key) is not series:
            return
        try:
            self._queue.put_nowait(key)
            series.queued = True
        except asyncio.QueueFull:
            self.dropped += 1
            if series.body is not None:
                del self._series[key]

    def _note(self, type_: EventType, reason: str, note: str) -> str:
        tail = f". See {self._runbooks.rstrip('/')}/{reason}.md" if self._runbooks and type_ == "Warning" else ""
        room = _NOTE_BYTES - len(tail.encode())
        note = note.rstrip(".") if tail else note
        text = note.encode()
        if len(text) > room:
            note = text[: room - 3].decode(errors="ignore") + "…"
        return note + tail

    # --- posting ----------------------------------------------------------------------------------------------------------
    async def _post(self, key: Key) -> None:
        series = self._series.get(key)
        if series is None:
            return  # pushed out of memory before its turn
        series.queued = False
        try:
            await self._write(series)
        except (Terminal, Waiting) as error:
            # No right, or the namespace is on its way out: it will not get better by trying again.
            self._drop(key, error)
        except OperatorError as error:
            series.attempts += 1
            if series.attempts >= _ATTEMPTS:
                self._drop(key, error)
            else:
                await self._clock.sleep(0.5 * 2**series.attempts)
                self._enqueue(key, series)
        except Exception:
            self.dropped += 1
            self._series.pop(key, None)
            log.exception("an event could not be posted")

    async def _write(self, series: _Series) -> None:
        count = series.count
        if series.body is not None:
            body = series.body
            if await self._api.create(body, manager=MANAGER_EVENTS, metadata_only=True) is None:
                log.debug("event %s exists already", series.name)  # the answer to our first attempt was lost
            series.body = None
            series.written_count = 1
        elif count > series.written_count:
            patch = {"series": {"count": count, "lastObservedTime": _micro_time(series.seen_wall)}}
            try:
                await self._api.patch(
                    EVENT,
                    series.name,
                    series.namespace,
                    patch,
                    patch_type=PatchType.MERGE,
                    manager=MANAGER_EVENTS,
                    metadata_only=True,
                )
            except NotFound:
                # The server keeps Events for an hour; the next repetition starts a new one.
                series.seen = float("-inf")
                return
            series.written_count = count
        series.attempts = 0
        series.written = self._clock.monotonic()
        self.sent += 1

    def _drop(self, key: Key, error: OperatorError) -> None:
        self.dropped += 1
        self._series.pop(key, None)
        log.info("an event was dropped: %s", error.message)


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
