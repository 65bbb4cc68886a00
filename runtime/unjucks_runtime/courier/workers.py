"""Starts one process for each task, feeds it the request, and ends it in time, whatever it does. Called by ``courier.server``."""

import asyncio
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass

from unjucks_api.courier_protocol import MAX_COURIER_RESPONSE_BYTES, CourierLimits
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import ErrorResponse
from unjucks_runtime.courier.child import FAILURE, RESULT
from unjucks_runtime.renderer.serving import TaskFailed

MARGIN_SECONDS = 5.0
"""On top of a task's own wall clock: its start, and its own chance to say that it is over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task answered, as JSON, and what it cost."""

    payload: bytes
    wall_seconds: float
    cpu_seconds: float


def _environment() -> dict[str, str]:
    """Nothing of the server's but where the code is; a task has no proxy, no home and no credentials by environment."""
    path = os.pathsep.join(item for item in sys.path if item)
    return {"PYTHONPATH": path, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}


async def run(kind: str, request: bytes, limits: CourierLimits) -> Outcome:
    """The task's result. Raises TaskFailed."""
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "unjucks_runtime.courier.child"),
        *(kind, str(limits.cpu_seconds), str(limits.memory_bytes)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
        cwd="/",
        limit=1 << 20,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limits.wall_seconds + MARGIN_SECONDS):
            answer = await _talk(process, request)
            code = await process.wait()
    except TimeoutError:
        raise _over("time", f"not finished within {limits.wall_seconds:g} s", retryable=True) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    kind_of, payload = answer[:1], answer[1:]
    if kind_of == RESULT and code == 0:
        return Outcome(payload, time.monotonic() - started, cpu)
    if kind_of == FAILURE and code == 0:
        raise TaskFailed(ErrorResponse.model_validate_json(payload))
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _over("cpu", f"the task needed more than {limits.cpu_seconds} s of CPU time, or was killed")
    raise TaskFailed(
        ErrorResponse(reason=Reason.INTERNAL_ERROR, message=f"the task's process ended with {code}", retryable=True)
    )


async def _talk(process: asyncio.subprocess.Process, request: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    writing = asyncio.create_task(_write(process.stdin, request))
    try:
        answer = bytearray()
        while chunk := await process.stdout.read(1 << 18):
            answer += chunk
            if len(answer) > MAX_COURIER_RESPONSE_BYTES:
                raise _over("output", f"the answer is larger than {MAX_COURIER_RESPONSE_BYTES} bytes")
        return bytes(answer)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def _write(pipe: asyncio.StreamWriter, request: bytes) -> None:
    try:
        pipe.write(request)
        await pipe.drain()
        pipe.close()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ended without reading all: its answer, or its exit, says why


def _over(limit: str, message: str, *, retryable: bool = False) -> TaskFailed:
    reason = Reason.FETCH_FAILED if retryable else Reason.LIMIT_EXCEEDED
    return TaskFailed(ErrorResponse(reason=reason, message=message, limit=limit, retryable=retryable))
