"""The system calls a confined process may still make, as a seccomp program. Pure: bytes out, nothing installed here.

Everything that is not listed fails with EPERM: no file is opened, no socket is made, no process is started, signalled or traced.
The lists hold what the interpreter needs once everything is imported. A foreign calling convention kills the process.
Installed by ``confinement``.
"""

import struct
from functools import cache
from typing import Final

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_BITS: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_EPERM: Final = 0x00050000 | 1

_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16
_PROT_EXEC: Final = 4
_X32: Final = 0x40000000

_AUDIT: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the architecture has no such call.
_CALLS: Final[dict[str, tuple[int | None, int]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "times": (100, 153),
    "getppid": (110, 173),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "prlimit64": (302, 261),
    "getrandom": (318, 278),
    "rseq": (334, 293),
}
# What a process that forks confined children needs on top.
_FORKING: Final[dict[str, tuple[int | None, int]]] = {
    "poll": (7, 73),
    "ppoll": (271, 73),
    "dup2": (33, 24),
    "dup3": (292, 24),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "clone": (56, 220),
    "fork": (57, 220),
    "wait4": (61, 260),
    "fcntl": (72, 25),
    "setsid": (112, 157),
    "setpriority": (141, 140),
    "prctl": (157, 167),
    "close_range": (436, 436),
    "kill": (62, 129),
    "set_robust_list": (273, 99),
    "getpriority": (140, 141),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "landlock_restrict_self": (446, 446),
    "capset": (126, 91),
}
_SELF_ONLY: Final = frozenset({"prlimit64"})  # first argument 0: the limits of others stay as they are
_NO_CODE: Final = frozenset({"mmap", "mprotect"})  # third argument without PROT_EXEC: no new machine code


def supported(machine: str) -> bool:
    """Whether there is a program for this architecture (``os.uname().machine``)."""
    return machine in _AUDIT


@cache
def program(machine: str, *, forking: bool = False) -> bytes:
    """The BPF program for ``machine``. ``forking``: for a process that starts confined children of its own.

    Raises KeyError for an architecture that has no table; ask ``supported`` first.
    """
    column = {"x86_64": 0, "aarch64": 1}[machine]
    calls = {name: row[column] for name, row in {**_CALLS, **(_FORKING if forking else {})}.items()}
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, _AUDIT[machine], 1, 0),
        _instruction(_RETURN, _KILL),
    ]
    code.append(_instruction(_LOAD, _NUMBER))
    if machine == "x86_64":
        code += [_instruction(_AT_LEAST, _X32, 0, 1), _instruction(_RETURN, _KILL)]
    for name, number in calls.items():
        if number is not None and name not in _SELF_ONLY and name not in _NO_CODE:
            code += [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, _ALLOW)]
    for name in sorted(_NO_CODE):
        code += _guarded(calls[name], [(2, _BITS, _PROT_EXEC, False)])
    for name in sorted(_SELF_ONLY):
        code += _guarded(calls[name], [(0, _EQUAL, 0, True)])
    code.append(_instruction(_RETURN, _EPERM))
    return b"".join(code)


def _instruction(code: int, value: int, when: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when, otherwise, value)


def _guarded(number: int | None, checks: list[tuple[int, int, int, bool]]) -> list[bytes]:
    """Allow ``number`` when the low half of each argument passes its check (index, jump, value, wanted outcome)."""
    assert number is not None
    body: list[bytes] = []
    for argument, jump, value, wanted in checks:
        body.append(_instruction(_LOAD, _ARGUMENTS + 8 * argument))  # both architectures are little-endian
        body.append(_instruction(jump, value, *((1, 0) if wanted else (0, 1))))
        body.append(_instruction(_RETURN, _EPERM))
    body.append(_instruction(_RETURN, _ALLOW))
    return [_instruction(_EQUAL, number, 0, len(body)), *body]
