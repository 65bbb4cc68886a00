"""The renderer's pure parts: frames, the tree cache, the reading of a child's end, settings, the seccomp program."""

import signal
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Limits
from unjucks_api.tree import tree_digest
from unjucks_runtime.renderer import seccomp
from unjucks_runtime.renderer.forker import Exit
from unjucks_runtime.renderer.settings import default_task_memory, parse, parser
from unjucks_runtime.renderer.trees import TreeCache
from unjucks_runtime.renderer.wire import (
    FrameError,
    Kind,
    TaskHeader,
    pack_reply,
    pack_tree,
    unpack_reply_header,
    unpack_task_header,
    unpack_tree,
)
from unjucks_runtime.renderer.workers import classify

# --- frames -----------------------------------------------------------------------------------------------------------------


def test_task_header_survives_the_wire() -> None:
    header = TaskHeader(Kind.RENDER, cpu_seconds=60, memory_bytes=1 << 40, tree_bytes=7, request_bytes=9)
    assert unpack_task_header(header.pack()) == header


@pytest.mark.parametrize("data", [b"", b"x" * 25, b"UJT1" + b"\xff" * 21])
def test_what_is_no_task_header(data: bytes) -> None:
    with pytest.raises(FrameError):
        unpack_task_header(data)


def test_reply_is_bounded_before_it_is_read() -> None:
    frame = pack_reply(Kind.RESULT, b"12345")
    assert unpack_reply_header(frame[:9], bound=5) == (Kind.RESULT, 5)
    with pytest.raises(FrameError, match="over the bound"):
        unpack_reply_header(frame[:9], bound=4)


@pytest.mark.parametrize(
    "head",
    [b"GET / HTT", b"UJT1\x02\0\0\0\x01", b"UJT1\xee\0\0\0\x01", b"UJT1\x10\0\0"],
    ids=["text", "task", "kind", "short"],
)
def test_what_is_no_reply(head: bytes) -> None:
    with pytest.raises(FrameError):
        unpack_reply_header(head, bound=1000)


def test_tree_survives_the_wire() -> None:
    tree = {"b/ü": (b"\0\xff", 0o755), "a": (b"", 0o644)}
    assert unpack_tree(pack_tree(tree)) == tree
    assert unpack_tree(b"") == {}
    with pytest.raises(FrameError):
        unpack_tree(pack_tree(tree)[:-1])
    with pytest.raises(FrameError):
        unpack_tree(pack_tree(tree) + b"\0")


# --- tree cache -------------------------------------------------------------------------------------------------------------


def tree(text: str) -> tuple[str, dict[str, tuple[bytes, int]]]:
    files = {"f": (text.encode() * 100, 0o644)}
    return tree_digest(files), files


def test_cache_keeps_the_most_recently_used() -> None:
    one, two, three = tree("1"), tree("2"), tree("3")
    cache = TreeCache(250)
    cache.add(*one)
    cache.add(*two)
    assert cache.get(one[0]) is not None
    cache.add(*three)
    assert cache.get(two[0]) is None
    assert cache.get(one[0]) == pack_tree(one[1])
    assert len(cache) == 2


def test_cache_takes_no_tree_under_a_wrong_name_and_none_that_is_too_large() -> None:
    cache = TreeCache(50)
    with pytest.raises(ValueError, match="sha256:"):
        cache.add("sha256:00", tree("1")[1])
    assert cache.add(*tree("1")) == pack_tree(tree("1")[1])
    assert len(cache) == 0


# --- how a child ended ------------------------------------------------------------------------------------------------------

LIMITS = Limits(cpu_seconds=5, memory_bytes=100 * 1024 * 1024)


@pytest.mark.parametrize(
    ("end", "kills", "reason", "limit"),
    [
        (Exit(signal.SIGXCPU, 5.0, 0), 0, Reason.LIMIT_EXCEEDED, "cpu"),
        (Exit(signal.SIGKILL, 6.0, 0), 0, Reason.LIMIT_EXCEEDED, "cpu"),
        (Exit(signal.SIGKILL, 0.1, 0), 1, Reason.LIMIT_EXCEEDED, "memory"),
        (Exit(signal.SIGKILL, 0.1, 0), 0, Reason.RENDERER_LOST, ""),
        (Exit(signal.SIGABRT, 0.1, 90 << 20), 0, Reason.LIMIT_EXCEEDED, "memory"),
        (Exit(signal.SIGSEGV, 0.1, 60 << 20), 0, Reason.RENDERER_LOST, ""),
        (Exit(70 << 8, 0.1, 0), 0, Reason.RENDERER_LOST, ""),
        (Exit(0, 0.1, 0), 0, Reason.RENDERER_LOST, ""),
        (None, 0, Reason.RENDERER_LOST, ""),
    ],
)
def test_how_a_child_ended_says_why(end: Exit | None, kills: int, reason: Reason, limit: str) -> None:
    response = classify(end, LIMITS, memory_kills=kills, base_rss=35 << 20).response
    assert (response.reason, response.limit) == (reason, limit)
    assert response.retryable == (reason is Reason.RENDERER_LOST)


# --- settings ---------------------------------------------------------------------------------------------------------------


