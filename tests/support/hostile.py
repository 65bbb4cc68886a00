"""What a broken engine would let a template do, as functions that run inside a real child under the real confinement.

Not part of the product: a pool or a renderer started with ``PROGRAM`` here calls ``handle`` for each task instead of the generator,
and ``handle`` does what the task's text (or the variable ``do`` of a RenderRequest) says. Without ``do`` it is the real thing.

    python -m support.hostile [flags of unjucks-renderer]      a whole renderer of that kind
"""

import ctypes
import encodings.idna  # noqa: F401  loaded now: the attempts must fail at the system, not at an import
import functools
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.abc import MetaPathFinder

import orjson

import unjucks_engine
from unjucks_api.render_protocol import RenderResponse
from unjucks_runtime.renderer import child
from unjucks_runtime.renderer.tasks import Loaded
from unjucks_runtime.renderer.wire import Kind, TaskHeader

PROGRAM = (
    sys.executable,
    "-I",
    "-c",
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from unjucks_runtime.renderer.zygote import main; from support.hostile import handle; main(int(sys.argv[2]), handle)",
)

_left_behind: list[str] = []


def attempt(action: Callable[[], object]) -> str:
    """``denied`` when the system refuses, ``done`` when it does not."""
    try:
        action()
    except (OSError, ValueError, RuntimeError):
        return "denied"
    return "done"


def _grow() -> str:
    kept = []
    while True:
        kept.append(bytearray(1 << 20))


def _grow_natively() -> str:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while True:
        address = libc.malloc(ctypes.c_size_t(1 << 22))
        if not address:
            ctypes.string_at(0)  # what native code does that does not check: it crashes
        ctypes.memset(ctypes.c_void_p(address), 1, 1 << 22)


def _spin() -> str:
    while True:
        pass


def _sleep(seconds: str = "3600") -> str:
    end = time.monotonic() + float(seconds)
    while (left := end - time.monotonic()) > 0:
        time.sleep(left)
    return "slept"


def _wait() -> str:
    """A task whose end the test chooses: SIGCONT."""
    told: list[int] = []
    signal.signal(signal.SIGCONT, lambda number, _: told.append(number))
    while not told:
        time.sleep(0.05)
    return "told to go on"


def _flood() -> str:
    while True:
        child.write_all(child.CHANNEL, b"x" * 65536)


def _promise_much() -> str:
    child.write_all(child.CHANNEL, b"UJT1" + bytes([Kind.RESULT]) + (1 << 31).to_bytes(4, "big"))
    return _sleep()


def _print() -> str:
    os.write(1, b'{"level":"error","message":"forged"}\n')
    os.write(2, b'{"level":"error","message":"forged"}\n')
    return "printed"


def _thread() -> object:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    return thread


def _connect(where: str) -> object:
    host, port = where.split(":")
    return socket.create_connection((host, int(port)), timeout=1)


def _signal_all() -> str:
    done = [pid for pid in range(1, 400_000) if pid != os.getpid() and _can_signal(pid)]
    return ",".join(map(str, done)) or "denied"


def _can_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _syscall(number: str, *arguments: str) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(int(number)), *(ctypes.c_long(int(item)) for item in arguments))
    return "denied" if result < 0 else "done"


def _descriptors() -> str:
    """Which descriptors are open: those from 3 on must be the channel alone."""
    found = []
    for number in range(64):
        try:
            os.lseek(number, 0, os.SEEK_CUR)
        except OSError as error:
            if error.errno == 9:  # EBADF; a socket gives ESPIPE
                continue
        found.append(number)
    return ",".join(map(str, found))


def _remember(text: str) -> str:
    seen = ",".join(_left_behind)
    _left_behind.append(text)
    return seen or "nothing"


def _state() -> str:
    limits = {
        name: resource.getrlimit(getattr(resource, name))
        for name in ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_CPU")
    }
    return orjson.dumps({"environment": dict(os.environ), "limits": limits, "own session": os.getppid() != 1}).decode()


