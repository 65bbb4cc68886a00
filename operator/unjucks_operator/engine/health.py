"""The HTTP server for the kubelet and Prometheus: /livez, /readyz, /metrics. Serves no data of anybody's, changes nothing.

/livez   200 while this process works; 503 names the checks that fail: then a restart is the cure.
/readyz  200 when it can do its part: caches filled, and leading or standing by.
Both answer in one line; ``?verbose`` gives JSON with every check. A check is a function that returns None when all is well, else
what is wrong; it must be fast and must not wait.

Must not: check things that a restart does not cure (a database that is down) in /livez: that would make an outage worse.
Called by ``__main__``; whoever has something to say adds a check.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from unjucks_operator.engine.clock import Clock, SystemClock

Check = Callable[[], str | None]
_log = logging.getLogger(__name__)


class Heartbeat:
    """Proof that the event loop turns: a task that beats each second, measures how late it is, and compares the two clocks.

    Liveness fails when the time of day moved against the monotonic clock by more than ``skew`` seconds (a suspended machine, a
    clock that somebody set): time stamps that we wrote would be wrong, and a restart begins with a clean slate.
    """

    def __init__(
        self,
        *,
        silence: float = 10.0,
        skew: float = 300.0,
        clock: Clock | None = None,
        lag: Callable[[float], None] = lambda _seconds: None,
        period: float = 1.0,
    ) -> None:
        self._silence = silence
        self._skew = skew
        self._clock = clock or SystemClock()
        self._lag = lag
        self._period = period
        self._last = self._clock.monotonic()
        self._began: tuple[float, datetime] = (self._last, self._clock.wall())
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to beat."""
        self._last = self._clock.monotonic()
        self._began = (self._last, self._clock.wall())
        self._task = asyncio.create_task(self._beat(), name="heartbeat")

    async def stop(self) -> None:
        """Stop beating."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(self._period)
            self._last = self._clock.monotonic()
            self._lag(max(0.0, self._last - before - self._period))

    def check_loop(self) -> str | None:
        """A ``Check``: the loop turned lately."""
        age = self._clock.monotonic() - self._last
        return f"the event loop did not turn for {age:.1f} s" if age > self._silence else None

    def check_clock(self) -> str | None:
        """A ``Check``: the time of day and the monotonic clock agree on how much time has passed."""
        monotonic, wall = self._began
        passed = self._clock.monotonic() - monotonic
        drift = (self._clock.wall() - wall).total_seconds() - passed
        return (
            f"the time of day moved by {drift:+.0f} s against the monotonic clock" if abs(drift) > self._skew else None
        )


class HealthServer:
    """See the module's text. ``port`` 0 takes a free one; ``port`` says which after ``start``."""

    def __init__(self, registry: CollectorRegistry, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.live: dict[str, Check] = {}
        self.ready: dict[str, Check] = {}
        self.port = port
        self._host = host
        self._registry = registry
        self._runner: web.AppRunner | None = None
        self._failing: dict[str, frozenset[str]] = {}
        self._well: set[str] = set()
        """Those that have been well once: before that, not to be ready yet is nothing to warn of."""

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _livez(self, request: web.Request) -> web.Response:
        return self._answer("livez", self.live, request)

    async def _readyz(self, request: web.Request) -> web.Response:
        return self._answer("readyz", self.ready, request)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _answer(self, name: str, checks: dict[str, Check], request: web.Request) -> web.Response:
        results = {check: _outcome(function) for check, function in checks.items()}
        failed = {check: problem for check, problem in results.items() if problem is not None}
        self._tell(name, failed)
        status = 503 if failed else 200
        if "verbose" in request.query:
            body = {
                "status": "failed" if failed else "ok",
                "checks": {
                    check: {"ok": problem is None, "message": problem or "ok"} for check, problem in results.items()
                },
            }
            return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
        text = "; ".join(f"{check}: {problem}" for check, problem in failed.items()) or "ok"
        return web.Response(status=status, text=text + "\n")

    def _tell(self, name: str, failed: dict[str, str]) -> None:
        """Log a change, once: what the kubelet does next should have its reason in the log."""
        before, now = self._failing.get(name, frozenset()), frozenset(failed)
        if now == before and name in self._failing:
            return
        starting = name == "readyz" and name not in self._well
        self._failing[name] = now
        if not now:
            self._well.add(name)
            _log.info("/%s is well", name)
        else:
            _log.log(
                logging.INFO if starting else logging.WARNING,
                "/%s fails: %s",
                name,
                "; ".join(f"{check}: {failed[check]}" for check in sorted(now)),
            )


def _outcome(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # a check that breaks must not look like one that passes
        _log.exception("a health check failed to run")
        return f"the check itself failed: {type(error).__name__}"
