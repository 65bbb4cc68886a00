"""The zygote: imports everything once, then forks a confined child whenever the server asks. It reads no task data itself.

Started as a program of its own by ``workers`` *before* the server loads the TLS key, so that no copy of the key is in its memory.
On request it also forks a *nested* zygote that parses one template tree under limits and then forks children that have it
parsed already; such a nested zygote serves that tree and nothing else, and is confined itself.

Control messages are JSON, one for each packet: ``fork``, ``nest``, ``kill`` in; ``ready``, ``started``, ``exited`` out.
"""

import gc
import os
import select
import signal
import socket
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson

from unjucks_runtime.renderer import child, confinement, seccomp, syscalls, tasks
from unjucks_runtime.renderer.wire import TASK_HEADER_BYTES, Kind, pack_reply, unpack_task_header, unpack_tree

MESSAGE_BYTES = 4096
_NESTED_OPEN_FILES = 64
_OOM_SCORE = 500  # the kernel should take a child or a zygote before it takes the server
_CONTROL_AFTER_NEST = child.CHANNEL + 1


@dataclass(slots=True)
class Zygote:
    """One forking process. ``handler`` is None in production; see ``child.run``."""

    control: socket.socket
    loaded: tasks.Loaded | None = None
    handler: child.Handler | None = None
    statm: int = -1
    """An open /proc/self/statm: a confined zygote cannot open it any more."""

    null: int = 2
    """A descriptor of /dev/null, for the children's stderr."""

    children: dict[int, int] = field(default_factory=dict)
    """Process id -> the number that the server gave."""

    wake: int = field(init=False)
    """Readable when a child has ended. Made here and not in ``serve``: a confined zygote could not."""

    def __post_init__(self) -> None:
        self.wake, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Fork on demand until the server closes the control socket."""
        wake = self.wake
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        # Not from getrusage: that remembers the process which this one was before it became another program.
        self.send({"op": "ready", "engine": tasks.engine_version(), "rss": self._memory()[1]})
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == wake:
                    os.read(wake, 4096)
                    self._reap()
                else:
                    data, descriptors, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES, 2)
                    if not data:
                        return
                    self._handle(orjson.loads(data), descriptors)

    def send(self, message: dict[str, Any]) -> None:
        """One packet to the server; exits when the server is gone."""
        try:
            self.control.send(orjson.dumps(message))
        except OSError:
            os._exit(0)

    def _handle(self, message: dict[str, Any], descriptors: list[int]) -> None:
        number = int(message["id"])
        if message["op"] == "kill":
            for process, other in self.children.items():
                if other == number:  # not reaped yet, so the process id is still this child's
                    os.kill(process, signal.SIGKILL)
            return
        base = self._memory()[0]
        me = os.getpid()
        process = os.fork()
        if process == 0:
            try:
                os.dup2(self.null, 2)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                if message["op"] == "nest":
                    _become_nested(descriptors[0], descriptors[1], base, me, self.handler)
                child.keep_only(descriptors[0])
                child.run(self.loaded, base, me, self.handler)
            finally:
                os._exit(child.EXIT_BROKEN)
        for descriptor in descriptors:
            os.close(descriptor)
        self.children[process] = number
        self.send({"op": "started", "id": number, "pid": process})

    def _reap(self) -> None:
        while self.children:
            process, status, usage = os.wait4(-1, os.WNOHANG)
            if process == 0:
                return
            number = self.children.pop(process)
            self.send(
                {
                    "op": "exited",
                    "id": number,
                    "status": status,
                    "cpu": usage.ru_utime + usage.ru_stime,
                    "rss": usage.ru_maxrss * 1024,
                }
            )

    def _memory(self) -> tuple[int, int]:
        """Bytes of address space, and resident ones."""
        if self.statm < 0:
            return confinement.memory()
        os.lseek(self.statm, 0, os.SEEK_SET)
        return confinement.parse_statm(os.read(self.statm, 256))


def _become_nested(channel: int, control: int, base: int, parent: int, handler: child.Handler | None) -> NoReturn:
    """Read a LOAD task from the channel, parse its tree, then be a zygote on ``control`` until that is closed."""
    child.keep_only(channel, control)
    statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    zygote = Zygote(socket.socket(fileno=_CONTROL_AFTER_NEST), statm=statm, handler=handler)
    os.setsid()
    confinement.die_with_parent(parent)
    confinement.confine(open_files=_NESTED_OPEN_FILES, forking=True)
    header = unpack_task_header(child.read_exactly(child.CHANNEL, TASK_HEADER_BYTES) or b"")
    tree = child.read_exactly(child.CHANNEL, header.tree_bytes)
    request = child.read_exactly(child.CHANNEL, header.request_bytes)
    if header.kind is not Kind.LOAD or tree is None or request is None:
        os._exit(child.EXIT_BROKEN)
    # Only for the parsing, hence soft: the children set hard limits of their own, and the server's clock holds anyway.
    confinement.limit_softly(memory_bytes=base + header.memory_bytes, cpu_seconds=header.cpu_seconds)
    try:
        zygote.loaded = tasks.load(unpack_tree(tree), request)
    except (tasks.TaskFailure, MemoryError, RecursionError):
        # The server falls back to children that parse for themselves; they say what is wrong.
        os._exit(child.EXIT_BROKEN)
    del tree, request
    confinement.limit_softly(memory_bytes=None, cpu_seconds=None)
    gc.collect()
    gc.freeze()
    child.write_all(child.CHANNEL, pack_reply(Kind.RESULT, b""))
    os.close(child.CHANNEL)
    zygote.serve()
    os._exit(0)


def main(control: int, handler: child.Handler | None = None) -> None:
    """The program. ``control``: descriptor of the control socket, inherited from the server."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(_OOM_SCORE))
    except OSError:
        pass  # a hint only; some sandboxes have no such file
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    os.environ.clear()
    if seccomp.supported(syscalls.MACHINE):  # kept from here on, so that no child has to make them
        seccomp.program(syscalls.MACHINE)
        seccomp.program(syscalls.MACHINE, forking=True)
    tasks.warm_up()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # short-lived children: collecting rarely is cheaper, the memory limit still holds
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    os.set_inheritable(control, False)
    with socket.socket(fileno=control) as channel:
        Zygote(channel, handler=handler, null=null).serve()
