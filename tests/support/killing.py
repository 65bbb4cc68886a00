"""kill -9 of a real operator after its n-th write about one object, then a takeover by another operator.

A proxy between operator and API server sees every write after the server did it and before the operator hears of it. Only writes
that speak of the object under test count: an operator also looks after everything that was there before. How many there are is
found out by going on until a run ends before the kill; it may differ between runs, because statuses are written as things happen.
The dead operator's Lease is expired by hand: waiting for it would take a quarter of a minute each time, and a Lease that is short
enough to wait for gets lost on a busy machine. That it expires by itself is tested with the Lease.
Used by the kill matrices of tests/integration/operator.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.apiproxy import ApiProxy, Seen
from support.operator_process import OperatorProcess, Site
from unjucks_api import names
from unjucks_operator.kube.resources import LEASE

CALM_SECONDS = 3.0
"""After the end of a run without a write about the object for so long, no more are to come."""

END_SECONDS = 240.0
_RESTARTS = 5
_LOG_CHARACTERS = 3000


@dataclass
class Killing:
    """One operator at a time, through the proxy."""

    site: Site
    proxy: ApiProxy
    settings: dict[str, Any]
    operator: OperatorProcess | None = None
    writes: list[str] = field(default_factory=list)
    """Writes about the object of the last ``strike``, by all operators."""

    _struck: bool = False
    _restarts: int = 0
    _logs: list[Path] = field(default_factory=list)

    async def running(self) -> OperatorProcess:
        """The operator that works now; a new one when there is none."""
        while self.operator is None:
            await self._expire_lease()
            kubeconfig = self.site.kubeconfig_through(self.proxy)
            operator = await self.site.start_operator(kubeconfig=kubeconfig, **self.settings)
            self._logs.append(operator.log)
            self.operator = operator
            ready = asyncio.create_task(operator.ready())
            await self._while_it_lives(operator, ready)
            if self.operator is not None:
                await ready
        return self.operator

    async def strike(
        self, number: int, name: str, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[object]]
    ) -> bool:
        """Begin something, kill the operator after its write ``number`` about ``name``, have another take over, await the end.

        False when the run ended with fewer writes; then nobody was killed. Fails with writes and logs when the end does not come.
        """
        await self.running()
        self.writes.clear()
        self._logs = self._logs[-1:]
        self._struck = False
        self._restarts = 0
        self.proxy.after_write = lambda _, seen: self._note(seen, name, number)
        try:
            async with asyncio.timeout(END_SECONDS):
                await begin()
                await self._supervised(asyncio.ensure_future(end()))
                before = -1
                while not self._struck and before != len(self.writes):
                    before = len(self.writes)
                    await self._supervised(asyncio.ensure_future(asyncio.sleep(CALM_SECONDS)))
        except (AssertionError, TimeoutError, RuntimeError) as error:
            wrote = "\n".join(self.writes)
            said = "".join(f"\n--- {log}:\n{log.read_text()[-_LOG_CHARACTERS:]}" for log in self._logs)
            raise AssertionError(f"{name}, kill after write {number}: {error!r}\n--- writes:\n{wrote}{said}") from error
        finally:
            self.proxy.after_write = None
        return self._struck

    async def supervised(self, end: Awaitable[Any]) -> None:
        """Await it; meanwhile start an operator whenever there is none."""
        self._restarts = -_RESTARTS  # each is wanted
        await self._supervised(asyncio.ensure_future(end))

    async def _expire_lease(self) -> None:
        """Nobody holds the Lease any more. Only called when no operator runs."""
        lease = await self.site.api.get(LEASE, "unjucks-operator", names.PLATFORM_NAMESPACE)
        if lease is not None:
            lease["spec"]["holderIdentity"] = ""
            await self.site.api.replace(lease, manager="test")

    async def _supervised(self, task: asyncio.Future[Any]) -> None:
        """Await the task; meanwhile start an operator whenever there is none, as a kubelet would."""
        try:
            while not task.done():
                await self._while_it_lives(await self.running(), task)
            await task
        finally:
            task.cancel()

    async def _while_it_lives(self, operator: OperatorProcess, task: asyncio.Future[Any]) -> None:
        """Return when the task is done or the operator has ended; a loss of the Lease on a slow machine is no failure."""
        gone = asyncio.create_task(operator.process.wait())
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            self.operator = None
            self._restarts += 1
            assert self._restarts <= _RESTARTS, f"operators keep ending, the last one with {gone.result()}"
        gone.cancel()

    def _note(self, seen: Seen, name: str, number: int) -> None:
        if re.search(rf"\b{re.escape(name)}\b".encode(), seen.path.encode() + b"\n" + seen.body) is None:
            return
        self.writes.append(f"{seen.method} {seen.path}")
        if len(self.writes) >= number and not self._struck and self.operator is not None:
            self._struck = True
            self.operator.kill()


@asynccontextmanager
async def killing(site: Site, **settings: Any) -> AsyncIterator[Killing]:
    """Operators with these settings through a proxy; the last one is stopped at the end."""
    async with site.proxy() as proxy:
        made = Killing(site, proxy, settings)
        try:
            yield made
        finally:
            if made.operator is not None:
                await made.operator.stop()
