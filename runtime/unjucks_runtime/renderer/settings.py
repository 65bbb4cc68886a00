"""The renderer's settings: command-line flags, each with an environment variable, checked once at the start. Pure.

Called by ``__main__`` (and by tests); nothing else reads the environment.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from unjucks_api import names

_PREFIX = "UNJUCKS_RENDERER_"
_T = TypeVar("_T")
_MIB = 1024 * 1024
_RESERVE = 96 * _MIB  # server and zygote, out of the container's memory


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Sizes in bytes, times in seconds."""

    certificates: Path
    tenant_uid: str
    listen: str
    port: int
    health_listen: str
    health_port: int
    max_tasks: int
    task_memory: int
    grace: float
    once: bool
    tree_cache: int
    warm_trees: int
    reload_interval: float
    log_level: str


def _container_memory() -> int:
    """The container's memory limit, or 0 where there is none."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return 0 if text == "max" else int(text)
    except (OSError, ValueError):
        return 0


def default_task_memory(container: int, max_tasks: int) -> int:
    """The most memory that one task may have so that ``max_tasks`` of them fit into the container; 1 GiB without a limit."""
    if container <= 0:
        return 1024 * _MIB
    return max(32 * _MIB, (container - _RESERVE) // max_tasks)


def parser() -> argparse.ArgumentParser:
    """The command line. Every flag can be given as ``UNJUCKS_RENDERER_<FLAG>`` too."""
    result = argparse.ArgumentParser(
        prog="unjucks-renderer",
        description="Renders template sets for the operator: HTTPS with certificates on both sides, each task in a confined child.",
        epilog="Every flag has an environment variable: --max-tasks is UNJUCKS_RENDERER_MAX_TASKS. The flag wins.",
    )
    add = result.add_argument
    add(
        "--certificates",
        metavar="DIR",
        help="folder with tls.crt, tls.key and ca.crt; read again when they change (/certificates)",
    )
    add("--tenant-uid", metavar="UID", help="UID of the tenant; certificates of another one are refused (any is taken)")
    add("--listen", metavar="ADDRESS", help="address for HTTPS (0.0.0.0)")
    add("--port", type=int, help=f"port for HTTPS ({names.RENDERER_PORT})")
    add("--health-listen", metavar="ADDRESS", help="address for /healthz and /readyz, plain HTTP (as --listen)")
    add("--health-port", type=int, help="port for /healthz and /readyz; 0 for none (8080)")
    add("--max-tasks", type=int, metavar="N", help="tasks at the same time; more are refused as retryable (2)")
    add("--task-memory", type=int, metavar="BYTES", help="most memory of one task (a share of the container's limit)")
    add("--grace", type=float, metavar="SECONDS", help="time for running tasks after SIGTERM (20)")
    add("--once", action="store_true", default=None, help="serve exactly one render task, then exit with 0")
    add("--tree-cache", type=int, metavar="BYTES", help="template trees kept in memory (16777216)")
    add("--warm-trees", type=int, metavar="N", help="template sets kept parsed, each in a process of its own (4)")
    add("--reload-interval", type=float, metavar="SECONDS", help="how often the certificates are looked at (10)")
    add("--log-level", choices=["debug", "info", "warning", "error"], help="least severe level that is logged (info)")
    return result


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags and environment. Exits with 2 and one clear line when a value cannot be."""
    environment = os.environ if environment is None else environment
    command = parser()
    given = command.parse_args(arguments)
    for action in command._actions:  # argparse has no public list of its options
        name = _PREFIX + action.dest.upper()
        if action.dest != "help" and getattr(given, action.dest) is None and name in environment:
            setattr(given, action.dest, _from_environment(command, action, name, environment[name]))

    def value(name: str, default: _T) -> _T:
        found: _T | None = getattr(given, name)
        return default if found is None else found

    max_tasks = 1 if value("once", False) else value("max_tasks", 2)
    if not 1 <= max_tasks <= 256:
        command.error("--max-tasks: has to be between 1 and 256")
    listen = value("listen", "0.0.0.0")  # noqa: S104  a pod listens for its kubelet and its operator; the NetworkPolicy decides who
    settings = Settings(
        certificates=Path(value("certificates", "/certificates")),
        tenant_uid=value("tenant_uid", ""),
        listen=listen,
        port=value("port", names.RENDERER_PORT),
        health_listen=value("health_listen", listen),
        health_port=value("health_port", 8080),
        max_tasks=max_tasks,
        task_memory=value("task_memory", default_task_memory(_container_memory(), max_tasks)),
        grace=value("grace", 20.0),
        once=value("once", False),
        tree_cache=value("tree_cache", 16 * _MIB),
        warm_trees=value("warm_trees", 4),
        reload_interval=value("reload_interval", 10.0),
        log_level=value("log_level", "info"),
    )
    for name in ("port", "health_port"):
        if not 0 <= getattr(settings, name) <= 65535:
            command.error(f"--{name.replace('_', '-')}: {getattr(settings, name)} is no port")
    for name, least in (("task_memory", 32 * _MIB), ("grace", 0), ("tree_cache", 0), ("warm_trees", 0)):
        if getattr(settings, name) < least:
            command.error(f"--{name.replace('_', '-')}: has to be at least {least}")
    if settings.reload_interval <= 0:
        command.error("--reload-interval: has to be more than 0")
    return settings


def _from_environment(command: argparse.ArgumentParser, action: argparse.Action, name: str, text: str) -> object:
    if action.dest == "once":
        if text.lower() not in ("true", "false", "1", "0"):
            command.error(f"{name}: {text!r} is neither true nor false")
        return text.lower() in ("true", "1")
    if action.choices is not None and text not in action.choices:
        command.error(f"{name}: {text!r} is none of {', '.join(action.choices)}")
    convert = action.type if callable(action.type) else str
    try:
        return convert(text)
    except ValueError:
        command.error(f"{name}: {text!r} is not a {getattr(convert, '__name__', 'value')}")
