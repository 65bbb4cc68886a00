"""Runs tasks in children: keeps the zygote alive and a spare child waiting, feeds a task, bounds the answer, kills at the limit.

``WorkerPool.run`` is the only door: bytes in, bytes and costs out, or a ``TaskFailed`` with the typed reason. It never trusts
what a child says about itself: time is measured here, CPU and memory come from the kernel by way of the zygote.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import ErrorResponse, Limits
from unjucks_runtime.renderer.forker import Exit, Forker, Slot
from unjucks_runtime.renderer.serving import TaskFailed
from unjucks_runtime.renderer.wire import (
    REPLY_HEADER_BYTES,
    FrameError,
    Kind,
    TaskHeader,
    unpack_reply_header,
)

log = logging.getLogger(__name__)

_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from unjucks_runtime.renderer.zygote import main; main(int(sys.argv[2]))"
)
_READY_SECONDS = 60.0
_SPARE_SECONDS = 10.0
_EXIT_SECONDS = 5.0
_BACKOFF_SECONDS = (0.05, 0.2, 1.0, 5.0)
_CHUNK = 1 << 18
_CRASHES = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS})
_CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")


class ZygoteError(Exception):
    """The zygote does not start."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child answered (``kind`` RESULT or FAILURE, bytes not yet validated) and what it cost."""

    kind: Kind
    payload: bytes
    cpu_seconds: float
    max_rss_bytes: int
    wall_seconds: float


def lost(message: str) -> TaskFailed:
    """The child is gone for a reason that is not the task's; somewhere else it may succeed."""
    return TaskFailed(ErrorResponse(reason=Reason.RENDERER_LOST, message=message, retryable=True))


def over(limit: str, message: str) -> TaskFailed:
    """The task needed more than it may have."""
    return TaskFailed(ErrorResponse(reason=Reason.LIMIT_EXCEEDED, message=message, limit=limit))


def classify(end: Exit | None, limits: Limits, *, memory_kills: int, base_rss: int) -> TaskFailed:
    """Why a child ended without an answer. Pure.

    ``memory_kills``: how often the kernel's OOM killer struck here meanwhile. ``base_rss``: resident bytes of a child that has
    done nothing yet. Native code that gets no memory crashes; so a crash of a process that is half full counts as that.
    """
    if end is None:
        return lost("the renderer lost its worker process; the task can be run again")
    if end.signal == signal.SIGXCPU or (end.signal == signal.SIGKILL and end.cpu_seconds >= limits.cpu_seconds):
        return over(
            "cpu",
            f"the task used more than {limits.cpu_seconds} s of CPU; make the templates do less or raise the limit",
        )
    crashed_full = end.signal in _CRASHES and end.max_rss_bytes - base_rss >= limits.memory_bytes // 2
    if crashed_full or (end.signal == signal.SIGKILL and memory_kills > 0):
        return over("memory", f"the task needed more than {limits.memory_bytes} bytes of memory")
    if end.signal:
        return lost(f"the worker process was ended by {signal.Signals(end.signal).name}; the task can be run again")
    return lost(f"the worker process ended with code {end.code} and without an answer; the task can be run again")


def memory_kills() -> int:
    """How often the OOM killer struck in this container's cgroup so far; 0 where that cannot be read."""
    try:
        for line in _CGROUP_EVENTS.read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        pass
    return 0


def cost_of(pid: int) -> tuple[float, int] | None:
    """(CPU seconds, highest resident set in bytes) of a running process, from the kernel; None when they cannot be read."""
    try:
        spent = int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[0])
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"VmHWM:"):
                return spent / 1e9, int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


