"""Leader election: of all processes only the holder of one Lease works.

The rules are those of client-go. A Lease counts as held until it has not changed for its duration *on our own monotonic clock*,
counted from when we saw it change; time stamps inside the Lease are for people only, so machines whose clocks differ do no harm.
Each write carries the resourceVersion it is based on, so of two that try one gets a Conflict. The holder counts its deadline
from the moment *before* it sent its last successful write: it gives up before anybody else may take over.

    acquire() ──► leading ──► renew every retry_period ──► no success within renew_deadline, or another holder: lost(reason), once
                     └──────► release(): the holder's name is cleared, the next one takes over at its next look

A Lease cannot stop a process that sleeps through its own loss. Effects must tolerate two workers for a moment; the caller ends the
process on ``lost``.

Must not: write while it does not hold the Lease and somebody else does. Called by ``process`` as a component.
"""

import asyncio
import logging
import random
import socket
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from unjucks_operator.engine.clock import Clock, SystemClock
from unjucks_operator.errors import Conflict, OperatorError, Unavailable
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import LEASE

T = TypeVar("T")
_log = logging.getLogger(__name__)
JITTER = 0.2
"""Part of the retry period that is added at random, so that candidates do not try in step."""


def unique_identity(base: str = "") -> str:
    """A name for this process: the given one (a pod's) or the host's, and a random part: a pod may restart in place."""
    return f"{base or socket.gethostname()}_{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. ``duration``: how long others wait. ``deadline``: how long the holder tries to renew. ``period``: between tries."""

    duration: float = 15.0
    deadline: float = 10.0
    period: float = 2.0

    def __post_init__(self) -> None:
        if not self.duration > self.deadline > self.period * (1 + JITTER) > 0:
            raise ValueError("a lease needs duration > deadline > 1.2 × period > 0")


