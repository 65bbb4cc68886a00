"""The command line: ``serve`` for the pod, and what a platform administrator does with approvers.

    unjucks-webhooks serve                           answer the API server
    unjucks-webhooks enroll --user ada@acme.example  a second factor for a user: QR code, address, recovery codes, shown once
    unjucks-webhooks list | check | recovery | unlock | revoke

Who can read and write the Secret ``unjucks-approvals`` can make approvers: the right is Kubernetes', not this program's.
Called by ``__main__``. Must not: print a secret to anything but standard output, or put one on a command line.
"""

import argparse
import asyncio
import getpass
import io
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unjucks_api import names
from unjucks_runtime.renderer import logs
from unjucks_runtime.renderer.tls import CertificatesError
from unjucks_webhooks.approvers import Approver, NotAnApproverError, check_user
from unjucks_webhooks.kube import CredentialsError, Kube, KubeError, find
from unjucks_webhooks.store import ApprovalStore, StoreError

log = logging.getLogger("unjucks_webhooks")


class Exit(IntEnum):
    """What the exit code means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    REFUSED = 4
    UNREACHABLE = 5


EXIT_CODES = (
    (Exit.OK, "done, or stopped as asked"),
    (Exit.FAILED, "an unexpected error"),
    (Exit.USAGE, "the command line is wrong"),
    (Exit.CONFIG, "certificates, an address or credentials cannot be used"),
    (Exit.REFUSED, "not done: enrolled already, not enrolled, wrong code, no such name"),
    (Exit.UNREACHABLE, "the API server gave no answer, or said no"),
)
_TEXTS: dict[str, str] = {
    "serve": "answer the API server until SIGTERM",
    "enroll": "give a user a second factor: QR code, address and recovery codes are shown once and kept nowhere else",
    "check": "try a code as the user would, to see that the device works; the code is used up",
    "recovery": "give a user ten new recovery codes; the old ones count no longer",
    "unlock": "forget a user's wrong codes",
    "revoke": "take a user's second factor away",
    "list": "show who is enrolled; no secret is shown",
}


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    environment = os.environ if environment is None else environment
    options = _parser(environment).parse_args(arguments)
    try:
        if options.command == "serve":
            return _serve(options, environment)
        return asyncio.run(_administer(options, environment))
    except (NotAnApproverError, StoreError) as error:
        return _fail(error, Exit.REFUSED)
    except (CredentialsError, CertificatesError) as error:
        return _fail(error, Exit.CONFIG)
    except KubeError as error:
        return _fail(error, Exit.UNREACHABLE)


def _fail(error: Exception, code: Exit) -> int:
    print(f"unjucks-webhooks: {error}", file=sys.stderr)
    return code


def _serve(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from unjucks_webhooks.server import Settings, serve  # here: the other commands need no server

    logs.configure(options.log_level)
    settings = Settings(
        certificates=options.certificates,
        namespace=options.namespace,
        listen=options.listen,
        port=options.port,
        health_listen=options.health_listen or options.listen,
        health_port=options.health_port,
        reload_interval=options.reload_interval,
        drain=options.drain,
        version=version("unjucks-operator"),
    )
    try:
        asyncio.run(serve(settings, find(options.kubeconfig, environment)))
    except (CertificatesError, CredentialsError, OSError) as error:
        log.error("cannot start: %s", error)
        return Exit.CONFIG
    return Exit.OK


async def _administer(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    commands: dict[str, Callable[[ApprovalStore, argparse.Namespace], Awaitable[tuple[dict[str, Any], str]]]] = {
        "enroll": _enroll,
        "check": _check,
        "recovery": _recovery,
        "unlock": _unlock,
        "revoke": _revoke,
        "list": _list,
    }
    if options.command != "list":
        check_user(options.user)
    async with Kube(find(options.kubeconfig, environment), timeout=15) as kube:
        store = ApprovalStore(kube, options.namespace, time.time)
        document, text = await commands[options.command](store, options)
    print(json.dumps(document, indent=2) if options.output == "json" else text)
    return Exit.OK


async def _enroll(store: ApprovalStore, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    approver, codes = await store.enrol(options.user, replace=options.replace)
    uri = approver.uri()
    text = (
        f"{options.user} can approve from now on. Scan this with an authenticator:\n\n{_picture(uri)}\n{uri}\n\n"
        f"Recovery codes, each good for one approval:\n\n{_columns(codes)}\n\n"
        "None of this can be shown again. Try it: unjucks-webhooks check --user " + options.user
    )
    return {"user": options.user, "uri": uri, "recoveryCodes": list(codes)}, text


async def _check(store: ApprovalStore, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    prompt = sys.stdin.isatty()
    code = getpass.getpass("code: ") if prompt else sys.stdin.readline()
    decision, _ = await store.use(options.user, code.strip(), {"check": True})
    if not decision.verdict.good:
        raise StoreError(decision.message)
    return {"user": options.user, "verdict": decision.verdict.value}, "the code is good, and used up now"


async def _recovery(store: ApprovalStore, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    codes = await store.renew_recovery_codes(options.user)
    text = f"new recovery codes of {options.user}; they cannot be shown again:\n\n{_columns(codes)}"
    return {"user": options.user, "recoveryCodes": list(codes)}, text


async def _unlock(store: ApprovalStore, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    await store.unlock(options.user)
    return {"user": options.user, "unlocked": True}, f"{options.user} may try again"


async def _revoke(store: ApprovalStore, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    await store.revoke(options.user)
    return {"user": options.user, "revoked": True}, f"{options.user} can approve no longer"


async def _list(store: ApprovalStore, _: argparse.Namespace) -> tuple[dict[str, Any], str]:
    rows = [_row(approver) for approver in await store.all()]
    if not rows:
        return {"approvers": []}, "nobody is enrolled"
    heads = ("USER", "ENROLLED", "LAST USED", "RECOVERY CODES", "LOCKED UNTIL")
    table = [heads, *(tuple(str(value or "-") for value in row.values()) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    text = "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
    )
    return {"approvers": rows}, text


def _row(approver: Approver) -> dict[str, Any]:
    until = approver.locked_until()
    locked = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if until > time.time() else ""
    return {
        "user": approver.user,
        "enrolledAt": approver.enrolled_at,
        "lastUsedAt": approver.last_used_at,
        "recoveryCodesLeft": len(approver.recovery),
        "lockedUntil": locked,
    }


def _picture(uri: str) -> str:
    import segno

    out = io.StringIO()
    segno.make(uri, error="m").terminal(out, compact=True)
    return out.getvalue()


def _columns(codes: Sequence[str]) -> str:
    return "\n".join("  " + "    ".join(codes[start : start + 2]) for start in range(0, len(codes), 2))


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code.value}  {text}" for code, text in EXIT_CODES)
    parser = argparse.ArgumentParser(
        prog="unjucks-webhooks",
        description="Checks objects before they are stored, and asks for a second factor before data may go.",
        epilog=f"exit codes:\n{codes}\n\nCredentials: those of the pod, else $KUBECONFIG, else ~/.kube/config.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('unjucks-operator')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _TEXTS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        add = command.add_argument
        add(
            "--namespace",
            default=environment.get("POD_NAMESPACE") or names.PLATFORM_NAMESPACE,
            help="the platform's namespace, with the Secret of the approvers (POD_NAMESPACE, else %(default)s)",
        )
        add("--kubeconfig", default="", metavar="FILE", help="credentials for the API server (see above)")
        if name == "serve":
            _serve_arguments(add)
            continue
        add("--output", choices=("text", "json"), default="text", help="how the answer is printed (%(default)s)")
        if name != "list":
            add("--user", required=True, help="the user's name as `kubectl auth whoami` shows it")
        if name == "enroll":
            add(
                "--replace",
                action="store_true",
                help="also when the user is enrolled: a new secret, the old one is void",
            )
    return parser


def _serve_arguments(add: Callable[..., argparse.Action]) -> None:
    add(
        "--certificates",
        type=Path,
        default=Path("/certificates"),
        metavar="DIR",
        help="folder with tls.crt and tls.key; read again when they change (%(default)s)",
    )
    add("--listen", default="0.0.0.0", metavar="ADDRESS", help="address for HTTPS (%(default)s)")  # noqa: S104  a pod's own address
    add("--port", type=_port, default=9443, help="port for HTTPS (%(default)s)")
    add("--health-listen", default="", metavar="ADDRESS", help="address for probes and metrics (as --listen)")
    add("--health-port", type=_port, default=8080, help="port for probes and metrics (%(default)s)")
    add(
        "--reload-interval",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how often the files are looked at (%(default)s)",
    )
    add(
        "--drain",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="how long to answer on after SIGTERM (%(default)s)",
    )
    add(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="least level logged (%(default)s)",
    )


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is no port")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 86400:
        raise argparse.ArgumentTypeError("more than 0 and less than a day")
    return number
