"""Probes and metrics over real HTTP on the loopback; the heartbeat on a clock that is moved by hand."""

import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.clock import FakeClock
from unjucks_operator.engine.health import HealthServer, Heartbeat
from unjucks_operator.engine.metrics import Metrics


class Client:
    """A health server and questions to it."""

    def __init__(self, server: HealthServer, metrics: Metrics, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.metrics = metrics
        self.session = session

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.server.port}{path}") as answer:
            return answer.status, await answer.text()

    async def verbose(self, path: str) -> tuple[int, dict[str, object]]:
        async with self.session.get(f"http://127.0.0.1:{self.server.port}{path}?verbose") as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    metrics = Metrics(version="1.2.3")
    server = HealthServer(metrics.registry)
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Client(server, metrics, session)
    await server.stop()


async def test_without_problems_the_answer_is_ok(client: Client) -> None:
    client.server.live["loop"] = lambda: None
    assert await client.get("/livez") == (200, "ok\n")
    assert await client.verbose("/livez") == (200, {"status": "ok", "checks": {"loop": {"ok": True, "message": "ok"}}})


async def test_a_failure_says_which_check_and_why(client: Client) -> None:
    client.server.live |= {"loop": lambda: None, "watches": lambda: "silent for 200 s", "lease": lambda: "not renewed"}
    assert await client.get("/livez") == (503, "watches: silent for 200 s; lease: not renewed\n")
    status, details = await client.verbose("/livez")
    assert status == 503
    assert details["status"] == "failed"
    assert details["checks"] == {
        "loop": {"ok": True, "message": "ok"},
        "watches": {"ok": False, "message": "silent for 200 s"},
        "lease": {"ok": False, "message": "not renewed"},
    }


async def test_live_and_ready_are_separate(client: Client) -> None:
    client.server.ready["synced"] = lambda: "not listed yet"
    assert (await client.get("/livez"))[0] == 200
    assert (await client.get("/readyz"))[0] == 503


async def test_a_check_that_breaks_fails(client: Client) -> None:
    def broken() -> str | None:
        raise ZeroDivisionError

    client.server.live["broken"] = broken
    assert await client.get("/livez") == (503, "broken: the check itself failed: ZeroDivisionError\n")


async def test_changes_are_logged_once(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    problem: list[str | None] = ["not yet"]
    client.server.ready["synced"] = lambda: problem[0]
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await client.get("/readyz")
        problem[0] = None
        for _ in range(3):
            await client.get("/readyz")
        problem[0] = "gone again"
        await client.get("/readyz")
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("INFO", "/readyz fails: synced: not yet"),
        ("INFO", "/readyz is well"),
        ("WARNING", "/readyz fails: synced: gone again"),
    ]


async def test_metrics_are_served_as_prometheus_text(client: Client) -> None:
    status, text = await client.get("/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["unjucks_build_info"].samples[0].labels["version"] == "1.2.3"
    assert families["unjucks_leader"].samples[0].value == 0


async def test_nothing_else_is_served(client: Client) -> None:
    assert (await client.get("/"))[0] == 404
    async with client.session.post(f"http://127.0.0.1:{client.server.port}/livez") as answer:
        assert answer.status == 405


async def test_a_port_that_is_taken_is_an_error_at_start(client: Client) -> None:
    second = HealthServer(Metrics().registry, port=client.server.port)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await second.stop()


async def test_the_heartbeat_measures_lag_and_notices_silence() -> None:
    clock, lags = FakeClock(), list[float]()
    heart = Heartbeat(silence=10, clock=clock, lag=lags.append)
    await heart.start()
    await clock.advance(5)
    assert lags == [0.0] * 5
    assert heart.check_loop() is None
    clock._now += 12  # the loop is blocked: time passes, nothing runs
    assert heart.check_loop() == "the event loop did not turn for 12.0 s"
    await clock.advance(0)
    assert lags[-1] == pytest.approx(11)
    assert heart.check_loop() is None
    await heart.stop()


@pytest.mark.parametrize(("jump", "fine"), [(200.0, True), (-200.0, True), (301.0, False), (-301.0, False)])
async def test_a_time_of_day_that_jumps_is_noticed(jump: float, fine: bool) -> None:
    clock = FakeClock()
    heart = Heartbeat(clock=clock)
    await heart.start()
    await clock.advance(3600)
    assert heart.check_clock() is None
    clock.jump_wall(jump)
    assert (heart.check_clock() is None) is fine
    await heart.stop()
