"""The child process: confined, reads one task from its channel, answers with one frame, exits. It never returns to its caller.

Forked by ``zygote`` and waiting as a spare until the server writes a task. It holds one descriptor (the channel), the zygote's
empty environment and nothing that another task left behind. It must not import anything after ``confine``: no file can be opened.
"""

import gc
import os
from collections.abc import Callable

from unjucks_runtime.renderer import confinement, tasks
from unjucks_runtime.renderer.wire import (
    TASK_HEADER_BYTES,
    Kind,
    TaskHeader,
    pack_reply,
    unpack_task_header,
    unpack_tree,
)

Handler = Callable[[TaskHeader, bytes, bytes, tasks.Loaded | None], bytes]

CHANNEL = 3
_DEVNULL_FDS = (0, 1, 2)
_CHUNK = 1 << 20
EXIT_OK = 0
EXIT_NO_TASK = 0
EXIT_BROKEN = 70


def keep_only(*descriptors: int) -> None:
    """Close everything but stdin, stdout, stderr and ``descriptors``, which become 3, 4, … in the order given.

    The three standard descriptors have to be /dev/null already: what a template prints must not look like a log line.
    """
    # Out of the way first, so that no move overwrites a descriptor that still has to move.
    floor = CHANNEL + len(descriptors)
    high = [os.dup2(fd, floor + max(descriptors) + index, inheritable=False) for index, fd in enumerate(descriptors)]
    for index, fd in enumerate(high):
        os.dup2(fd, CHANNEL + index, inheritable=False)
    os.closerange(floor, 1 << 16)


def run(loaded: tasks.Loaded | None, base_memory_bytes: int, parent: int, handler: Handler | None = None) -> None:
    """Serve one task on descriptor 3, then exit. ``loaded``: an action that an ancestor has compiled already.

    ``handler`` replaces the task itself (the tests' way to run hostile code under the real confinement).
    """
    status = EXIT_BROKEN
    try:
        os.setsid()
        confinement.die_with_parent(parent)
        os.setpriority(os.PRIO_PROCESS, 0, confinement.NICE)
        confinement.confine()
        tasks.rehearse()
        status = _serve(loaded, base_memory_bytes, handler)
    finally:
        # No clean-up, no atexit, no traceback: nothing of this process is worth a flush.
        os._exit(status)


def _serve(loaded: tasks.Loaded | None, base_memory_bytes: int, handler: Handler | None) -> int:
    head = read_exactly(CHANNEL, TASK_HEADER_BYTES)
    if head is None:
        return EXIT_NO_TASK
    header = unpack_task_header(head)
    confinement.limit_resources(
        cpu_seconds=header.cpu_seconds, memory_bytes=header.memory_bytes, base_memory_bytes=base_memory_bytes
    )
    try:
        tree = read_exactly(CHANNEL, header.tree_bytes)
        request = read_exactly(CHANNEL, header.request_bytes)
        if tree is None or request is None:
            return EXIT_BROKEN
        reply = pack_reply(Kind.RESULT, (handler or perform)(header, tree, request, loaded))
    except tasks.TaskFailure as failure:
        reply = pack_reply(Kind.FAILURE, failure.response.model_dump_json().encode())
    except MemoryError:
        tree = request = b""
        gc.collect()
        reply = pack_reply(Kind.FAILURE, tasks.OUT_OF_MEMORY)
    except RecursionError:
        reply = pack_reply(Kind.FAILURE, tasks.TOO_DEEP)
    except Exception as error:  # a defect of ours: said as such, without the error's text, which may hold values
        reply = pack_reply(Kind.FAILURE, tasks.defect(error).response.model_dump_json().encode())
    write_all(CHANNEL, reply)
    # The server looks up what this process cost before it lets it go; the end itself is nobody's to wait for.
    os.read(CHANNEL, 1)
    return EXIT_OK


def perform(header: TaskHeader, tree: bytes, request: bytes, loaded: tasks.Loaded | None) -> bytes:
    """The task itself; raises TaskFailure."""
    if header.kind is Kind.RENDER:
        return tasks.render(request, loaded if loaded is not None else unpack_tree(tree))
    if header.kind is Kind.ANALYZE:
        return tasks.analyze(request)
    if header.kind is Kind.PROBE:
        return "\n".join(confinement.probe(request.decode())).encode()
    raise tasks.broken(f"a child cannot do {header.kind.name}")


def read_exactly(descriptor: int, length: int) -> bytes | None:
    """``length`` bytes, or None when the other side closed before."""
    if length == 0:
        return b""
    data = bytearray()
    while len(data) < length:
        chunk = os.read(descriptor, min(length - len(data), _CHUNK))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def write_all(descriptor: int, data: bytes) -> None:
    """All of ``data``; OSError when the other side is gone."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