class WorkerPool:
    """The zygote, its spare child, and running tasks. ``program`` starts the zygote and gets sys.path and a descriptor appended."""

    def __init__(self, *, program: Sequence[str] | None = None) -> None:
        self._program = tuple(program or (sys.executable, "-I", "-c", _BOOT))
        self._forker: Forker | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._available = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._died = asyncio.Event()
        self._endings: set[asyncio.Task[Exit | None]] = set()
        self.engine_version = ""
        self.restarts = 0

    @property
    def ready(self) -> bool:
        """Whether a task would find a zygote."""
        return self._available.is_set()

    async def start(self) -> None:
        """Start the zygote and wait until it can fork. Raises ZygoteError when it cannot."""
        await self._spawn()
        self._supervisor = asyncio.create_task(self._supervise(), name="zygote-supervisor")

    async def stop(self) -> None:
        """End the zygote and every child."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        self._available.clear()
        if self._forker is not None:
            self._forker.close()
        for ending in self._endings:
            ending.cancel()
        await self._bury()

    async def run(
        self,
        header: TaskHeader,
        tree: bytes,
        request: bytes,
        *,
        limits: Limits,
        reply_bound: int,
        forker: Forker | None = None,
    ) -> Outcome:
        """One task in one fresh child, forked by ``forker`` if given. Raises TaskFailed; on cancellation the child is killed."""
        begin = time.monotonic()
        forker, slot = await self._take(forker)
        kills = memory_kills()
        try:
            try:
                async with asyncio.timeout(limits.wall_seconds):
                    answer = await self._converse(slot, header, tree, request, reply_bound)
            except TimeoutError:
                raise over(
                    "time",
                    f"the task took longer than {limits.wall_seconds:g} s; make the templates do less or raise the limit",
                ) from None
            except FrameError as error:
                raise over("output", f"the worker process answered with more than is allowed: {error}") from error
            if answer is None:
                end = await self._end(forker, slot)
                raise classify(end, limits, memory_kills=memory_kills() - kills, base_rss=forker.base_rss)
        except BaseException:
            forker.kill(slot)
            slot.channel.close()
            raise
        cost = cost_of(slot.started.result()) if slot.started.done() else None
        slot.channel.close()  # it ends now
        if cost is None:
            end = await self._end(forker, slot)
            cost = (end.cpu_seconds, end.max_rss_bytes) if end else (0.0, 0)
        else:
            ending = asyncio.create_task(self._end(forker, slot), name="ending")
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
        kind, payload = answer
        return Outcome(kind, payload, *cost, wall_seconds=time.monotonic() - begin)

    async def _converse(
        self, slot: Slot, header: TaskHeader, tree: bytes, request: bytes, bound: int
    ) -> tuple[Kind, bytes] | None:
        """Send the task, read the answer; None when the child ended without a whole one."""
        loop = asyncio.get_running_loop()
        try:
            small = len(tree) + len(request) <= _CHUNK
            for part in (header.pack() + tree + request,) if small else (header.pack(), tree, request):
                if part:
                    await loop.sock_sendall(slot.channel, part)
        except OSError:
            pass  # it died while reading, or answers already (a refusal): the answer tells
        head = await self._receive(slot.channel, REPLY_HEADER_BYTES)
        if head is None:
            return None
        kind, length = unpack_reply_header(head, bound=bound)
        payload = await self._receive(slot.channel, length)
        return None if payload is None else (kind, payload)

    async def _receive(self, channel: socket.socket, length: int) -> bytes | None:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < length:
            try:
                chunk = await loop.sock_recv(channel, min(length - len(data), _CHUNK))
            except OSError:
                return None
            if not chunk:
                return None
            data += chunk
        return bytes(data)

    async def _end(self, forker: Forker, slot: Slot) -> Exit | None:
        """Wait for the child's end; one that stays after its answer is killed."""
        done, _ = await asyncio.wait({slot.exited}, timeout=_EXIT_SECONDS)
        if not done:
            forker.kill(slot)
            done, _ = await asyncio.wait({slot.exited}, timeout=_EXIT_SECONDS)
        if not done:
            log.error("a killed worker process does not end; the zygote is replaced")
            forker.close()
        return slot.exited.result() if slot.exited.done() else None

    async def nest(self, header: TaskHeader, tree: bytes, setting: bytes, *, limits: Limits) -> Forker:
        """A zygote that has parsed ``tree`` already. Raises TaskFailed when it does not get there within the limits."""
        base = await self._base()
        slot = base.fork(nested=True)
        control = slot.nested_control
        assert control is not None
        forker: Forker | None = None
        try:
            async with asyncio.timeout(limits.wall_seconds):
                answer = await self._converse(slot, header, tree, setting, 0)
                if answer is None:
                    raise lost("the template set could not be kept parsed")
                forker = Forker(control, lambda: base.kill(slot))
                await forker.ready
                forker.keep_spare()
                return forker
        except BaseException as error:
            base.kill(slot)
            if forker is None:
                control.close()
            else:
                forker.close()
            if isinstance(error, TimeoutError | FrameError | OSError):
                raise lost(f"the template set could not be kept parsed: {error}") from error
            raise
        finally:
            slot.channel.close()

    async def _base(self) -> Forker:
        try:
            async with asyncio.timeout(_SPARE_SECONDS):
                await self._available.wait()
        except TimeoutError:
            raise lost("the renderer cannot start worker processes at the moment") from None
        assert self._forker is not None
        return self._forker

    async def _take(self, forker: Forker | None) -> tuple[Forker, Slot]:
        if forker is None or forker.dead:
            forker = await self._base()
        try:
            return forker, forker.take()
        except OSError:
            forker.close()
            raise lost("the renderer lost its worker process; the task can be run again") from None

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._died.clear()
        # The zygote and its children work in a folder that is gone: nothing is in it and nothing can be made in it.
        with theirs, tempfile.TemporaryDirectory(prefix="unjucks-") as nowhere:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  a few milliseconds, at the start; no outside input
                [*self._program, json.dumps(sys.path), str(theirs.fileno())],
                env={},
                cwd=nowhere,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        forker = Forker(ours, self._on_death)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                self.engine_version = await forker.ready
            self._forker = forker
            forker.keep_spare()
        except (TimeoutError, OSError) as error:
            forker.close()
            await self._bury()
            raise ZygoteError(f"the worker zygote did not start: {error}") from error
        self._available.set()

    def _on_death(self) -> None:
        self._available.clear()
        self._died.set()

    async def _supervise(self) -> None:
        failures = 0
        while True:
            await self._died.wait()
            await self._bury()
            log.error("the worker zygote ended; a new one is started")
            await asyncio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
            self.restarts += 1
            try:
                await self._spawn()
                failures = 0
            except ZygoteError as error:
                failures += 1
                log.error("%s", error)
                self._died.set()

    async def _bury(self) -> None:
        """Make sure that the zygote's process is gone and reaped."""
        process = self._process
        if process is None:
            return
        process.kill()  # its control socket is closed already; this is for one that hangs
        for _ in range(200):
            if process.poll() is not None:
                break
            await asyncio.sleep(0.01)
        self._process = None

    def reap_orphans(self) -> None:
        """As process 1 of a container: reap processes whose own parent is gone, so that none stays as a zombie."""
        if os.getpid() != 1:
            return
        try:
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if self._process is not None and found.si_pid == self._process.pid:
                    return  # the supervisor's
                os.waitpid(found.si_pid, 0)
        except ChildProcessError:
            pass  # there are none
