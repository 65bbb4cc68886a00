"""Whether tenants of the shared database are really kept apart: schema linter and live canary, at the start and now and then.

    linter (catalogs) + canary (real SQL of two tenants of nobody) → evidence → tenants woken when it differs → repair → again

What it finds is told first and mended afterwards, as far as the operator may mend it: ``security.sql`` again. Must not: write
anything but that. Between rounds nothing happens, and a round that finds what the last one found wakes nobody. Made by ``app``;
runs in the leading process only.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from unjucks_operator.database.canary import CHECKS, run_canary
from unjucks_operator.database.lint import RULES, lint
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import Tenants
from unjucks_operator.engine.clock import Clock
from unjucks_operator.errors import OperatorError
from unjucks_operator.evidence import Evidence

_log = logging.getLogger(__name__)

_POLL: Final = 0.5
_SOON: Final = 30.0
"""Seconds until the next round after one that found something, or came to no result."""
_TELL_AGAIN: Final = timedelta(hours=6)
_MOST_TOLD: Final = 10
_LONGEST: Final = 250


class IsolationVerifier:
    """``evidence`` is what the last round brought; None before the first one came to a result."""

    def __init__(
        self,
        database: Database,
        tenants: Tenants,
        *,
        is_ready: Callable[[], bool],
        on_change: Callable[[], None],
        interval: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._database = database
        self._tenants = tenants
        self._is_ready = is_ready
        self._on_change = on_change
        self._interval = interval
        self._clock = clock
        self._rng = rng
        self._task: asyncio.Task[None] | None = None
        self._told: Evidence | None = None
        self.evidence: Evidence | None = None

    async def start(self) -> None:
        """Begin; returns at once. The first round follows as soon as the database is prepared."""
        self._task = asyncio.create_task(self._run(), name="isolation checks")

    async def stop(self) -> None:
        """End; a round under way is rolled back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._is_ready():
            await self._clock.sleep(_POLL)
        while True:
            latest = await self._once()
            good = latest is not None and not latest.failures
            pause = self._interval if good else min(self._interval, _SOON)
            await self._clock.sleep(pause * self._rng.uniform(0.9, 1.1))

    async def _once(self) -> Evidence | None:
        try:
            latest = await self.check()
        except OperatorError as error:
            _log.warning("the isolation in the database could not be checked: %s", error.message)
            return None
        except Exception:
            # Nobody waits for this task: an error that ended it would end every later check without a word.
            _log.exception("unexpected error while the isolation in the database was checked")
            return None
        self._conclude(latest)
        if latest.failures:
            await self._repair()
        return latest

    async def check(self) -> Evidence:
        """One round, without any consequence. Raises what the database raises."""
        async with self._database.service_tx() as connection:
            findings = await lint(connection, self._database.prefix)
        try:
            findings += [f"canary: {text}" for text in await run_canary(self._database)]
        except OperatorError as error:
            # What the linter found may be what hinders the canary; then it is told, and mended, all the same.
            if not findings:
                raise
            findings.append(f"canary: it could not run: {error.message}")
        told = tuple(text[:_LONGEST] for text in findings[:_MOST_TOLD])
        return Evidence(self._clock.wall(), len(RULES) + CHECKS, told)

    def _conclude(self, latest: Evidence) -> None:
        for text in latest.failures:
            _log.error("the isolation in the database has a hole: %s", text)
        if self.evidence is not None and self.evidence.failures and not latest.failures:
            _log.info("the isolation in the database is whole again")
        self.evidence = latest
        told = self._told
        old = told is None or told.at is None or latest.at is None or latest.at - told.at >= _TELL_AGAIN
        if old or not latest.same_result(told):
            self._told = latest
            self._on_change()

    async def _repair(self) -> None:
        try:
            await self._tenants.repair_schema()
        except OperatorError as error:
            _log.warning("the hole in the database cannot be closed from here: %s", error.message)
        except Exception:
            _log.exception("unexpected error while the isolation in the database was repaired")
