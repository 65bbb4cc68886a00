"""What a child can do when template code has taken it over completely: nothing, within its limits, and the failure has a type.

Each test runs real code in a real confined child; the attempts are made by ``support.hostile``.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

import orjson
import pytest

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import ErrorResponse, Limits
from unjucks_runtime.renderer.serving import TaskFailed
from unjucks_runtime.renderer.wire import Kind, TaskHeader
from unjucks_runtime.renderer.workers import Outcome, WorkerPool

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

MIB = 1024 * 1024
LIMITS = Limits(wall_seconds=20, cpu_seconds=20, memory_bytes=64 * MIB)


async def run(pool: WorkerPool, text: str, limits: Limits = LIMITS, *, bound: int = 100_000) -> Outcome:
    request = text.encode()
    header = TaskHeader(Kind.LOAD, limits.cpu_seconds, limits.memory_bytes, 0, len(request))
    return await pool.run(header, b"", request, limits=limits, reply_bound=bound)


async def said(pool: WorkerPool, text: str) -> str:
    return (await run(pool, text)).payload.decode()


async def failed(pool: WorkerPool, text: str, limits: Limits = LIMITS, *, bound: int = 100_000) -> ErrorResponse:
    with pytest.raises(TaskFailed) as caught:
        await run(pool, text, limits, bound=bound)
    return caught.value.response


# --- files, processes, network ----------------------------------------------------------------------------------------------


@pytest.mark.isolation("T-renderer-confinement")
async def test_no_file_is_read_written_or_even_seen(pool: WorkerPool, tmp_path: Path) -> None:
    secret, new = tmp_path / "tls.key", tmp_path / "new"
    secret.write_text("key")
    tmp_path.chmod(0o777)
    for text in (
        f"read {secret}",
        "read /proc/self/environ",
        "read /proc/1/environ",
        "read .",
        f"stat {secret}",
        f"write {new}",
        "write here",
        f"write {secret}",
        f"unlink {secret}",
        f"symlink {new}",
        f"mkdir {new}",
        "chdir /",
    ):
        assert await said(pool, text) == "denied", text
    assert secret.read_text() == "key"
    assert os.listdir(tmp_path) == ["tls.key"]


@pytest.mark.parametrize("text", ["fork", "thread", "spawn", "exec", "unlimit", "stop"])
@pytest.mark.isolation("T-renderer-confinement")
async def test_no_process_and_no_thread_is_started(pool: WorkerPool, text: str) -> None:
    assert await said(pool, text) == "denied"


@pytest.mark.isolation("T-renderer-confinement")
async def test_no_connection_is_made(pool: WorkerPool) -> None:
    accepted: list[object] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer.get_extra_info("peername"))
        writer.close()

    listener = await asyncio.start_server(note, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        assert await said(pool, f"connect 127.0.0.1:{port}") == "denied"
        assert await said(pool, "resolve localhost") == "denied"
        # The same code outside a child does connect: the test would notice if there were nothing to connect to.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
    assert len(accepted) == 1


@pytest.mark.isolation("T-renderer-confinement")
async def test_no_other_process_is_reached(pool: WorkerPool) -> None:
    assert await said(pool, f"kill {os.getpid()}") == "denied"
    assert await said(pool, "signal all") == "denied"


@pytest.mark.parametrize(
    ("number", "arguments"),
    [
        (101, "16 1 0 0"),  # ptrace attach
        (165, "0 0 0 0 0"),  # mount
        (272, "268435456"),  # unshare of the user namespace
        (310, "1 0 0 0 0 0"),  # process_vm_readv
        (321, "0 0 0"),  # bpf
        (323, "0"),  # userfaultfd
        (425, "1 0"),  # io_uring_setup
        (250, "0 0 0"),  # keyctl
        (319, "0 0"),  # memfd_create
        (105, "0"),  # setuid
        (56, "17 0 0 0 0"),  # clone
        (9, "0 4096 7 34 -1 0"),  # mmap of writable code
        (302, "1 4 0 0"),  # prlimit of another process
        (157, "4 1 0 0 0"),  # prctl: dumpable again
    ],
)
@pytest.mark.isolation("T-renderer-confinement")
async def test_no_dangerous_system_call_works(pool: WorkerPool, number: int, arguments: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64; the filter for others is tested by interpretation")
    assert await said(pool, f"syscall {number} {arguments}") == "denied"


@pytest.mark.isolation("T-renderer-confinement")
async def test_a_child_has_nothing_but_its_channel(pool: WorkerPool) -> None:
    assert await said(pool, "descriptors") == "0,1,2,3"
    state = orjson.loads(await said(pool, "state"))
    assert state["environment"] == {}
    assert state["limits"]["RLIMIT_NOFILE"] == [0, 0]
    assert state["limits"]["RLIMIT_NPROC"] == [0, 0]
    assert state["limits"]["RLIMIT_FSIZE"] == [0, 0]
    assert state["limits"]["RLIMIT_CORE"] == [0, 0]
    assert state["limits"]["RLIMIT_CPU"] == [20, 21]


@pytest.mark.isolation("T-renderer-confinement")
async def test_a_task_finds_nothing_of_the_one_before(pool: WorkerPool) -> None:
    assert await said(pool, "remember secret-of-one") == "nothing"
    assert await said(pool, "remember secret-of-two") == "nothing"


async def test_what_a_child_prints_reaches_no_log(pool: WorkerPool, capfd: pytest.CaptureFixture[str]) -> None:
    assert await said(pool, "print") == "printed"
    captured = capfd.readouterr()
    assert "forged" not in captured.out + captured.err


async def test_a_child_needs_nothing_that_is_not_loaded_yet(pool: WorkerPool) -> None:
    """All filters, tests and methods of the engine in a child that cannot open a file: nothing is left to be imported."""
    found = orjson.loads((await run(pool, "sweep", Limits(wall_seconds=50))).payload)
    assert found["done"] > 1000
    assert found["wanted"] == []


# --- limits -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["grow", "grow natively"])
@pytest.mark.isolation("T-renderer-confinement")
async def test_memory_is_limited(pool: WorkerPool, text: str) -> None:
    response = await failed_or_reported(pool, text)
    assert response.reason is Reason.LIMIT_EXCEEDED
    assert response.limit == "memory"
    assert not response.retryable


async def failed_or_reported(pool: WorkerPool, text: str) -> ErrorResponse:
    """A child that notices by itself answers; one that does not is found dead."""
    try:
        outcome = await run(pool, text)
    except TaskFailed as failure:
        return failure.response
    assert outcome.kind is Kind.FAILURE
    # Address space is what is limited; resident memory stays below base + limit, with what is shared with the zygote counted in.
    assert outcome.max_rss_bytes < 2.5 * 64 * MIB
    return ErrorResponse.model_validate_json(outcome.payload)


@pytest.mark.isolation("T-renderer-confinement")
async def test_cpu_is_limited(pool: WorkerPool) -> None:
    response = await failed(pool, "spin", LIMITS.model_copy(update={"cpu_seconds": 1}))
    assert (response.reason, response.limit) == (Reason.LIMIT_EXCEEDED, "cpu")


@pytest.mark.parametrize("text", ["sleep", "spin"])
async def test_wall_clock_is_limited(pool: WorkerPool, text: str) -> None:
    begin = time.monotonic()
    response = await failed(pool, text, LIMITS.model_copy(update={"wall_seconds": 0.5}))
    assert (response.reason, response.limit) == (Reason.LIMIT_EXCEEDED, "time")
    assert time.monotonic() - begin >= 0.5
    assert await said(pool, "fork") == "denied"  # the next task is served


@pytest.mark.parametrize("text", ["promise", "flood"])
@pytest.mark.isolation("T-renderer-confinement")
async def test_output_is_limited(pool: WorkerPool, text: str) -> None:
    response = await failed(pool, text)
    assert (response.reason, response.limit) == (Reason.LIMIT_EXCEEDED, "output")


@pytest.mark.parametrize("text", ["exit", "die"])
async def test_a_child_that_dies_is_lost_and_retryable(pool: WorkerPool, text: str) -> None:
    response = await failed(pool, text)
    assert response.reason is Reason.RENDERER_LOST
    assert response.retryable


async def test_a_killed_task_leaves_no_process(pool: WorkerPool) -> None:
    task = asyncio.create_task(run(pool, "sleep"))
    await wait_for_children(pool, 2)  # the task and the next spare
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await wait_for_children(pool, 1)


async def test_many_hostile_tasks_at_once(pool: WorkerPool) -> None:
    texts = ["grow", "exit", "flood", "fork", "die", "remember x", "promise", f"kill {os.getpid()}"] * 3
    results = await asyncio.gather(*(run(pool, text) for text in texts), return_exceptions=True)
    assert all(isinstance(result, Outcome | TaskFailed) for result in results)
    assert await said(pool, "fork") == "denied"
    assert pool.restarts == 0
    await wait_for_children(pool, 1)


# --- the zygote -------------------------------------------------------------------------------------------------------------


async def test_a_killed_zygote_is_replaced_and_its_tasks_are_retryable(pool: WorkerPool) -> None:
    task = asyncio.create_task(run(pool, "sleep"))
    children = await wait_for_children(pool, 2)
    zygote = zygote_of(pool)
    os.kill(zygote, signal.SIGKILL)
    with pytest.raises(TaskFailed) as caught:
        await task
    assert caught.value.response.reason is Reason.RENDERER_LOST
    assert caught.value.response.retryable
    assert await said(pool, "remember x") == "nothing"
    assert zygote_of(pool) != zygote
    async with asyncio.timeout(10):
        while any(is_running(pid) for pid in children):
            await asyncio.sleep(0.02)


async def test_children_end_with_the_pool() -> None:
    from support import hostile

    made = WorkerPool(program=hostile.PROGRAM)
    await made.start()
    zygote = zygote_of(made)
    task = asyncio.create_task(run(made, "sleep"))
    children = await wait_for_children(made, 2)
    await made.stop()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(10):
        while any(is_running(pid) for pid in [*children, zygote]):
            await asyncio.sleep(0.02)


def zygote_of(pool: WorkerPool) -> int:
    assert pool._process is not None
    return pool._process.pid


def children_of(pid: int) -> list[int]:
    return [int(item) for item in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def wait_for_children(pool: WorkerPool, count: int) -> list[int]:
    async with asyncio.timeout(10):
        while len(found := children_of(zygote_of(pool))) != count:
            await asyncio.sleep(0.01)
    return found