class Elector:
    """One candidate. See the module's text. ``on_lost`` is called at most once, with the reason."""

    def __init__(
        self,
        api: KubeApi,
        *,
        namespace: str,
        name: str,
        identity: str,
        manager: str,
        on_lost: Callable[[str], None],
        timing: Timing | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.identity = identity
        self._api = api
        self._namespace = namespace
        self._name = name
        self._manager = manager
        self._on_lost = on_lost
        self._timing = timing or Timing()
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  jitter
        self._seen: Manifest | None = None
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self._holding = False
        self._loop: asyncio.Task[None] | None = None
        self._reported = ""

    # --- for others to see ------------------------------------------------------------------------------------------------

    @property
    def leading(self) -> bool:
        """True while we hold the Lease and the deadline of the last renewal has not passed. Cheap; never true for two at once."""
        return self._holding and self._clock.monotonic() < self._renewed_at + self._timing.deadline

    @property
    def holder(self) -> str:
        """Who held the Lease when we last looked; empty when nobody did."""
        return _holder(self._seen)

    def seconds_left(self) -> float:
        """Until we give up unless a renewal succeeds; 0 when we do not lead."""
        return max(0.0, self._renewed_at + self._timing.deadline - self._clock.monotonic()) if self._holding else 0.0

    def check(self) -> str | None:
        """For health: what is wrong, or None. A candidate that waits is well."""
        if self._holding and not self.leading:
            return "the lease was not renewed in time"
        if self._holding and (self._loop is None or self._loop.done()):
            return "the renewal of the lease has ended"
        return None

    # --- life -------------------------------------------------------------------------------------------------------------

    async def acquire(self) -> None:
        """Return when we lead; the renewal runs from then on. May take forever; cancel it to stop trying."""
        while not await self._attempt(self._timing.deadline / 2):
            await self._clock.sleep(self._pause())
        _log.info("now leading", extra={"lease": self._name, "identity": self.identity})
        self._loop = asyncio.create_task(self._renew(), name="lease renewal")

    async def release(self) -> None:
        """Stop renewing and, when we hold the Lease, clear the holder's name. Never raises: the Lease expires by itself."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
            self._loop = None
        if not self._holding or self._seen is None:
            return
        self._holding = False
        lease = self._written(self._seen, holder="", duration=1.0)
        try:
            await self._within(self._api.replace(lease, manager=self._manager), self._timing.period)
            _log.info("gave the lease back", extra={"lease": self._name})
        except Conflict:
            _log.info("the lease belongs to somebody else already", extra={"lease": self._name})
        except OperatorError as error:
            _log.warning("could not give the lease back, it expires by itself: %s", error, extra={"lease": self._name})

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _pause(self) -> float:
        return self._timing.period * (1.0 + self._rng.uniform(0.0, JITTER))

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(min(self._pause(), max(self.seconds_left(), 0.0)))
            left = self.seconds_left()
            if left <= 0:
                self._lose(f"no renewal succeeded within {self._timing.deadline:g} s")
                return
            await self._attempt(
                min(left, self._timing.deadline / 2)
            )  # a request that hangs must leave time for another
            if self._seen is not None and self.holder != self.identity:
                self._lose(f"the lease is now held by {self.holder or 'nobody'}")
                return

    def _lose(self, reason: str) -> None:
        self._holding = False
        _log.error("leadership lost: %s", reason, extra={"lease": self._name, "identity": self.identity})
        self._on_lost(reason)

    async def _attempt(self, limit: float) -> bool:
        """One try to take or renew the Lease, of at most ``limit`` seconds. True when it succeeded."""
        try:
            return await self._within(self._try(), limit)
        except Conflict:
            _log.debug("somebody else wrote the lease")
        except OperatorError as error:
            level = logging.WARNING if self._holding else logging.INFO
            if str(error) != self._reported:  # an outage is reported once, not every two seconds
                _log.log(level, "the lease could not be written: %s", error, extra={"lease": self._name})
            self._reported = str(error)
        return False

    async def _try(self) -> bool:
        started = self._clock.monotonic()
        if self._holding and self._seen is not None:
            try:
                return self._took(await self._put(self._seen), started)
            except OperatorError:
                pass  # somebody changed or deleted it, or the answer was lost: look
        found = await self._api.get(LEASE, self._name, self._namespace)
        if found is None:
            fresh: Manifest = {"metadata": {"name": self._name, "namespace": self._namespace}}
            created = await self._api.create(self._written(fresh, holder=self.identity), manager=self._manager)
            return created is not None and self._took(created, started)
        self._observe(found)
        if self.holder not in ("", self.identity) and not self._expired(found):
            return False
        if self._holding and self.holder != self.identity:
            return False  # taken over; the renewal reports it. Never steal back what was lost.
        return self._took(await self._put(found), started)

    async def _put(self, lease: Manifest) -> Manifest:
        return await self._api.replace(self._written(lease, holder=self.identity), manager=self._manager)

    def _took(self, lease: Manifest, started: float) -> bool:
        self._observe(lease)
        self._holding = True
        self._renewed_at = started
        self._reported = ""
        return True

    def _observe(self, lease: Manifest) -> None:
        if self._seen is None or self._seen["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            if _holder(lease) != _holder(self._seen) and _holder(lease) != self.identity:
                _log.info("the lease is held by %s", _holder(lease) or "nobody", extra={"lease": self._name})
            self._seen_at = self._clock.monotonic()
        self._seen = lease

    def _expired(self, lease: Manifest) -> bool:
        stated = float((lease.get("spec") or {}).get("leaseDurationSeconds") or 0)
        return self._clock.monotonic() >= self._seen_at + max(stated, self._timing.duration)

    def _written(self, lease: Manifest, *, holder: str, duration: float | None = None) -> Manifest:
        """The Lease as we want to write it: other people's labels and the resourceVersion of ``lease`` are kept."""
        old: dict[str, Any] = lease.get("spec") or {}
        now = _micro_time(self._clock.wall())
        spec = dict(old)
        spec["holderIdentity"] = holder
        spec["leaseDurationSeconds"] = max(1, round(duration if duration is not None else self._timing.duration))
        spec["renewTime"] = now
        if holder and old.get("holderIdentity") != holder:
            spec["acquireTime"] = now
            # 0 for the very first holder, one more for each change of hands, as kubectl users know it
            spec["leaseTransitions"] = (old.get("leaseTransitions") or 0) + 1 if "leaseTransitions" in old else 0
        metadata = {key: value for key, value in lease["metadata"].items() if key != "managedFields"}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}

    async def _within(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """The result of ``work``, or Unavailable after ``seconds`` of our clock."""
        task = asyncio.ensure_future(work)
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            task.cancel()

        timer = self._clock.call_later(seconds, expire)
        try:
            return await task
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if not late or (this is not None and this.cancelling()):
                raise
            raise Unavailable(f"the lease {self._name}: no answer within {seconds:.1f} s") from None
        finally:
            timer.cancel()


def _holder(lease: Manifest | None) -> str:
    return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
