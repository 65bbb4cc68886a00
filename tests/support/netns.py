"""A stand-in for the internet: a network namespace with an address of 198.51.100.0/24 (reserved for documentation) and an HTTP
server in it, reachable from pods through the node like any address outside. No packet leaves the machine. It has three addresses,
so that one can be allowed and its neighbour not, and answers datagrams at port 53 as a name server of somebody else's would.

``Internet.start(node_pid)`` attaches it to the network of the process with that pid: the node's first process, or our own.
Everything ends with ``stop()``, and also when the test process is killed: the server ends when its standard input closes,
and with it go its namespace and the link. Takes root. This file is also the server's program, so it imports only the
standard library.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any

GATEWAY = "198.51.100.1"
ADDRESS = "198.51.100.10"
NEIGHBOUR = "198.51.100.11"
DISTANT = "198.51.100.200"
ADDRESSES = (ADDRESS, NEIGHBOUR, DISTANT)
DATAGRAM_PORT = 53
_PREFIX = 24
_DEVICE = "inet0"


class Internet:
    """A running stand-in; ``requests()`` lists what reached it."""

    def __init__(self, process: "subprocess.Popen[str]", node_pid: int, ports: tuple[int, ...], log: Path) -> None:
        self._process, self._node_pid, self._log = process, node_pid, log
        self.address = ADDRESS
        self.ports = ports

    @classmethod
    def start(cls, node_pid: int, log: Path, *, ports: tuple[int, ...] = (80, 443)) -> "Internet":
        """Start it and return when the server listens; ``log`` is a file for what it receives."""
        with log.open("w") as output:
            process = subprocess.Popen(
                ["unshare", "--net", "--", sys.executable, "-P", __file__, *(str(port) for port in ports)],
                stdin=subprocess.PIPE,
                stdout=output,
                text=True,
                env={"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
            )
        internet = cls(process, node_pid, ports, log)
        try:
            internet._connect()
        except BaseException:
            internet.stop()
            raise
        return internet

    def _connect(self) -> None:
        self._wait(lambda: "waiting" in self._events(), "its process")
        node = ["nsenter", f"--net=/proc/{self._node_pid}/ns/net", "--"]
        pid = str(self._process.pid)
        _run(*node, "ip", "link", "add", _DEVICE, "type", "veth", "peer", "name", "eth0", "netns", pid)
        _run(*node, "ip", "address", "add", f"{GATEWAY}/{_PREFIX}", "dev", _DEVICE)
        _run(*node, "ip", "link", "set", _DEVICE, "up")
        inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
        _run(*inside, "ip", "link", "set", "lo", "up")
        for address in ADDRESSES:
            _run(*inside, "ip", "address", "add", f"{address}/{_PREFIX}", "dev", "eth0")
        _run(*inside, "ip", "link", "set", "eth0", "up")
        _run(*inside, "ip", "route", "add", "default", "via", GATEWAY)
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self._wait(lambda: "listening" in self._events(), "its server")

    def _wait(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            if self._process.poll() is not None:
                raise RuntimeError(f"the stand-in for the internet ended with {self._process.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the stand-in for the internet: {what} did not start")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Its process, whose network namespace it is."""
        return self._process.pid

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}")]

    def _events(self) -> set[str]:
        return {str(line["event"]) for line in self._lines()}

    def requests(self) -> list[dict[str, Any]]:
        """What reached it: ``{"event": "request" | "connection" | "datagram", "from": address, "port": number, "path": …}``."""
        return [line for line in self._lines() if line["event"] in ("request", "connection", "datagram")]

    def stop(self) -> None:
        """End it; the link disappears with its namespace."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        node = ["nsenter", f"--net=/proc/{self._node_pid}/ns/net", "--"]
        if Path(f"/proc/{self._node_pid}").exists():  # the kernel removes it too, a moment later
            subprocess.run([*node, "ip", "link", "delete", _DEVICE], capture_output=True, check=False)


@contextlib.contextmanager
def internet(node_pid: int, log: Path, *, ports: tuple[int, ...] = (80, 443)) -> Iterator[Internet]:
    """A stand-in for the internet that ends with the block."""
    running = Internet.start(node_pid, log, ports=ports)
    try:
        yield running
    finally:
        running.stop()


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {result.stderr.strip()}")


# --- the server, inside its namespace -----------------------------------------------------------------------------------
def _say(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind only: the base class also asks the DNS for our name, and here nobody answers."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, int(self.socket.getsockname()[1])


class _Handler(BaseHTTPRequestHandler):
    def _source(self) -> dict[str, Any]:
        return {"from": self.client_address[0], "port": self.connection.getsockname()[1]}

    def setup(self) -> None:
        super().setup()
        _say("connection", **self._source())

    def _answer(self) -> None:
        _say("request", method=self.command, path=self.path, **self._source())
        body = json.dumps({"hello": "from the outside"} | self._source()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Requests are reported as JSON instead."""


def _echo(server: socket.socket) -> None:
    while True:
        message, source = server.recvfrom(512)
        _say("datagram", **{"from": source[0], "port": DATAGRAM_PORT})
        server.sendto(message, source)


def _serve(ports: list[int]) -> None:
    _say("waiting")
    if sys.stdin.readline().strip() != "go":
        return
    for address in ADDRESSES:
        for port in ports:
            server = _Server((address, port), _Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((address, DATAGRAM_PORT))
        threading.Thread(target=_echo, args=(datagrams,), daemon=True).start()
    _say("listening")
    sys.stdin.read()  # until the test process closes it, or dies


if __name__ == "__main__":
    _serve([int(port) for port in sys.argv[1:]])
