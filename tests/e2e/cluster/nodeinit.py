"""The first process (pid 1) of the node: lives in namespaces of its own, prepares them, then keeps the node's programs running.

Started by ``sandbox`` through ``unshare``; reads a JSON description (see ``sandbox.Description``). When it ends, however it
ends, the kernel ends every process of the node and with the namespaces go mounts, network devices, iptables chains and
ipsets. So this is also the whole clean-up. Uses only the standard library and imports nothing of ours.
"""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

READY_WITHIN = 120.0
RESTART_AFTER = 1.0  # seconds, like a service manager with Restart=always


def say(text: str) -> None:
    """One line for the node's log."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def prepare_mounts(description: dict[str, Any]) -> None:
    """Give the node file trees of its own where programs expect fixed places; the host's stay untouched."""
    run("mount", "--make-rprivate", "/")
    for source, target in description["binds"]:
        Path(source).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", source, target)
    for target in description["tmpfs"]:
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", target)
    for folder in description["folders"]:
        Path(folder).mkdir(parents=True, exist_ok=True)
    # These settings belong to the whole machine. The kubelet insists on its values, so it is shown files that have them.
    shown = Path(description["state"]) / "sysctl"
    shown.mkdir(exist_ok=True)
    for path, value in description["sysctls"].items():
        if Path(path).exists():
            file = shown / path.strip("/").replace("/", ".")
            file.write_text(f"{value}\n")
            run("mount", "--bind", str(file), path)
    # Containers with mount propagation need a shared tree; sharing ends at this namespace.
    run("mount", "--make-rshared", "/")


def prepare_network(description: dict[str, Any]) -> None:
    """Addresses of the node: the other end of the link is the host's."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", description["address"], "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", description["gateway"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    socket.sethostname(description["hostname"])


class Program:
    """One program that is kept running."""

    def __init__(self, description: dict[str, Any], logs: Path) -> None:
        self.name: str = description["name"]
        self.command: list[str] = description["command"]
        self.environment: dict[str, str] = description.get("environment", {})
        self.ready: dict[str, str] = description.get("ready", {})
        self.log = logs / f"{self.name}.log"
        self.pid = 0
        self.restart_at = 0.0

    def start(self) -> None:
        """Start it; output goes to its log."""
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
                cwd="/",
                start_new_session=True,
            )
        self.pid = process.pid
        process.returncode = 0  # reaped by our own loop, so the object must not wait for it
        say(f"{self.name} started")

    def is_ready(self) -> bool:
        """True when its socket or its health page answers, or when nothing is said about readiness."""
        if path := self.ready.get("socket"):
            with socket.socket(socket.AF_UNIX) as client:
                return client.connect_ex(path) == 0
        if url := self.ready.get("url"):
            context = ssl.create_default_context(cafile=self.ready["ca"]) if "ca" in self.ready else None
            if context is not None and "certificate" in self.ready:
                context.load_cert_chain(self.ready["certificate"], self.ready["key"])
            try:
                with urllib.request.urlopen(url, timeout=2, context=context) as answer:
                    return int(answer.status) == 200
            except (OSError, urllib.error.URLError):
                return False
        return True


class Keeper:
    """Starts the programs in order, each when those before it are ready, restarts what ends, and reaps every orphan."""

    def __init__(self, programs: list[Program]) -> None:
        self.programs = programs
        self.waiting = list(programs)
        self.current: Program | None = None
        self.deadline = 0.0
        self.last = False

    def reap(self) -> None:
        """Collect ended processes: our programs (to be restarted) and the orphans of containers."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for program in self.programs:
                if program.pid == pid:
                    say(f"{program.name} ended with {os.waitstatus_to_exitcode(status)}")
                    program.pid, program.restart_at = 0, time.monotonic() + RESTART_AFTER

    def advance(self) -> None:
        """Start the next program when the current one is ready."""
        if self.current is not None:
            if not self.current.is_ready():
                if time.monotonic() > self.deadline:
                    say(f"{self.current.name} is not ready after {READY_WITHIN:.0f} s; still waiting")
                    self.deadline = time.monotonic() + READY_WITHIN
                return
            say(f"{self.current.name} ready")
        self.current = self.waiting.pop(0) if self.waiting else None
        if self.current is not None:
            self.current.start()
            self.deadline = time.monotonic() + READY_WITHIN
        elif not self.last:
            self.last = True
            say("all programs started")

    def loop(self) -> None:
        """Until the end of the world."""
        while True:
            self.reap()
            for program in self.programs:
                if program.restart_at and program.restart_at <= time.monotonic():
                    program.restart_at = 0.0
                    program.start()
            if self.current is not None or self.waiting:
                self.advance()
                time.sleep(0.05)
            else:
                time.sleep(0.5)


def main() -> None:
    """Wait for the host's word that the link exists, prepare, keep running."""
    description = json.loads(Path(sys.argv[1]).read_text())
    if sys.stdin.readline().strip() != "go":
        sys.exit("the process that starts the node ended before the node was ready to start")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    prepare_mounts(description)
    prepare_network(description)
    logs = Path(description["state"]) / "logs"
    logs.mkdir(exist_ok=True)
    Keeper([Program(one, logs) for one in description["programs"]]).loop()


if __name__ == "__main__":
    main()
