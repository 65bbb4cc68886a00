"""The two small programs of a network probe: one listens, the other tries to connect. Nothing but the standard library.

    python3 -m unjucks_runtime.network_probe serve PORT...
    python3 -m unjucks_runtime.network_probe try HOST ALLOWED INGRESS EGRESS --patience 30 --settle 20 [--report FILE]

The policies around them, made by the operator, let the first port through and forbid the others: ``INGRESS`` on the server's side,
``EGRESS`` on the client's. All ports are served by one process that listens on all of them before it answers on any, so the
allowed connection is the proof that the others would work too. Holds no credential, reads nothing, and says only what got through.
"""

import argparse
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

REPORT = Path("/dev/termination-log")
TRY_SECONDS = 2.0
PAUSE_SECONDS = 0.5
Connect = Callable[[str, int], bool]


def serve(ports: Sequence[int]) -> list[socket.socket]:
    """Listen on all ports; connections are accepted and closed by threads that end with the process."""
    listening = [_listen(port) for port in ports]
    for server in listening:
        threading.Thread(target=_answer, args=(server,), daemon=True).start()
    return listening


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError:
            pass  # built in, and switched off on this node
    return socket.create_server(("", port))


def _answer(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.close()


def connects(host: str, port: int) -> bool:
    """Whether a connection comes about."""
    try:
        socket.create_connection((host, port), TRY_SECONDS).close()
    except OSError:
        return False
    return True


def attempt(
    host: str,
    allowed: int,
    forbidden: dict[str, int],
    *,
    patience: float,
    settle: float,
    connect: Connect = connects,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, object]:
    """What got through: ``allowed`` and each of ``forbidden``; ``window``: seconds from the first contact until all was closed.

    Waits ``patience`` seconds for the allowed connection and ``settle`` seconds for the forbidden ones to close: a network plugin
    hears of a pod when it runs already. What is found closed is tried once more at the end, with the allowed one beside it.
    """
    started = now()
    while not connect(host, allowed):
        if now() - started > patience:
            return {"allowed": False, **dict.fromkeys(forbidden, False)}
        sleep(PAUSE_SECONDS)
    begun = now()
    while True:
        open_ports = {name: connect(host, port) for name, port in forbidden.items()}
        window = now() - begun
        if not any(open_ports.values()):
            sleep(PAUSE_SECONDS)
            still = {name: connect(host, port) for name, port in forbidden.items()}
            if not any(still.values()) or window > settle:
                return {"allowed": connect(host, allowed), **still, "window": round(window, 1)}
        elif window > settle:
            return {"allowed": True, **open_ports, "window": round(window, 1)}
        sleep(PAUSE_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit code 0 when it did its work, whatever the result is."""
    parser = argparse.ArgumentParser(prog="network_probe", description="Tries whether NetworkPolicies are enforced.")
    actions = parser.add_subparsers(dest="action", required=True)
    serving = actions.add_parser("serve", help="listen until told to stop")
    serving.add_argument("ports", type=int, nargs="+")
    trying = actions.add_parser("try", help="try to connect, report, and end")
    trying.add_argument("host")
    for name in ("allowed", "ingress", "egress"):
        trying.add_argument(name, type=int)
    trying.add_argument("--patience", type=float, default=30.0)
    trying.add_argument("--settle", type=float, default=20.0)
    trying.add_argument("--report", type=Path, default=REPORT)
    options = parser.parse_args(arguments)
    if options.action == "serve":
        serve(options.ports)
        print(json.dumps({"listening": options.ports}), flush=True)
        threading.Event().wait()
        return 0
    forbidden = {"ingress": options.ingress, "egress": options.egress}
    found = attempt(options.host, options.allowed, forbidden, patience=options.patience, settle=options.settle)
    text = json.dumps(found)
    print(text, flush=True)
    options.report.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