class _Finder(MetaPathFinder):
    """Notes what somebody wants to import; finds nothing."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """See MetaPathFinder."""
        self.wanted.add(fullname)


_VALUES = ('"aBc dé 1"', "-1.5", '[{"k": 2}, {"k": 1}]', "missing")
_ARGUMENTS = ("", '("k", 2)')
_TEXTS = (
    '{{ r/(a+)b/gi.test("xaab") }}',
    '{{ "a1b2" | replace(r/[0-9]/g, "-") }}',
    '{{ "ÀÉ".toLowerCase() }}{{ "a,b".split(",") | join("|") }}{{ "x".padStart(3, "-") }}{{ "ß".normalize("NFKD") }}',
    '{{ [1, 2].concat([3]).reverse() | join }}{{ "b".localeCompare("a") }}{{ (12.345).toFixed(1) }}',
    "{% macro m(a, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{% call m(2) %}x{% endcall %}",
    '{% set x %}{{ range(3) | join }}{% endset %}{{ x }}{{ cycler("a", "b").next() }}{{ joiner().call }}',
    '{{ now() }}{{ timestamp() }}{{ "2024-01-01" | date("YYYY") }}',
    "{% raw %}{{{% endraw %}{% for a, b in {x: 1} %}{{ loop.index }}{{ a }}{% else %}-{% endfor %}",
    "{{ 1 / 0 }}{{ 0.1 + 0.2 }}{{ 1e21 }}{{ 2 ** 100 }}{{ 7 // 2 }}",
)


def _sweep() -> str:
    """Everything the engine has, with all kinds of values: what would be imported by it."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    done = 0
    for environment in (
        unjucks_engine.Environment({"t": ""}),
        unjucks_engine.Environment({"t": ""}, seed=1, now=now, filters_profile="v4"),
    ):
        calls = [f"{{{{ {v} | {f}{a} }}}}" for f in environment.filters for v in _VALUES for a in _ARGUMENTS]
        tests = [f"{{{{ {v} is {t}{a} }}}}" for t in environment.tests for v in _VALUES[:2] for a in _ARGUMENTS]
        for text in (*calls, *tests, *_TEXTS):
            done += 1
            try:
                environment.render_string(text, {"secret": "s"})
            except unjucks_engine.TemplateError as error:
                if "internal error" in str(error):
                    finder.wanted.add(f"{text}: {error}")
    return orjson.dumps({"done": done, "wanted": sorted(finder.wanted)[:50]}).decode()


ACTIONS: dict[str, Callable[..., str]] = {
    "sweep": _sweep,
    "grow": _grow,
    "grow natively": _grow_natively,
    "spin": _spin,
    "sleep": _sleep,
    "wait": _wait,
    "flood": _flood,
    "promise": _promise_much,
    "print": _print,
    "descriptors": _descriptors,
    "remember": _remember,
    "state": _state,
    "syscall": _syscall,
    "signal all": _signal_all,
    "garbage": lambda: "%%%",
    "exit": lambda: os._exit(3),
    "die": lambda: ctypes.string_at(0).decode(),
    "stop": lambda: attempt(lambda: os.kill(os.getpid(), signal.SIGSTOP)),
    "fork": lambda: attempt(os.fork),
    "thread": lambda: attempt(_thread),
    "spawn": lambda: attempt(lambda: os.posix_spawn("/bin/true", ["true"], {})),
    "exec": lambda: attempt(lambda: os.execv("/bin/true", ["true"])),
    "read": lambda path: attempt(lambda: os.open(path, os.O_RDONLY)),
    "stat": lambda path: attempt(lambda: os.stat(path)),
    "write": lambda path: attempt(lambda: os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)),
    "unlink": lambda path: attempt(lambda: os.unlink(path)),
    "symlink": lambda path: attempt(lambda: os.symlink("/etc/passwd", path)),
    "mkdir": lambda path: attempt(lambda: os.mkdir(path)),
    "chdir": lambda path: attempt(lambda: os.chdir(path)),
    "connect": lambda where: attempt(lambda: _connect(where)),
    "resolve": lambda host: attempt(lambda: socket.getaddrinfo(host, 80)),
    "kill": lambda pid: attempt(lambda: os.kill(int(pid), signal.SIGKILL)),
    "unlimit": lambda: attempt(lambda: resource.setrlimit(resource.RLIMIT_CPU, (10_000, 10_000))),
}


def act(text: str) -> str:
    """Do ``name`` or ``name argument argument``."""
    for name in sorted(ACTIONS, key=len, reverse=True):
        if text == name or text.startswith(name + " "):
            return ACTIONS[name](*text[len(name) :].split())
    raise ValueError(f"no such action: {text}")


def handle(header: TaskHeader, tree: bytes, request: bytes, loaded: Loaded | None) -> bytes:
    """The task of a child of a hostile pool or renderer."""
    if header.kind is Kind.LOAD:
        return act(request.decode()).encode()
    if header.kind is not Kind.RENDER:
        return child.perform(header, tree, request, loaded)
    task = orjson.loads(request)
    if "do" not in task["variables"]:
        return child.perform(header, tree, request, loaded)
    said = act(task["variables"]["do"])
    if said == "%%%":
        return b"%%%"
    answer = RenderResponse(
        files=[], messages=[said], engine_version="hostile", cpu_seconds=0, wall_seconds=0, max_rss_bytes=0
    )
    return answer.model_dump_json().encode()


def main() -> None:
    """A renderer whose children do what they are told."""
    from unjucks_runtime.renderer import __main__ as renderer
    from unjucks_runtime.renderer.workers import WorkerPool

    setattr(renderer, "WorkerPool", functools.partial(WorkerPool, program=PROGRAM))  # noqa: B010  not exported
    renderer.main()


if __name__ == "__main__":
    main()
