"""The server's end of a zygote: asks for children, learns of their start and end, kills them. One event loop, no threads.

A ``Slot`` is one child, seen from here: its channel, and futures for its process id and for its end. Used by ``workers``.
"""

import asyncio
import itertools
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

_MESSAGE_BYTES = 4096
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended. ``status`` as of wait(2); seconds of CPU; the highest resident set in bytes."""

    status: int
    cpu_seconds: float
    max_rss_bytes: int

    @property
    def signal(self) -> int:
        """The signal that ended it, 0 when it exited."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def code(self) -> int:
        """Its exit code, -1 when a signal ended it."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else -1


@dataclass(slots=True)
class Slot:
    """One child. ``exited`` gives None when the zygote died and nobody can tell any more."""

    number: int
    channel: socket.socket
    started: asyncio.Future[int]
    exited: asyncio.Future[Exit | None]
    nested_control: socket.socket | None = None


@dataclass(slots=True)
class Forker:
    """A zygote that is reachable over ``control`` (a connected SOCK_SEQPACKET socket, non-blocking)."""

    control: socket.socket
    on_death: Callable[[], None]
    ready: asyncio.Future[str] = field(init=False)
    """The engine's version, once the zygote has imported everything."""

    base_rss: int = 0
    """Resident bytes of the zygote itself: what a child has without doing anything, at most."""

    slots: dict[int, Slot] = field(default_factory=dict)
    dead: bool = False
    _spare: Slot | None = None
    _loop: asyncio.AbstractEventLoop = field(init=False)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ready = self._loop.create_future()
        self.control.setblocking(False)
        self._loop.add_reader(self.control.fileno(), self._readable)

    def keep_spare(self) -> None:
        """Have a child ready and waiting. Raises OSError when the zygote is gone."""
        if self._spare is not None and self._spare.exited.done():
            self._spare.channel.close()
            self._spare = None
        if self._spare is None:
            self._spare = self.fork()

    def take(self) -> Slot:
        """A child for one task: the spare, or a new one; the next spare is on its way. Raises OSError when the zygote is gone."""
        self.keep_spare()
        slot, self._spare = self._spare, None
        assert slot is not None
        self.keep_spare()
        return slot

    def fork(self, *, nested: bool = False) -> Slot:
        """Ask for a child (``nested``: a zygote of its own). Raises OSError when the zygote is gone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        handed = [theirs]
        control: socket.socket | None = None
        if nested:
            control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            handed.append(other)
        slot = Slot(next(_numbers), ours, self._loop.create_future(), self._loop.create_future(), control)
        self.slots[slot.number] = slot
        try:
            message = orjson.dumps({"op": "nest" if nested else "fork", "id": slot.number})
            socket.send_fds(self.control, [message], [item.fileno() for item in handed])
        except OSError:
            del self.slots[slot.number]
            ours.close()
            if control is not None:
                control.close()
            raise
        finally:
            for item in handed:
                item.close()
        return slot

    def kill(self, slot: Slot) -> None:
        """SIGKILL for the child, if it still runs. By the zygote, which knows that the process id is not somebody else's."""
        if self.dead or slot.exited.done():
            return
        try:
            self.control.send(orjson.dumps({"op": "kill", "id": slot.number}))
        except OSError:
            self.close()

    def close(self) -> None:
        """Let go of the zygote; it ends, and its children with it."""
        if self.dead:
            return
        self.dead = True
        self._loop.remove_reader(self.control.fileno())
        self.control.close()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the zygote ended before it was ready"))
            self.ready.exception()  # fetched, so that nobody has to
        for slot in list(self.slots.values()):
            self._ended(slot, None)
        if self._spare is not None:
            self._spare.channel.close()
            self._spare = None
        self.on_death()

    def _readable(self) -> None:
        while not self.dead:
            try:
                data = self.control.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self._handle(orjson.loads(data))

    def _handle(self, message: dict[str, Any]) -> None:
        if message["op"] == "ready":
            self.base_rss = int(message["rss"])
            if not self.ready.done():
                self.ready.set_result(str(message["engine"]))
            return
        slot = self.slots.get(int(message["id"]))
        if slot is None:
            return
        if message["op"] == "started" and not slot.started.done():
            slot.started.set_result(int(message["pid"]))
        elif message["op"] == "exited":
            self._ended(slot, Exit(int(message["status"]), float(message["cpu"]), int(message["rss"])))

    def _ended(self, slot: Slot, end: Exit | None) -> None:
        self.slots.pop(slot.number, None)
        slot.started.cancel()
        if not slot.exited.done():
            slot.exited.set_result(end)
