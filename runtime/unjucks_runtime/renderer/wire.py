"""How the server, the zygote and the children talk: frames on socket pairs. Pure packing and unpacking, no I/O of its own.

The server trusts the zygote (which never reads task data) and trusts nothing that a child writes: a reply is one frame whose
length is bounded before a byte of it is read. Used by ``workers`` on one side and by ``zygote`` and ``child`` on the other.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

_MAGIC = b"UJT1"
_TASK = struct.Struct("!4sBIQII")
_REPLY = struct.Struct("!4sBI")
_FILE = struct.Struct("!HHI")

TASK_HEADER_BYTES = _TASK.size
REPLY_HEADER_BYTES = _REPLY.size

Tree = Mapping[str, tuple[bytes, int]]


class FrameError(ValueError):
    """Bytes that are no frame, or a frame over its bound."""


class Kind(IntEnum):
    """What a child is asked to do, and what it answers."""

    ANALYZE = 1
    RENDER = 2
    PROBE = 3
    LOAD = 4
    RESULT = 16
    FAILURE = 17


@dataclass(frozen=True, slots=True)
class TaskHeader:
    """Comes first on a child's channel: the limits it sets for itself before it reads the rest.

    ``cpu_seconds`` and ``memory_bytes`` (address space on top of what the fresh child has) become rlimits; 0 leaves a limit as
    it is. ``tree_bytes`` and ``request_bytes`` are the lengths of the two parts that follow.
    """

    kind: Kind
    cpu_seconds: int
    memory_bytes: int
    tree_bytes: int
    request_bytes: int

    def pack(self) -> bytes:
        """The header's bytes, ``TASK_HEADER_BYTES`` long."""
        return _TASK.pack(_MAGIC, self.kind, self.cpu_seconds, self.memory_bytes, self.tree_bytes, self.request_bytes)


def unpack_task_header(data: bytes) -> TaskHeader:
    """The opposite of ``TaskHeader.pack``; FrameError when the bytes are something else."""
    try:
        magic, kind, cpu, memory, tree, request = _TASK.unpack(data)
        if magic != _MAGIC:
            raise FrameError("not a task frame")
        return TaskHeader(Kind(kind), cpu, memory, tree, request)
    except (struct.error, ValueError) as error:
        raise FrameError(f"not a task frame: {error}") from error


def pack_reply(kind: Kind, payload: bytes) -> bytes:
    """A child's only frame."""
    return _REPLY.pack(_MAGIC, kind, len(payload)) + payload


def unpack_reply_header(data: bytes, *, bound: int) -> tuple[Kind, int]:
    """(kind, length of the payload) of a child's answer; FrameError when it is none or longer than ``bound`` bytes."""
    try:
        magic, number, length = _REPLY.unpack(data)
        kind = Kind(number)
    except (struct.error, ValueError) as error:
        raise FrameError(f"not a reply: {error}") from error
    if magic != _MAGIC or kind not in (Kind.RESULT, Kind.FAILURE):
        raise FrameError("not a reply")
    if length > bound:
        raise FrameError(f"a reply of {length} bytes is over the bound of {bound}")
    return kind, length


def pack_tree(files: Tree) -> bytes:
    """A file tree as one string of bytes, in the order of the paths."""
    parts: list[bytes] = []
    for path in sorted(files):
        content, mode = files[path]
        name = path.encode()
        parts += (_FILE.pack(len(name), mode & 0o7777, len(content)), name, content)
    return b"".join(parts)


def unpack_tree(data: bytes) -> dict[str, tuple[bytes, int]]:
    """The opposite of ``pack_tree``; FrameError when bytes are missing."""
    files: dict[str, tuple[bytes, int]] = {}
    at = 0
    while at < len(data):
        try:
            name_length, mode, size = _FILE.unpack_from(data, at)
        except struct.error as error:
            raise FrameError("a tree ends in the middle of a file") from error
        start = at + _FILE.size + name_length
        at = start + size
        if at > len(data):
            raise FrameError("a tree ends in the middle of a file")
        files[data[start - name_length : start].decode()] = (data[start : start + size], mode)
    return files
