"""Retries: which failures are tried again, how long it takes to the next attempt, and that a restart goes on counting."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from support.builders import job
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import EngineOptions
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.errors import Retryable, Terminal, Unavailable
from unjucks_operator.job.execute import Execution, Place
from unjucks_operator.job.plan import Occasion, Run
from unjucks_operator.job.running import Running, pause_after
from unjucks_operator.job.status import NextAttempt, Progress, compute_pending

KEY = ("tenant-acme", "orders")
RUN = Run("key", "", "", "service", "new", {}, (), EngineOptions())
NOW = datetime(2026, 6, 1, tzinfo=UTC)
LOST = Retryable("renderer r-1: the connection was closed", reason=Reason.RENDERER_LOST)


class Failing:
    """An execution that fails: the outside whose failures are under test."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def run(self, *_: Any) -> Reason:
        raise self.error


def running(error: Exception, body: Any) -> Running:
    store = ResourceStore()
    store.put(body)
    return Running(store=store, execution=cast(Execution, Failing(error)), retries=3)


def body_of(made: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": made.name, "namespace": made.namespace, "uid": made.uid, "resourceVersion": "1"},
        "spec": {},
    }


async def attempt(runner: Running, made: Any) -> Any:
    async def tell(current: Any) -> Any:
        return current

    return await runner.run(KEY, made, body_of(made), RUN, cast(Place, None), Progress(NOW), tell)


@pytest.mark.parametrize(
    ("retry", "pauses"),
    [
        ({}, [5, 10, 20, 40, 60, 60]),
        ({"backoff": {"duration": "1s", "factor": 3, "cap": "10s"}}, [1, 3, 9, 10]),
        ({"backoff": {"duration": "2m"}}, [120, 120]),
        ({"backoff": {"duration": "1s", "factor": 1}}, [1, 1, 1]),
    ],
)
def test_pauses_grow_to_their_cap(retry: dict[str, Any], pauses: list[int]) -> None:
    made = job(spec={"retry": retry})
    assert [pause_after(made, number) for number in range(1, len(pauses) + 1)] == pauses


@pytest.mark.asyncio
async def test_attempts_are_counted_and_end() -> None:
    made = job(spec={"retry": {"limit": 1}})
    runner = running(LOST, body_of(made))
    with pytest.raises(NextAttempt, match="attempt 1 of 2") as first:
        await attempt(runner, made)
    assert (first.value.after, first.value.reason) == (5.0, Reason.RENDERER_LOST)
    with pytest.raises(Terminal, match="given up after 2 attempts: renderer r-1") as last:
        await attempt(runner, made)
    assert last.value.reason is Reason.RETRY_LIMIT_REACHED


@pytest.mark.asyncio
async def test_a_restart_goes_on_counting_from_status() -> None:
    made = job()
    error = NextAttempt("x", reason=Reason.RENDERER_LOST, after=5, attempts=3, run_key=RUN.key)
    later = job(status=compute_pending(made, error, started=None, now=NOW))
    with pytest.raises(Terminal, match="given up after 4 attempts") as caught:
        await attempt(running(LOST, body_of(later)), later)
    assert caught.value.reason is Reason.RETRY_LIMIT_REACHED


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", [Reason.DATABASE_UNAVAILABLE, Reason.API_SERVER_UNAVAILABLE])
async def test_what_stops_everybody_costs_no_attempt(reason: Reason) -> None:
    made = job(spec={"retry": {"limit": 0}})
    runner = running(Unavailable("down", reason=reason), body_of(made))
    for _ in range(5):
        with pytest.raises(Unavailable):
            await attempt(runner, made)


@pytest.mark.asyncio
async def test_an_error_of_the_template_is_never_tried_again() -> None:
    made = job()
    with pytest.raises(Terminal, match="nmae is undefined"):
        await attempt(running(Terminal("nmae is undefined", reason=Reason.UNDEFINED_VARIABLE), body_of(made)), made)


@pytest.mark.asyncio
async def test_a_schedule_that_goes_on_meanwhile_does_not_begin_to_count_anew() -> None:
    """Each time has a run of its own: were they counted apart, a schedule each minute would fail for ever and never say so."""
    made = job(spec={"retry": {"limit": 2}})
    runner = running(LOST, body_of(made))

    async def tell(current: Any) -> Any:
        return current

    async def scheduled(minute: int) -> None:
        time = NOW.replace(minute=minute)
        run = replace(RUN, key=f"key-{minute}", occasion=Occasion(f"schedule/{minute}", scheduled=time))
        await runner.run(KEY, made, body_of(made), run, cast(Place, None), Progress(NOW), tell)

    for minute in (1, 2):
        with pytest.raises(NextAttempt):
            await scheduled(minute)
    with pytest.raises(Terminal, match="given up after 3 attempts"):
        await scheduled(3)
