"""Linux system calls that Python has no function for: prctl, capset, Landlock and seccomp, through ctypes.

Thin and without policy: what to forbid is decided in ``confinement`` and ``seccomp``. Every function raises OSError as the kernel
answers, so that callers can tell "not there" (ENOSYS, EOPNOTSUPP) from "refused".
"""

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.restype = ctypes.c_int

MACHINE = os.uname().machine
"""Asked once: a confined process cannot ask any more."""

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2

# The same numbers on every architecture that Linux added after 2019.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION = 1
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int = 0) -> None:
    """prctl(2) with one argument; the others are zero."""
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero), "prctl")


def drop_capabilities() -> None:
    """Give up every capability of this process, for good (nothing happens where there is none)."""
    number = _CAPSET.get(MACHINE)
    if number is None:
        return
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.syscall(ctypes.c_long(number), ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))), "capset")


def landlock_version() -> int:
    """The ABI version of Landlock, 0 where the kernel has none or keeps it off."""
    version: int = _libc.syscall(
        ctypes.c_long(_LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_LANDLOCK_VERSION)
    )
    return max(version, 0)


def landlock_deny(filesystem: int, network: int, scoped: int) -> None:
    """Forbid this process the given rights (bit masks of the kernel's uapi) everywhere: a ruleset without any rule."""
    attributes = struct.pack("=QQQ", filesystem, network, scoped)
    size = 8 if not network and not scoped else 16 if not scoped else 24
    descriptor = _check(
        _libc.syscall(
            ctypes.c_long(_LANDLOCK_CREATE_RULESET),
            ctypes.c_char_p(attributes),
            ctypes.c_size_t(size),
            ctypes.c_uint(0),
        ),
        "landlock_create_ruleset",
    )
    try:
        _check(
            _libc.syscall(ctypes.c_long(_LANDLOCK_RESTRICT_SELF), ctypes.c_int(descriptor), ctypes.c_uint(0)),
            "landlock_restrict_self",
        )
    finally:
        os.close(descriptor)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install_seccomp(program: bytes) -> None:
    """Install a classic BPF program (instructions of 8 bytes) as a seccomp filter; needs no_new_privs."""
    handle = _Program(len(program) // 8, program)
    zero = ctypes.c_ulong(0)
    _check(
        _libc.prctl(
            ctypes.c_int(PR_SET_SECCOMP), ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(handle), zero, zero
        ),
        "seccomp",
    )
