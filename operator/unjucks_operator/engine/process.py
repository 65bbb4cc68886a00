"""The process: components that are started in order and stopped in the opposite order, and the reasons to stop.

    start one after the other ──► run until: SIGTERM, SIGINT ─ a component calls ``fail`` ─ a component cannot start
                                          └──► stop in reverse order, each with its own time limit ──► exit code

A component that waits in ``start`` (for the lease, for caches) is cancelled when the process is told to stop; what was started
before it is stopped. A component that cannot stop in time is abandoned with a warning: the kubelet must not have to kill us.

Must not: know what the components do. Called by ``__main__``; components are made by the assembly of the operator.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

_log = logging.getLogger(__name__)


class Exit(IntEnum):
    """What the process's exit code means."""

    OK = 0
    """Stopped as asked; or the configuration that was to be checked is good."""

    FAILED = 1
    """An unexpected error; the log has its traceback."""

    USAGE = 2
    """The command line is wrong."""

    CONFIG = 3
    """The configuration is wrong; all problems are listed."""

    LOST_LEASE = 4
    """Another process leads, or the lease could not be renewed. A restart makes this process a candidate again."""

    UNREACHABLE = 5
    """Something that is needed at start is not there: credentials, API server, database."""


class Component(Protocol):
    """Something with a life. ``stop`` is called once, also when ``start`` did not finish, and must work then."""

    async def start(self) -> None:
        """Return when it is ready for those that come after it."""

    async def stop(self) -> None:
        """Return when it does nothing any more. Must not raise for things that do not matter at the end."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A component out of two functions; ``stop`` may be None."""

    begin: Callable[[], Awaitable[object]] | None = None
    end: Callable[[], Awaitable[object]] | None = None

    async def start(self) -> None:
        """See ``Component``."""
        if self.begin is not None:
            await self.begin()

    async def stop(self) -> None:
        """See ``Component``."""
        if self.end is not None:
            await self.end()


class Group:
    """Components that start one after the other and stop all at once: the time for work under way is then given only once."""

    def __init__(self) -> None:
        self._components: list[Component] = []
        self._begun: list[Component] = []

    def add(self, component: Component) -> None:
        """One more."""
        self._components.append(component)

    async def start(self) -> None:
        """See ``Component``."""
        for component in self._components:
            self._begun.append(component)
            await component.start()

    async def stop(self) -> None:
        """See ``Component``. When several fail, the first failure is raised after all have ended."""
        outcomes = await asyncio.gather(*(component.stop() for component in self._begun), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome


class StartError(Exception):
    """A component cannot start for a reason that is not a bug; the message is for the log, the code for the exit."""

    def __init__(self, message: str, code: Exit = Exit.UNREACHABLE) -> None:
        super().__init__(message)
        self.code = code


class Process:
    """See the module's text. ``stop_timeout`` is in seconds for each component."""

    def __init__(self, *, stop_timeout: float = 10.0) -> None:
        self._stop_timeout = stop_timeout
        self._components: list[tuple[str, Component]] = []
        self._asked = asyncio.Event()
        self._code = Exit.OK
        self._started = False
        self._begun: list[tuple[str, Component]] = []
        self.urgent = False
        """True when stopping must not wait for work under way: the lease is lost, somebody else works already."""

    def add(self, name: str, component: Component) -> None:
        """The next component; it starts after all that were added before and stops before them."""
        self._components.append((name, component))

    @property
    def started(self) -> bool:
        """True once every component has started."""
        return self._started

    def request_stop(self, why: str) -> None:
        """End with exit code 0."""
        if not self._asked.is_set():
            _log.info("stopping: %s", why)
        self._asked.set()

    def fail(self, why: str, code: Exit = Exit.FAILED) -> None:
        """End with this exit code, without waiting for work under way. The first call decides."""
        if not self._asked.is_set():
            _log.error("stopping: %s", why)
            self._code = code
            self.urgent = True
        self._asked.set()

    async def run(self, *, signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> Exit:
        """Start everything, wait, stop everything. Returns the exit code; raises only what is a bug in this module."""
        self.catch_signals(signals)
        stopper = asyncio.create_task(self._asked.wait(), name="stop request")
        starter = asyncio.create_task(self._start(), name="start")
        try:
            await asyncio.wait({stopper, starter}, return_when=asyncio.FIRST_COMPLETED)
            if starter.done():
                self._judge_start(starter)
                await self._asked.wait()
            else:
                starter.cancel()
                await asyncio.gather(starter, return_exceptions=True)
        finally:
            stopper.cancel()
            await self._stop(self._begun)
        return self._code

    def catch_signals(self, signals: Sequence[signal.Signals]) -> None:
        """(Re)install the handlers of signals that end the process; a component may have taken them over."""
        loop = asyncio.get_running_loop()
        for number in signals:
            loop.add_signal_handler(number, self.request_stop, number.name)

    # --- inside -----------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        for name, component in self._components:
            self._begun.append((name, component))
            _log.debug("starting %s", name)
            await component.start()
        self._started = True
        _log.info("started")

    def _judge_start(self, starter: asyncio.Task[None]) -> None:
        error = starter.exception() if not starter.cancelled() else None
        if error is None:
            return
        name = self._begun[-1][0]
        if isinstance(error, StartError):
            self.fail(f"{name} cannot start: {error}", error.code)
        else:
            _log.error("%s cannot start", name, exc_info=error)
            self.fail(f"{name} cannot start: {type(error).__name__}")

    async def _stop(self, components: list[tuple[str, Component]]) -> None:
        for name, component in reversed(components):
            _log.debug("stopping %s", name)
            try:
                async with asyncio.timeout(self._stop_timeout):
                    await component.stop()
            except TimeoutError:
                _log.warning("%s did not stop within %.0f s and is abandoned", name, self._stop_timeout)
            except Exception:
                _log.exception("%s failed to stop", name)
