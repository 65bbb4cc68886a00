"""Starting and stopping components: order, failures, signals, exit codes."""

import asyncio
import logging
import os
import signal

import pytest

from support.clock import settle
from unjucks_operator.engine.process import Exit, Group, Piece, Process, StartError


class Part:
    """A component that notes its life in a shared list."""

    def __init__(self, log: list[str], name: str, *, fails: Exception | None = None, waits: bool = False) -> None:
        self.log = log
        self.name = name
        self.fails = fails
        self.waits = waits

    async def start(self) -> None:
        self.log.append(f"start {self.name}")
        if self.fails is not None:
            raise self.fails
        if self.waits:
            await asyncio.Event().wait()
        self.log.append(f"started {self.name}")

    async def stop(self) -> None:
        self.log.append(f"stop {self.name}")


@pytest.fixture
def log() -> list[str]:
    return []


async def running(process: Process) -> asyncio.Task[Exit]:
    task = asyncio.create_task(process.run())
    await settle()
    return task


async def test_parts_start_in_order_and_stop_in_reverse(log: list[str]) -> None:
    process = Process()
    for name in ("a", "b"):
        process.add(name, Part(log, name))
    task = await running(process)
    assert process.started
    process.request_stop("test")
    assert await task == Exit.OK
    assert log == ["start a", "started a", "start b", "started b", "stop b", "stop a"]
    assert not process.urgent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it(log: list[str], number: signal.Signals) -> None:
    process = Process()
    process.add("a", Part(log, "a"))
    task = await running(process)
    os.kill(os.getpid(), number)
    assert await task == Exit.OK
    assert log[-1] == "stop a"


async def test_a_part_that_waits_in_start_does_not_hold_up_the_end(log: list[str]) -> None:
    process = Process()
    process.add("a", Part(log, "a"))
    process.add("lease", Part(log, "lease", waits=True))
    process.add("never", Part(log, "never"))
    task = await running(process)
    assert not process.started
    process.request_stop("test")
    assert await task == Exit.OK
    assert log == ["start a", "started a", "start lease", "stop lease", "stop a"]


async def test_a_part_that_cannot_start_ends_the_process_with_its_code(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    process = Process()
    process.add("a", Part(log, "a"))
    process.add("b", Part(log, "b", fails=StartError("the CA is gone", Exit.UNREACHABLE)))
    assert await process.run() == Exit.UNREACHABLE
    assert log == ["start a", "started a", "start b", "stop b", "stop a"]
    assert "b cannot start: the CA is gone" in caplog.text
    assert not any(record.exc_info for record in caplog.records)


async def test_an_unexpected_error_in_start_is_logged_with_its_traceback(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    process = Process()
    process.add("a", Part(log, "a", fails=ZeroDivisionError()))
    assert await process.run() == Exit.FAILED
    assert any(record.exc_info for record in caplog.records)


async def test_a_failure_while_running_ends_it_at_once_and_the_first_one_decides(log: list[str]) -> None:
    process = Process()
    process.add("a", Part(log, "a"))
    task = await running(process)
    process.fail("the lease is lost", Exit.LOST_LEASE)
    process.fail("and then this", Exit.FAILED)
    process.request_stop("and a signal")
    assert await task == Exit.LOST_LEASE
    assert process.urgent


async def test_a_failure_after_the_signal_does_not_change_the_code(log: list[str]) -> None:
    process = Process()
    process.add("a", Part(log, "a"))
    task = await running(process)
    process.request_stop("SIGTERM")
    process.fail("late")
    assert await task == Exit.OK
    assert not process.urgent


async def test_a_part_that_does_not_stop_is_abandoned(log: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def broken() -> None:
        raise ValueError("broken")

    process = Process(stop_timeout=0.05)
    process.add("a", Part(log, "a"))
    process.add("stuck", Piece(end=stuck))
    process.add("broken", Piece(end=broken))
    task = await running(process)
    with caplog.at_level(logging.WARNING):
        process.request_stop("test")
        assert await task == Exit.OK
    assert log[-1] == "stop a"
    assert "stuck did not stop" in caplog.text
    assert "broken failed to stop" in caplog.text


async def test_a_group_starts_in_order_and_stops_at_once(log: list[str]) -> None:
    gate = asyncio.Barrier(2)

    async def meet() -> None:
        await gate.wait()
        log.append("met")

    group = Group()
    group.add(Part(log, "a"))
    group.add(Piece(end=meet))
    group.add(Piece(end=meet))
    group.add(Part(log, "never", fails=ZeroDivisionError()))
    group.add(Part(log, "after"))
    with pytest.raises(ZeroDivisionError):
        await group.start()
    async with asyncio.timeout(5):  # one after the other they would wait for each other for ever
        await group.stop()
    assert log[:3] == ["start a", "started a", "start never"]
    assert sorted(log[3:]) == ["met", "met", "stop a", "stop never"]


async def test_a_group_ends_everything_before_it_reports_a_failure(log: list[str]) -> None:
    async def broken() -> None:
        raise ValueError("broken")

    group = Group()
    group.add(Piece(end=broken))
    group.add(Part(log, "b"))
    await group.start()
    with pytest.raises(ValueError, match="broken"):
        await group.stop()
    assert log[-1] == "stop b"
