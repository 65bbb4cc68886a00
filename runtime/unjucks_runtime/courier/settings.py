"""The courier's settings: command-line flags, each with an environment variable, checked once at the start. Pure.

Called by ``__main__``; nothing else reads the environment.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unjucks_api import names

_PREFIX = "UNJUCKS_COURIER_"
_MIB = 1024 * 1024
_RESERVE = 96 * _MIB


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Sizes in bytes, times in seconds."""

    certificates: Path = Path("/certificates")
    tenant_uid: str = ""
    listen: str = "0.0.0.0"  # noqa: S104  a pod listens for its kubelet and its operator; the NetworkPolicy decides who
    port: int = names.COURIER_PORT
    health_listen: str = ""
    health_port: int = 8080
    max_tasks: int = 2
    task_memory: int = 512 * _MIB
    grace: float = 20.0
    reload_interval: float = 10.0
    log_level: str = "info"


def parser() -> argparse.ArgumentParser:
    """The command line. Every flag can be given as ``UNJUCKS_COURIER_<FLAG>`` too."""
    result = argparse.ArgumentParser(
        prog="unjucks-courier",
        description="Fetches a tenant's sources and publishes its outputs: HTTPS with certificates on both sides, each task in a "
        "process of its own.",
        epilog="Every flag has an environment variable: --max-tasks is UNJUCKS_COURIER_MAX_TASKS. The flag wins.",
    )
    add = result.add_argument
    add("--certificates", metavar="DIR", type=Path, help="folder with tls.crt, tls.key and ca.crt (/certificates)")
    add("--tenant-uid", metavar="UID", help="UID of the tenant; certificates of another one are refused (any is taken)")
    add("--listen", metavar="ADDRESS", help="address for HTTPS (0.0.0.0)")
    add("--port", type=int, help=f"port for HTTPS ({names.COURIER_PORT})")
    add("--health-listen", metavar="ADDRESS", help="address for /healthz and /readyz, plain HTTP (as --listen)")
    add("--health-port", type=int, help="port for /healthz and /readyz; 0 for none (8080)")
    add("--max-tasks", type=int, metavar="N", help="tasks at the same time; more are refused as retryable (2)")
    add("--task-memory", type=int, metavar="BYTES", help="most memory of one task (536870912)")
    add("--grace", type=float, metavar="SECONDS", help="time for running tasks after SIGTERM (20)")
    add("--reload-interval", type=float, metavar="SECONDS", help="how often the certificates are looked at (10)")
    add("--log-level", choices=["debug", "info", "warning", "error"], help="least severe level that is logged (info)")
    return result


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags and environment. Exits with 2 and one clear line when a value cannot be."""
    environment = os.environ if environment is None else environment
    command = parser()
    given = vars(command.parse_args(arguments))
    for action in command._actions:  # argparse has no public list of its options
        name = _PREFIX + action.dest.upper()
        if action.dest != "help" and given.get(action.dest) is None and name in environment:
            convert = action.type if callable(action.type) else str
            try:
                given[action.dest] = convert(environment[name])
            except ValueError:
                command.error(f"{name}: {environment[name]!r} is not a {getattr(convert, '__name__', 'value')}")
    settings = Settings(**{key: value for key, value in given.items() if value is not None})
    for flag, port in (("--port", settings.port), ("--health-port", settings.health_port)):
        if not 0 <= port <= 65535:
            command.error(f"{flag}: {port} is no port")
    if not 1 <= settings.max_tasks <= 64:
        command.error("--max-tasks: has to be between 1 and 64")
    if settings.task_memory < 64 * _MIB or settings.grace < 0 or settings.reload_interval <= 0:
        command.error("--task-memory has to be at least 64 MiB, --grace at least 0, --reload-interval more than 0")
    return settings