def test_flags_win_over_the_environment() -> None:
    environment = {"UNJUCKS_RENDERER_MAX_TASKS": "7", "UNJUCKS_RENDERER_GRACE": "1.5", "UNJUCKS_RENDERER_ONCE": "false"}
    settings = parse(["--max-tasks", "3"], environment)
    assert (settings.max_tasks, settings.grace, settings.once) == (3, 1.5, False)


def test_once_means_one_task() -> None:
    assert parse([], {"UNJUCKS_RENDERER_ONCE": "true", "UNJUCKS_RENDERER_MAX_TASKS": "9"}).max_tasks == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (["--max-tasks", "0"], {}, "--max-tasks"),
        (["--port", "70000"], {}, "--port"),
        (["--task-memory", "1000"], {}, "--task-memory"),
        (["--reload-interval", "0"], {}, "--reload-interval"),
        (["--grace", "-1"], {}, "--grace"),
        ([], {"UNJUCKS_RENDERER_GRACE": "soon"}, "UNJUCKS_RENDERER_GRACE"),
        ([], {"UNJUCKS_RENDERER_ONCE": "perhaps"}, "UNJUCKS_RENDERER_ONCE"),
        ([], {"UNJUCKS_RENDERER_LOG_LEVEL": "loud"}, "UNJUCKS_RENDERER_LOG_LEVEL"),
    ],
)
def test_bad_settings_are_named(
    arguments: list[str], environment: Mapping[str, str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments, environment)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err.splitlines()[-1]


def test_help_names_every_flag_and_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], {})
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--certificates", "--once", "--max-tasks", "--grace", "--task-memory", "UNJUCKS_RENDERER_MAX_TASKS"):
        assert flag in text


def test_the_manual_names_every_flag_and_its_default() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "renderer.md").read_text(encoding="utf-8")
    flags = [option for action in parser()._actions for option in action.option_strings if option.startswith("--")]
    assert [flag for flag in flags if f"`{flag}`" not in manual and flag != "--help"] == []
    defaults = parse([], {})
    for name in ("max_tasks", "tree_cache", "warm_trees", "port", "health_port", "certificates", "log_level"):
        assert f"`{getattr(defaults, name)}`" in manual, name


def test_tasks_share_the_containers_memory() -> None:
    mib = 1024 * 1024
    assert default_task_memory(608 * mib, 2) == 256 * mib
    assert default_task_memory(64 * mib, 2) == 32 * mib
    assert default_task_memory(0, 2) == 1024 * mib


# --- seccomp ----------------------------------------------------------------------------------------------------------------

ALLOW, KILL, EPERM = 0x7FFF0000, 0x80000000, 0x00050001
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def run_filter(program: bytes, number: int, architecture: int, arguments: tuple[int, ...] = ()) -> int:
    """What the program says about a system call: an interpreter of the few instructions that it is made of."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *(*arguments, *[0] * (6 - len(arguments))))
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = at = 0
    while True:
        operation, when, otherwise, value = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
            at += when if holds else otherwise


@pytest.mark.parametrize("machine", sorted(ARCHITECTURES))
@pytest.mark.parametrize("forking", [False, True])
def test_seccomp_program(machine: str, forking: bool) -> None:
    program = seccomp.program(machine, forking=forking)
    architecture = ARCHITECTURES[machine]
    column = 0 if machine == "x86_64" else 1
    calls = {
        "openat": (257, 56),
        "socket": (41, 198),
        "connect": (42, 203),
        "execve": (59, 221),
        "execveat": (322, 281),
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "io_uring_setup": (425, 425),
        "bpf": (321, 280),
        "keyctl": (250, 219),
        "unshare": (272, 97),
        "mount": (165, 40),
        "userfaultfd": (323, 282),
        "memfd_create": (319, 279),
        "pidfd_getfd": (438, 438),
        "clone3": (435, 435),
    }
    for name, numbers in calls.items():
        assert run_filter(program, numbers[column], architecture) == EPERM, name
    for name, numbers in {"clone": (56, 220), "kill": (62, 129), "recvmsg": (47, 212), "prctl": (157, 167)}.items():
        assert run_filter(program, numbers[column], architecture) == (ALLOW if forking else EPERM), name
    for name, numbers in {"read": (0, 63), "write": (1, 64), "exit_group": (231, 94), "futex": (202, 98)}.items():
        assert run_filter(program, numbers[column], architecture) == ALLOW, name
    mmap, mprotect, prlimit = (9, 222)[column], (10, 226)[column], (302, 261)[column]
    for call in (mmap, mprotect):
        assert run_filter(program, call, architecture, (0, 4096, 3)) == ALLOW
        assert run_filter(program, call, architecture, (0, 4096, 7)) == EPERM
    assert run_filter(program, prlimit, architecture, (0, 9)) == ALLOW
    assert run_filter(program, prlimit, architecture, (1, 9)) == EPERM
    assert run_filter(program, 1, 0x40000003) == KILL  # 32 bit
    if machine == "x86_64":
        assert run_filter(program, 0x40000001, architecture) == KILL  # x32


def test_no_program_for_an_unknown_machine() -> None:
    assert not seccomp.supported("riscv64")
