"""Taking every power from the own process before it reads a task: the layers, and the proof that they hold.

Layers, each of which alone keeps a child from the TLS key and from the network: no file descriptor can be had any more
(RLIMIT_NOFILE 0), Landlock without any rule, seccomp without open/socket/fork/exec/kill. Not dumpable: processes of the same user
cannot read each other's memory. ``probe`` tries what must not work; the server refuses to serve when something does.
Called by ``zygote`` and ``child``; must be called after all imports, since nothing can be loaded afterwards.
"""

import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from unjucks_runtime.renderer import seccomp, syscalls

NICE = 5
PAGE = resource.getpagesize()
_LANDLOCK_FILESYSTEM = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
_LANDLOCK_FILESYSTEM_NEWEST = 0xFFFF
_LANDLOCK_NETWORK = 0x3  # TCP bind and connect, since version 4
_LANDLOCK_SCOPED = 0x3  # abstract sockets and signals of others, since version 6


@dataclass(frozen=True, slots=True)
class Layers:
    """Which optional layers the kernel gave: Landlock's ABI version (0: none) and seccomp."""

    landlock: int
    seccomp: bool


def confine(*, open_files: int = 0, forking: bool = False) -> Layers:
    """Confine this process for good. ``open_files``: highest descriptor number + 1 that may still be opened.

    ``forking`` leaves what is needed to start confined children of its own. Raises OSError when a layer that every supported
    kernel has is refused; Landlock and seccomp may be missing and are reported.
    """
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.drop_capabilities()
    landlock = _landlock()
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, open_files),
    ):
        resource.setrlimit(kind, (limit, limit))
    if not forking:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    filtered = seccomp.supported(syscalls.MACHINE)
    if filtered:
        try:
            syscalls.install_seccomp(seccomp.program(syscalls.MACHINE, forking=forking))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            filtered = False
    return Layers(landlock=landlock, seccomp=filtered)


def _landlock() -> int:
    version = syscalls.landlock_version()
    if version == 0:
        return 0
    try:
        syscalls.landlock_deny(
            _LANDLOCK_FILESYSTEM.get(version, _LANDLOCK_FILESYSTEM_NEWEST),
            _LANDLOCK_NETWORK if version >= 4 else 0,
            _LANDLOCK_SCOPED if version >= 6 else 0,
        )
    except OSError as error:
        # ENOSYS and EOPNOTSUPP: switched off. EPERM: an outer filter knows no Landlock. E2BIG: stacked too often.
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.E2BIG):
            raise
        return 0
    return version


def limit_resources(*, cpu_seconds: int, memory_bytes: int, base_memory_bytes: int) -> None:
    """The task's own limits: CPU seconds (SIGXCPU, one second later SIGKILL), address space over ``base_memory_bytes``.

    Zero leaves a limit as it is. Can be called after ``confine``: lowering one's own limits is always allowed.
    """
    if cpu_seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    if memory_bytes:
        total = base_memory_bytes + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (total, total))


def limit_softly(*, memory_bytes: int | None, cpu_seconds: int | None) -> None:
    """Soft limits on the whole address space and on CPU seconds from now on; None lifts one again up to its hard limit."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    for kind, wanted in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, None if cpu_seconds is None else spent + cpu_seconds),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (hard if wanted is None else wanted, hard))


def memory() -> tuple[int, int]:
    """Bytes of address space that this process has now, and resident ones; has to be read before ``confine``."""
    with open("/proc/self/statm", "rb") as file:
        return parse_statm(file.read())


def parse_statm(text: bytes) -> tuple[int, int]:
    """The first two numbers of /proc/self/statm, in bytes."""
    total, resident = text.split()[:2]
    return int(total) * PAGE, int(resident) * PAGE


def probe(secret_path: str) -> list[str]:
    """What this process can do although it must not; empty in a well confined one. ``secret_path``: a file that exists."""
    parent = os.getppid()
    # The parent's and the own limits and signal 0 only: a probe that succeeds does no harm.
    attempts: dict[str, Callable[[], object]] = {
        "open a file": lambda: os.close(os.open(secret_path, os.O_RDONLY)),
        "list a folder": lambda: os.listdir("/"),
        "create a file": lambda: os.close(os.open("probe", os.O_CREAT | os.O_WRONLY)),
        "make a TCP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
        "make a UDP socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close(),
        "make a UNIX socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close(),
        "duplicate a descriptor": lambda: os.close(os.dup(0)),
        "signal its parent": lambda: os.kill(parent, 0),
        "change its parent's limits": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0)),
        "raise its own limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        "start a process": _fork_and_reap,
    }
    possible = [what for what, attempt in attempts.items() if _works(attempt)]
    if not possible and _works(lambda: os.execve(sys.executable, [sys.executable, "-c", ""], {})):  # noqa: S606
        # Not reached: where this works there is no answer, which the server takes for what it is.
        possible.append("run a program")
    return possible


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ValueError):  # setrlimit says ValueError where the kernel says EPERM
        return False
    return True


def _fork_and_reap() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process as soon as ``parent`` is gone; exits at once when that happened already."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
